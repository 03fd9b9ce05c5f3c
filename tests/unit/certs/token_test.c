/* SPDX-License-Identifier: Apache-2.0 */
/* token_test.c: join tokens: round trip, and texts that somebody cut, changed or made up. */
#include "certs/token.h"

#include <check.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define ID     "00112233445566778899aabbccddeeff"
#define SECRET "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define ROOT   "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

static const struct token good = {
    .id = ID,
    .secret = SECRET,
    .root_hash = {1, 2, 3, 0xff},
    .trust_domain = "weft.test",
    .ns = "shop",
    .sa = "orders",
    .not_after = 4102444800,
    .server = "10.0.0.1:4810",
    .cidrs = "10.0.0.0/8,240.0.0.0/4,fd00::/8",
};

/* "weft1." and the JSON in base64url. */
static void wrap(const char *json, char out[TOKEN_TEXT_MAX * 2])
{
	size_t n = strlen(json);
	char b64[TOKEN_TEXT_MAX * 2 - 8];
	ck_assert_uint_lt(n, 3000);
	EVP_EncodeBlock((unsigned char *)b64, (const unsigned char *)json, (int)n);
	for (char *p = b64; *p; p++) {
		*p = (char)(*p == '+' ? '-' : *p == '/' ? '_' : *p);
		if (*p == '=') {
			*p = 0;
			break;
		}
	}
	snprintf(out, TOKEN_TEXT_MAX * 2, "weft1.%.8000s", b64);
}

START_TEST(a_token_survives_the_round_trip)
{
	char text[TOKEN_TEXT_MAX];
	struct token back;
	struct err err;
	ck_assert_msg(token_format(&good, text, &err), "%s", err.text);
	ck_assert_msg(token_parse(str_of(text), &back, &err), "%s", err.text);
	ck_assert_mem_eq(&back, &good, sizeof(good));
}
END_TEST

START_TEST(the_largest_token_fits)
{
	static struct token t;
	char text[TOKEN_TEXT_MAX];
	struct token back;
	struct err err;
	t = good;
	memset(t.trust_domain, 't', 255);
	memset(t.ns, 'n', 63);
	memset(t.sa, 's', 63);
	memset(t.server, '1', 127);
	memset(t.cidrs, '1', 511);
	t.not_after = INT64_MAX;
	ck_assert_msg(token_format(&t, text, &err), "%s", err.text);
	ck_assert(token_parse(str_of(text), &back, &err));
	ck_assert_mem_eq(&back, &t, sizeof(t));
}
END_TEST

START_TEST(every_cut_and_every_changed_character_is_noticed_or_harmless)
{
	char text[TOKEN_TEXT_MAX], bad[TOKEN_TEXT_MAX];
	struct token back;
	struct err err;
	ck_assert(token_format(&good, text, NULL));
	size_t len = strlen(text);
	for (size_t i = 0; i < len; i++)
		ck_assert_msg(!token_parse(str_make(text, i), &back, &err), "cut at %zu accepted", i);
	for (size_t i = 0; i < len; i++) {
		memcpy(bad, text, len + 1);
		bad[i] = '=';
		ck_assert(!token_parse(str_make(bad, len), &back, &err));
		bad[i] = 0;
		ck_assert(!token_parse(str_make(bad, len), &back, &err));
		/* A flipped bit may give another valid token (another digit); then it must differ from the original. */
		bad[i] = (char)(text[i] ^ 1);
		if (token_parse(str_make(bad, len), &back, &err))
			ck_assert_mem_ne(&back, &good, sizeof(good));
	}
}
END_TEST

START_TEST(base64_has_one_spelling)
{
	char text[TOKEN_TEXT_MAX], bad[TOKEN_TEXT_MAX + 8];
	struct token back;
	ck_assert(token_format(&good, text, NULL));
	static const char *const tails[] = {"=", "==", "\n", " ", "A", "."};
	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		snprintf(bad, sizeof(bad), "%s%s", text, tails[i]);
		ck_assert_msg(!token_parse(str_of(bad), &back, NULL), "tail \"%s\"", tails[i]);
	}
}
END_TEST

#define REST(id, secret, root, td, ns, sa, at, server, cidrs)                                              \
	"{\"id\":" id ",\"secret\":" secret ",\"root\":" root ",\"trust_domain\":" td ",\"namespace\":" ns \
	",\"service_account\":" sa ",\"not_after\":" at ",\"server\":" server ",\"cidrs\":" cidrs "}"
#define Q(s) "\"" s "\""

static const struct {
	const char *json, *says;
} hostile[] = {
    {"", "damaged"},
    {"{", "damaged"},
    {"[]", "not a JSON object"},
    {"{}", "id is missing"},
    {"{\"id\":1}", "id is missing or not a text"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "1", Q(""), Q("")) "x", "damaged"},
    {"{\"x\":1,"
     "\"id\":\"a\"}",
     "does not know"},
    {"{\"id\":\"a\",\"id\":\"b\"}", "damaged"},
    {REST(Q("ABCDEF33445566778899aabbccddeeff"), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "1", Q(""), Q("")),
     "id is not"},
    {REST(Q(ID "0"), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "1", Q(""), Q("")), "id is longer"},
    {REST(Q(ID), Q("00"), Q(ROOT), Q("td"), Q("n"), Q("s"), "1", Q(""), Q("")), "secret is not 64"},
    {REST(Q(ID), Q(SECRET), Q("00"), Q("td"), Q("n"), Q("s"), "1", Q(""), Q("")), "root is not 64"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("TD"), Q("n"), Q("s"), "1", Q(""), Q("")), "trust_domain"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q(""), Q("n"), Q("s"), "1", Q(""), Q("")), "trust_domain"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n/sa/x"), Q("s"), "1", Q(""), Q("")), "namespace"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s/.."), "1", Q(""), Q("")), "service_account"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s\\u0000"), "1", Q(""), Q("")), "damaged"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "0", Q(""), Q("")), "not_after"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "-5", Q(""), Q("")), "not_after"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "1.5", Q(""), Q("")), "not_after"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "1e400", Q(""), Q("")), "damaged"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "99999999999999999999", Q(""), Q("")), "damaged"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "1", Q("a b"), Q("")), "server"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "1", Q(""), Q("10.0.0.0/8;x")), "cidrs"},
    {REST(Q(ID), Q(SECRET), Q(ROOT), Q("td"), Q("n"), Q("s"), "1", Q(""), "[]"), "cidrs is missing or not a text"},
};

START_TEST(made_up_tokens_are_refused_by_name_without_showing_the_secret)
{
	char text[TOKEN_TEXT_MAX * 2];
	struct token back;
	struct err err = {0};
	wrap(hostile[_i].json, text);
	ck_assert_msg(!token_parse(str_of(text), &back, &err), "accepted: %s", hostile[_i].json);
	ck_assert_msg(strstr(err.text, hostile[_i].says) != NULL, "%s: said \"%s\", expected \"%s\"", hostile[_i].json,
		      err.text, hostile[_i].says);
	ck_assert_ptr_null(strstr(err.text, SECRET));
}
END_TEST

START_TEST(deep_nesting_and_great_length_are_refused)
{
	static char json[3000], text[TOKEN_TEXT_MAX * 2];
	struct token back;
	struct err err;
	memset(json, '[', sizeof(json) - 1);
	wrap(json, text);
	ck_assert(!token_parse(str_of(text), &back, &err));
	memset(text, 'A', sizeof(text));
	memcpy(text, "weft1.", 6);
	ck_assert(!token_parse(str_make(text, TOKEN_TEXT_MAX), &back, &err));
	ck_assert_uint_eq(err.code, ERR_LIMIT);
	ck_assert(!token_parse(STR("weft2.AAAA"), &back, &err));
	ck_assert(!token_parse(STR("WEFT1.AAAA"), &back, &err));
	ck_assert(!token_parse(STR("weft1."), &back, &err));
	ck_assert(!token_parse((struct str){0}, &back, &err));
}
END_TEST

START_TEST(nothing_invalid_is_written)
{
	char text[TOKEN_TEXT_MAX];
	struct err err;
	struct token t = good;
	strcpy(t.ns, "a\"b");
	ck_assert(!token_format(&t, text, &err));
	t = good;
	strcpy(t.secret, "short");
	ck_assert(!token_format(&t, text, &err));
	ck_assert_ptr_null(strstr(err.text, "short"));
	t = good;
	strcpy(t.server, "a\",\"b");
	ck_assert(!token_format(&t, text, &err));
}
END_TEST

Suite *token_suite(void);
Suite *token_suite(void)
{
	Suite *s = suite_create("token");
	TCase *tc = tcase_create("texts");
	tcase_add_test(tc, a_token_survives_the_round_trip);
	tcase_add_test(tc, the_largest_token_fits);
	tcase_add_test(tc, every_cut_and_every_changed_character_is_noticed_or_harmless);
	tcase_add_test(tc, base64_has_one_spelling);
	tcase_add_loop_test(tc, made_up_tokens_are_refused_by_name_without_showing_the_secret, 0,
			    (int)ARRAY_LEN(hostile));
	tcase_add_test(tc, deep_nesting_and_great_length_are_refused);
	tcase_add_test(tc, nothing_invalid_is_written);
	suite_add_tcase(s, tc);
	return s;
}

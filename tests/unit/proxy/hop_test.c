/* SPDX-License-Identifier: Apache-2.0 */
/* What goes over the hop comes out as it went in, and nobody can forge the hop's own fields. */
#include "proxy/hop.h"

#include <check.h>
#include <ctype.h>

static struct arena arena;

static struct message message(bool request)
{
	struct message m;
	arena_init(&arena, 256 * 1024);
	message_init(&m, &arena, request);
	m.version = HTTP_1_1;
	m.status = request ? 0 : 200;
	m.reason = request ? STR("") : STR("OK");
	m.authority = request ? STR("orders") : STR("");
	return m;
}

/* HTTP/2 in between: names in lower case. */
static void lower(struct message *m)
{
	for (size_t i = 0; i < m->fields.len; i++) {
		char *p = arena_alloc(&arena, m->fields.v[i].name.len);
		for (size_t k = 0; k < m->fields.v[i].name.len; k++)
			p[k] = (char)tolower(m->fields.v[i].name.p[k]);
		m->fields.v[i].name.p = p;
	}
}

static void over(struct message *m, bool *unprocessed)
{
	ck_assert(hop_encode(m));
	lower(m);
	m->version = HTTP_2;
	m->close = m->absolute_form = false;
	ck_assert(hop_decode(m, unprocessed));
}

START_TEST(spelling_of_names_survives)
{
	static const char *const names[] = {"User-Agent", "X-MiXeD", "accept", "ETag",  "X-A-1b", "WWW-Authenticate",
					    "x",          "x-dup",   "X-Dup",  "X-DUP", "x-same", "x-same"};
	struct message m = message(true);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ck_assert(message_add(&m, str_of(names[i]), STR("v"), true));
	over(&m, NULL);
	ck_assert_uint_eq(m.fields.len, ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ck_assert_msg(str_is(m.fields.v[i].name, names[i]), "%s became " STR_FMT, names[i],
			      STR_ARG(m.fields.v[i].name));
	arena_done(&arena);
}
END_TEST

START_TEST(a_usual_client_costs_one_short_field)
{
	struct message m = message(true);
	ck_assert(message_add(&m, STR("User-Agent"), STR("curl"), true));
	ck_assert(message_add(&m, STR("Accept"), STR("*/*"), true));
	ck_assert(hop_encode(&m));
	ck_assert_uint_eq(m.fields.len, 3);
	ck_assert(str_is(message_get(&m, "x-weft-case")->value, "t"));
	arena_done(&arena);
}
END_TEST

START_TEST(version_close_target_and_framing_survive)
{
	struct message m = message(true);
	m.version = HTTP_1_0;
	m.close = m.absolute_form = true;
	over(&m, NULL);
	ck_assert_int_eq(m.version, HTTP_1_0);
	ck_assert(m.close && m.absolute_form);
	ck_assert_uint_eq(m.fields.len, 0);
	arena_done(&arena);
	m = message(false);
	m.framing = FRAMING_CLOSE;
	ck_assert(hop_encode(&m));
	m.framing = FRAMING_CHUNKED;
	ck_assert(hop_decode(&m, NULL));
	ck_assert_int_eq(m.framing, FRAMING_CLOSE);
	arena_done(&arena);
}
END_TEST

START_TEST(a_request_without_an_authority_stays_so)
{
	struct message m = message(true);
	m.version = HTTP_1_0;
	m.authority = STR("");
	ck_assert(hop_encode(&m));
	ck_assert_uint_gt(m.authority.len, 0);
	ck_assert(hop_decode(&m, NULL));
	ck_assert_uint_eq(m.authority.len, 0);
	ck_assert(m.version == HTTP_1_0 && !m.absolute_form);
	arena_done(&arena);
}
END_TEST

static const char *const phrases[] = {"Okay-ish", "", " lead and trail ", "100%", "caf\xc3\xa9"};

START_TEST(reason_phrase_survives)
{
	struct message m = message(false);
	m.reason = str_of(phrases[_i]);
	over(&m, NULL);
	ck_assert_msg(str_is(m.reason, phrases[_i]), "\"%s\" became \"" STR_FMT "\"", phrases[_i], STR_ARG(m.reason));
	arena_done(&arena);
}
END_TEST

START_TEST(a_peer_cannot_put_line_ends_into_the_reason_phrase)
{
	struct message m = message(false);
	ck_assert(message_add(&m, STR("x-weft-reason"), STR("a%0D%0Ax:%00y%"), true));
	ck_assert(hop_decode(&m, NULL));
	ck_assert(str_is(m.reason, "ax:y"));
	arena_done(&arena);
}
END_TEST

START_TEST(an_application_cannot_say_the_hops_fields)
{
	struct message m = message(true);
	ck_assert(message_add(&m, STR("X-Weft-Unprocessed"), STR("1"), true));
	ck_assert(message_add(&m, STR("x-weft-error"), STR("a;b;c"), true));
	ck_assert(message_add(&m, STR("Keep"), STR("me"), true));
	hop_strip(&m);
	ck_assert_uint_eq(m.fields.len, 1);
	arena_done(&arena);
}
END_TEST

START_TEST(an_error_reaches_the_application_and_nothing_else_does)
{
	bool unprocessed = false;
	struct message m = message(false);
	ck_assert(hop_add_error(&m, "inbound", REASON_CONNECT_FAIL, ""));
	ck_assert(hop_add_unprocessed(&m));
	over(&m, &unprocessed);
	ck_assert(unprocessed);
	ck_assert_uint_eq(m.fields.len, 1);
	ck_assert(str_is(message_get(&m, "x-weft-error")->value, "inbound;connect_fail;"));
	arena_done(&arena);
}
END_TEST

START_TEST(a_list_of_spellings_that_no_sidecar_sends_is_not_searched)
{
	struct message m = message(true);
	char list[8192];
	memset(list, ',', sizeof(list));
	memcpy(list, "l,X-TEST", 8);
	ck_assert(message_add(&m, STR("x-test"), STR("v"), true));
	ck_assert(message_add(&m, STR("x-weft-case"), str_make(list, sizeof(list)), true));
	ck_assert(hop_decode(&m, NULL));
	ck_assert_uint_eq(m.fields.len, 1);
	ck_assert(str_is(m.fields.v[0].name, "x-test"));
	arena_done(&arena);
}
END_TEST

Suite *hop_suite(void);
Suite *hop_suite(void)
{
	Suite *s = suite_create("hop");
	TCase *t = tcase_create("hop");
	tcase_add_test(t, spelling_of_names_survives);
	tcase_add_test(t, a_usual_client_costs_one_short_field);
	tcase_add_test(t, version_close_target_and_framing_survive);
	tcase_add_test(t, a_request_without_an_authority_stays_so);
	tcase_add_loop_test(t, reason_phrase_survives, 0, (int)ARRAY_LEN(phrases));
	tcase_add_test(t, a_peer_cannot_put_line_ends_into_the_reason_phrase);
	tcase_add_test(t, an_application_cannot_say_the_hops_fields);
	tcase_add_test(t, an_error_reaches_the_application_and_nothing_else_does);
	tcase_add_test(t, a_list_of_spellings_that_no_sidecar_sends_is_not_searched);
	suite_add_tcase(s, t);
	return s;
}

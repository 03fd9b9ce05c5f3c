/* SPDX-License-Identifier: Apache-2.0 */
/* spiffe_test.c: one shape is taken; every other spelling is refused, none is normalised. */
#include "certs/spiffe.h"

#include <check.h>

START_TEST(a_well_formed_id_gives_its_parts)
{
	struct spiffe id, copy;
	struct err err;
	ck_assert_msg(spiffe_parse(STR("spiffe://weft.test/ns/shop/sa/orders.v1"), &id, &err), "%s", err.text);
	ck_assert(str_is(id.trust_domain, "weft.test"));
	ck_assert(str_is(id.ns, "shop"));
	ck_assert(str_is(id.sa, "orders.v1"));
	ck_assert_str_eq(id.id, "spiffe://weft.test/ns/shop/sa/orders.v1");
	spiffe_copy(&copy, &id);
	memset(&id, 0, sizeof(id));
	ck_assert(str_is(copy.ns, "shop"));
	ck_assert(str_is(copy.sa, "orders.v1"));
}
END_TEST

START_TEST(what_is_made_is_what_is_parsed)
{
	struct spiffe made, parsed;
	struct err err;
	ck_assert(spiffe_make(STR("a-b_c.d"), STR("n"), STR("s"), &made, &err));
	ck_assert(spiffe_parse(str_of(made.id), &parsed, &err));
	ck_assert_str_eq(made.id, parsed.id);
	ck_assert(str_eq(made.trust_domain, parsed.trust_domain));
	/* Made of its own parts: the inputs lie within the output. */
	ck_assert(spiffe_make(parsed.trust_domain, parsed.sa, parsed.ns, &parsed, &err));
	ck_assert_str_eq(parsed.id, "spiffe://a-b_c.d/ns/s/sa/n");
}
END_TEST

static const char *const hostile[] = {
    "",
    "spiffe:",
    "spiffe://",
    "spiffe://td",
    "spiffe://td/",
    "spiffe:///ns/a/sa/b",
    "SPIFFE://td/ns/a/sa/b",
    "Spiffe://td/ns/a/sa/b",
    "https://td/ns/a/sa/b",
    "spiffe:/td/ns/a/sa/b",
    "spiffe://TD/ns/a/sa/b",
    "spiffe://tD/ns/a/sa/b",
    "spiffe://td:443/ns/a/sa/b",
    "spiffe://user@td/ns/a/sa/b",
    "spiffe://td/ns/a/sa/b?x=1",
    "spiffe://td/ns/a/sa/b#f",
    "spiffe://td/ns/a/sa/b/",
    "spiffe://td/ns/a/sa/b/c",
    "spiffe://td//ns/a/sa/b",
    "spiffe://td/ns//a/sa/b",
    "spiffe://td/ns/a/sa//b",
    "spiffe://td/ns//sa/b",
    "spiffe://td/ns/a/sa/",
    "spiffe://td/ns/./sa/b",
    "spiffe://td/ns/../sa/b",
    "spiffe://td/ns/a/sa/..",
    "spiffe://td/ns/a/sa/.",
    "spiffe://td/ns/a/sa/b%2fc",
    "spiffe://td/ns/a%00/sa/b",
    "spiffe://t%64/ns/a/sa/b",
    "spiffe://td/NS/a/sa/b",
    "spiffe://td/ns/A/sa/b",
    "spiffe://td/ns/a/sa/B",
    "spiffe://td/sa/b/ns/a",
    "spiffe://td/ns/a",
    "spiffe://td/ns/a_b/sa/c",
    "spiffe://td/ns/-a/sa/b",
    "spiffe://td/ns/a-/sa/b",
    "spiffe://td/ns/a/sa/-b",
    "spiffe://td/ns/a/sa/b..c",
    "spiffe://td/ns/a.b/sa/c",
    "spiffe://t\xc3\xa4/ns/a/sa/b",
    "spiffe://td/ns/\xc3\xa4/sa/b",
    "spiffe://td/ns/a/sa/b\n",
    " spiffe://td/ns/a/sa/b",
    "spiffe://td /ns/a/sa/b",
    "spiffe://[::1]/ns/a/sa/b",
    "spiffe://td\\ns/a/sa/b",
};

START_TEST(every_other_spelling_is_refused)
{
	struct spiffe id = {.id = "untouched"};
	struct err err = {0};
	ck_assert_msg(!spiffe_parse(str_of(hostile[_i]), &id, &err), "accepted: %s", hostile[_i]);
	ck_assert_uint_ne(err.code, ERR_NONE);
	ck_assert_str_eq(id.id, "untouched");
}
END_TEST

START_TEST(a_nul_inside_is_refused)
{
	static const char text[] = "spiffe://td/ns/a/sa/b\0.evil";
	struct spiffe id;
	struct err err;
	ck_assert(!spiffe_parse(str_make(text, sizeof(text) - 1), &id, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "NUL"));
	ck_assert(!spiffe_parse(str_make(text, 22), &id, &err));
	ck_assert(spiffe_parse(str_make(text, 21), &id, &err));
}
END_TEST

START_TEST(limits_are_exact)
{
	struct spiffe id;
	struct err err;
	char td[300], ns[80], sa[300], whole[1024];
	memset(td, 'a', sizeof(td));
	memset(ns, 'n', sizeof(ns));
	memset(sa, 's', sizeof(sa));
	ck_assert(trust_domain_valid(str_make(td, 255)));
	ck_assert(!trust_domain_valid(str_make(td, 256)));
	ck_assert(spiffe_make(STR("td"), str_make(ns, 63), STR("s"), &id, &err));
	ck_assert(!spiffe_make(STR("td"), str_make(ns, 64), STR("s"), &id, &err));
	ck_assert(!spiffe_make(STR("td"), STR("n"), str_make(sa, 64), &id, &err));
	for (size_t i = 63; i < 253; i += 64)
		sa[i] = '.';
	ck_assert(spiffe_make(STR("td"), STR("n"), str_make(sa, 253), &id, &err));
	/* 511 bytes fit, 512 do not: 9 + td + 4 + 63 + 4 + sa */
	ck_assert(!spiffe_make(str_make(td, 255), str_make(ns, 63), str_make(sa, 253), &id, &err));
	ck_assert_uint_eq(err.code, ERR_LIMIT);
	ck_assert(spiffe_make(str_make(td, 255), str_make(ns, 63), str_make(sa, 176), &id, &err));
	ck_assert_uint_eq(strlen(id.id), 511);
	ck_assert(!spiffe_make(str_make(td, 255), str_make(ns, 63), str_make(sa, 177), &id, &err));
	memset(whole, 'x', sizeof(whole));
	ck_assert(!spiffe_parse(str_make(whole, sizeof(whole)), &id, &err));
	ck_assert_uint_eq(err.code, ERR_LIMIT);
}
END_TEST

Suite *spiffe_suite(void);
Suite *spiffe_suite(void)
{
	Suite *s = suite_create("spiffe");
	TCase *tc = tcase_create("ids");
	tcase_add_test(tc, a_well_formed_id_gives_its_parts);
	tcase_add_test(tc, what_is_made_is_what_is_parsed);
	tcase_add_loop_test(tc, every_other_spelling_is_refused, 0, (int)ARRAY_LEN(hostile));
	tcase_add_test(tc, a_nul_inside_is_refused);
	tcase_add_test(tc, limits_are_exact);
	suite_add_tcase(s, tc);
	return s;
}

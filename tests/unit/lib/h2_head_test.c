/* SPDX-License-Identifier: Apache-2.0 */
/* h2_head_test.c: heads and the bodies they announce, in frames written by hand: what is malformed is reset, never reported. */
#include "tests/unit/lib/h2_raw.h"

#define METHOD64 "ABCDEFGHIJKLMNOPABCDEFGHIJKLMNOPABCDEFGHIJKLMNOPABCDEFGHIJKLMNOP" /* as long as HTTP/1 takes them */

/* --- heads --- */

static const struct {
	const char *what;
	const char *kv[24];
} bad_heads[] = {
    {"host is not :authority", {PSEUDO("/"), "host", "b"}},
    {"userinfo", {":method", "GET", ":scheme", "http", ":authority", "u@a", ":path", "/"}},
    {"no authority", {":method", "GET", ":scheme", "http", ":path", "/"}},
    {"empty authority", {":method", "GET", ":scheme", "http", ":authority", "", ":path", "/"}},
    {"list as authority", {":method", "GET", ":scheme", "http", ":authority", "a,b", ":path", "/"}},
    {"slash in the authority", {":method", "GET", ":scheme", "http", ":authority", "a/b", ":path", "/"}},
    {"two hosts", {PSEUDO("/"), "host", "a", "host", "a"}},
    {"path without slash", {PSEUDO("x")}},
    {"empty path", {PSEUDO("")}},
    {"absolute path", {PSEUDO("http://a/")}},
    {"star for GET", {PSEUDO("*")}},
    {"space in the path", {PSEUDO("/ x")}},
    {"fragment", {PSEUDO("/#x")}},
    {"byte beyond ASCII in the path", {PSEUDO("/\x80")}},
    {"DEL in the path", {PSEUDO("/\x7f")}},
    {"other scheme", {":method", "GET", ":scheme", "ftp", ":authority", "a", ":path", "/"}},
    {"no scheme", {":method", "GET", ":authority", "a", ":path", "/"}},
    {"no method", {":scheme", "http", ":authority", "a", ":path", "/"}},
    {"no path", {":method", "GET", ":scheme", "http", ":authority", "a"}},
    {"space in the method", {":method", "GE T", ":scheme", "http", ":authority", "a", ":path", "/"}},
    {"method twice", {":method", "GET", PSEUDO("/")}},
    {"pseudo after regular", {":method", "GET", ":scheme", "http", "x", "y", ":authority", "a", ":path", "/"}},
    {"unknown pseudo", {PSEUDO("/"), ":x", "y"}},
    {"status in a request", {PSEUDO("/"), ":status", "200"}},
    {"connection", {PSEUDO("/"), "connection", "close"}},
    {"keep-alive", {PSEUDO("/"), "keep-alive", "1"}},
    {"proxy-connection", {PSEUDO("/"), "proxy-connection", "close"}},
    {"transfer-encoding", {PSEUDO("/"), "transfer-encoding", "chunked"}},
    {"upgrade", {PSEUDO("/"), "upgrade", "h2c"}},
    {"te gzip", {PSEUDO("/"), "te", "gzip"}},
    {"upper case", {PSEUDO("/"), "X-Up", "y"}},
    {"empty name", {PSEUDO("/"), "", "y"}},
    {"colon in a name", {PSEUDO("/"), "a:b", "y"}},
    {"space in a name", {PSEUDO("/"), "a b", "y"}},
    {"LF in a value", {PSEUDO("/"), "x", "a\nb"}},
    {"CR in a value", {PSEUDO("/"), "x", "a\rb"}},
    {"leading space", {PSEUDO("/"), "x", " a"}},
    {"trailing tab", {PSEUDO("/"), "x", "a\t"}},
    {"bad length", {PSEUDO("/"), "content-length", "1x"}},
    {"signed length", {PSEUDO("/"), "content-length", "+1"}},
    {"two lengths", {PSEUDO("/"), "content-length", "0", "content-length", "0"}},
    {"length without body", {PSEUDO("/"), "content-length", "5"}},
    {"CONNECT with path", {":method", "CONNECT", ":scheme", "http", ":authority", "a", ":path", "/"}},
    {"CONNECT without authority", {":method", "CONNECT"}},
    {"protocol without CONNECT", {PSEUDO("/"), ":protocol", "websocket"}},
    {"longer method", {":method", METHOD64 "Q", ":scheme", "http", ":authority", "a", ":path", "/"}},
};

START_TEST(malformed_heads_are_reset_and_never_reported)
{
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	raw_headers(1, END_STREAM | END_HEADERS, bad_heads[_i].kv);
	raw_until(&w, raw_reset_1, NULL);
	ck_assert_msg(raw_be32(raw_came(RST_STREAM, 1) + 9) == 1, "%s: another code", bad_heads[_i].what);
	ck_assert_msg(w.method[0] == 0, "%s reached the owner", bad_heads[_i].what);
	ck_assert(until(&w, no_servings, &w));
	ck_assert_int_eq(w.server_reset.reason, REASON_BAD_REQUEST);
	/* The connection lives: the next stream is served. */
	raw_headers(3, END_STREAM | END_HEADERS, raw_good_head);
	raw_until(&w, raw_answered_3, NULL);
	ck_assert_str_eq(w.path, "/sum");
	world_done(&w);
}
END_TEST

static const struct {
	const char *what;
	const char *kv[24];
} good_heads[] = {
    {"host equal to :authority", {PSEUDO("/ok"), "host", "A"}},
    {"host alone", {":method", "GET", ":scheme", "http", ":path", "/ok", "host", "a"}},
    {"te trailers", {PSEUDO("/ok"), "te", "trailers"}},
    {"cookie crumbs", {PSEUDO("/ok"), "cookie", "a=1", "x", "y", "cookie", "b=2", "cookie", "c=3"}},
    {"empty value", {PSEUDO("/ok"), "x", ""}},
    {"bytes beyond ASCII in a value", {PSEUDO("/ok"), "x", "caf\xc3\xa9"}},
    {"long method", {":method", METHOD64, ":scheme", "http", ":authority", "a", ":path", "/ok"}},
    {"IPv6 authority", {":method", "GET", ":scheme", "http", ":authority", "[::1]:80", ":path", "/ok"}},
};

START_TEST(odd_but_legal_heads_are_served)
{
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	raw_headers(1, END_STREAM | END_HEADERS, good_heads[_i].kv);
	raw_until(&w, raw_answered_1, NULL);
	ck_assert_msg(strcmp(w.path, "/ok") == 0 && w.authority[0], "%s", good_heads[_i].what);
	if (strcmp(good_heads[_i].what, "cookie crumbs") == 0) {
		ck_assert_str_eq(w.cookie, "a=1; b=2; c=3");
		ck_assert_uint_eq(w.fields, 2);
	}
	ck_assert_int_eq(w.te, strcmp(good_heads[_i].what, "te trailers") == 0);
	world_done(&w);
}
END_TEST

START_TEST(too_many_fields_are_answered_431)
{
	struct world w;
	uint8_t block[8192];
	size_t n = raw_hpack(block, raw_good_head);
	raw_start(&w, HTTP_SERVER, NULL);
	for (int i = 0; i < 150; i++) {
		memcpy(block + n, "\0\1x\1y", 5);
		n += 5;
	}
	raw_frame(HEADERS, END_STREAM | END_HEADERS, 1, block, n);
	raw_until(&w, raw_answered_1, NULL);
	const uint8_t *p = raw_came(HEADERS, 1);
	/* :status 431 is not in the static table: indexed name 8, literal value (Huffman or not) */
	ck_assert_int_eq(p[4] & END_STREAM, END_STREAM);
	ck_assert(until(&w, no_servings, &w));
	ck_assert_int_eq(w.server_reset.reason, REASON_HEAD_TOO_LARGE);
	ck_assert_str_eq(w.method, "");
	world_done(&w);
}
END_TEST

START_TEST(a_long_target_is_answered_414)
{
	struct http_limits lim = http_limits_default;
	static const char *const kv[] = {PSEUDO("/0123456789"), NULL};
	struct world w;
	lim.target_max = 10;
	raw_start(&w, HTTP_SERVER, &lim);
	raw_headers(1, END_STREAM | END_HEADERS, kv);
	raw_until(&w, raw_answered_1, NULL);
	ck_assert(until(&w, no_servings, &w));
	ck_assert_int_eq(w.server_reset.reason, REASON_URI_TOO_LONG);
	world_done(&w);
}
END_TEST

START_TEST(an_hpack_bomb_costs_the_stream)
{
	struct world w;
	uint8_t block[16000];
	size_t n = raw_hpack(block, raw_good_head);
	raw_start(&w, HTTP_SERVER, NULL);
	/* One field of 4,000 bytes into the dynamic table, then 4,000 times its index. */
	block[n++] = 0x40;
	block[n++] = 1;
	block[n++] = 'x';
	block[n++] = 0x7f;
	block[n++] = (4000 - 127) % 128 + 128;
	block[n++] = (4000 - 127) / 128;
	memset(block + n, 'y', 4000);
	n += 4000;
	memset(block + n, 0x80 | 62, 4000);
	n += 4000;
	raw_frame(HEADERS, END_STREAM | END_HEADERS, 1, block, n);
	raw_until(&w, raw_answered_1, NULL);
	ck_assert(until(&w, no_servings, &w));
	ck_assert_int_eq(w.server_reset.reason, REASON_HEAD_TOO_LARGE);
	world_done(&w);
}
END_TEST

/* --- bodies --- */

static bool four_resets(void *arg)
{
	return ((struct world *)arg)->server_resets == 4;
}

START_TEST(a_body_that_belies_its_length_is_reset)
{
	static const char *const five[] = {":method", "POST", ":scheme",        "http", ":authority", "a",
					   ":path",   "/sum", "content-length", "5",    NULL};
	static const char *const trailers[] = {"x", "y", NULL};
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	raw_headers(1, END_HEADERS, five);
	raw_frame(DATA, END_STREAM, 1, "abcd", 4);
	raw_headers(3, END_HEADERS, five);
	raw_frame(DATA, END_STREAM, 3, "abcdef", 6);
	raw_headers(5, END_HEADERS, five);
	raw_headers(5, END_STREAM | END_HEADERS, trailers);
	raw_headers(7, END_HEADERS, five);
	raw_headers(7, END_HEADERS, trailers); /* trailers without END_STREAM */
	raw_until(&w, four_resets, &w);
	ck_assert(raw_came(RST_STREAM, 1) && raw_came(RST_STREAM, 3) && raw_came(RST_STREAM, 5) &&
		  raw_came(RST_STREAM, 7));
	ck_assert(!raw_came(HEADERS, 0));
	world_done(&w);
}
END_TEST

Suite *h2_head_suite(void);
Suite *h2_head_suite(void)
{
	Suite *s = suite_create("h2_head");
	TCase *t = tcase_create("server");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, malformed_heads_are_reset_and_never_reported, 0, ARRAY_LEN(bad_heads));
	tcase_add_loop_test(t, odd_but_legal_heads_are_served, 0, ARRAY_LEN(good_heads));
	tcase_add_test(t, too_many_fields_are_answered_431);
	tcase_add_test(t, a_long_target_is_answered_414);
	tcase_add_test(t, an_hpack_bomb_costs_the_stream);
	tcase_add_test(t, a_body_that_belies_its_length_is_reset);
	suite_add_tcase(s, t);
	return s;
}

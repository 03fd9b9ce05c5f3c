/* SPDX-License-Identifier: Apache-2.0 */
/* http1_test.c: what HTTP/1 messages are served and which are refused, each a claim with its bytes; every message is
 * parsed whole, byte by byte and cut in two at every place, with the same result. Then: what was parsed is written again
 * and means the same. */
#include "lib/http/parse.h"
#include "lib/http/write.h"
#include "lib/mem.h"
#include "tests/unit/lib/http1_read.h"

#include <check.h>
#include <stdio.h>

Suite *http1_suite(void);

struct row {
	const char *claim;
	struct str in;
	enum reason why;   /* NONE: it is served */
	const char *means; /* served: the dump (dump() below) begins so */
};
#define OK(claim, text, means)   {claim, {text, sizeof(text) - 1}, REASON_NONE, means},
#define NO(claim, text)          {claim, {text, sizeof(text) - 1}, REASON_BAD_REQUEST, ""},
#define WHY(claim, reason, text) {claim, {text, sizeof(text) - 1}, REASON_##reason, ""},

#define H                        " HTTP/1.1\r\nHost: a\r\n"
#define GET                      "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST                     "POST / HTTP/1.1\r\nHost: a\r\n"
#define CH                       POST "Transfer-Encoding: chunked\r\n\r\n"
#define RE                       "HTTP/1.1 200 OK\r\n"

static const struct row requests[] = {
#include "tests/unit/lib/http1_requests.tbl.h"
};
static const struct row responses[] = {
#include "tests/unit/lib/http1_responses.tbl.h"
};

static void check_row(const struct row *row, bool request, struct http1_asked asked)
{
	struct http1_read whole, cut;
	http1_read(&whole, row->in, 0, row->in.len, request, asked);
	ck_assert_msg(whole.why == row->why, "%s: %s, want %s", row->claim, reason_row(whole.why)->label,
		      reason_row(row->why)->label);
	if (row->why == REASON_NONE) {
		bool open = whole.m && (whole.m->framing == FRAMING_CLOSE || whole.m->framing == FRAMING_TUNNEL);
		ck_assert_msg(whole.step == HTTP1_DONE || open, "%s: is not complete", row->claim);
		ck_assert_msg(str_starts(http1_read_text(&whole), str_of(row->means)), "%s: is \"" STR_FMT "\"",
			      row->claim, STR_ARG(http1_read_text(&whole)));
	}
	for (size_t at = 0; at < row->in.len; at++) {
		http1_read(&cut, row->in, at, at ? row->in.len : 1, request, asked);
		ck_assert_msg(http1_read_same(&whole, &cut), "%s: differs when cut at %zu", row->claim, at);
		http1_read_done(&cut);
	}
	http1_read_done(&whole);
}

START_TEST(serves_or_refuses_requests_however_they_are_cut)
{
	check_row(&requests[_i], true, (struct http1_asked){0});
}
END_TEST

/* Rows of responses say by their first word what was asked: "HEAD:", "CONNECT:", "UPGRADE:". */
START_TEST(serves_or_refuses_responses_however_they_are_cut)
{
	struct row row = responses[_i];
	struct str claim = str_of(row.claim);
	struct http1_asked asked = {.head = str_starts(claim, STR("HEAD:")),
				    .connect = str_starts(claim, STR("CONNECT:"))};
	if (str_starts(claim, STR("UPGRADE:")))
		asked.upgrade = STR("foo/2, websocket");
	if (row.why == REASON_BAD_REQUEST)
		row.why = REASON_UPSTREAM_PROTOCOL;
	check_row(&row, false, asked);
}
END_TEST

START_TEST(takes_no_byte_of_the_next_message)
{
	static const struct str first[] = {
	    STR(GET "\r\n"),
	    STR(POST "Content-Length: 5\r\n\r\nhello"),
	    STR(CH "5\r\nhello\r\n0\r\n\r\n"),
	    STR(CH "0\r\nX: 1\r\n\r\n"),
	};
	struct http1_read r;
	char both[256];
	for (size_t i = 0; i < ARRAY_LEN(first); i++) {
		size_t n = (size_t)snprintf(both, sizeof(both), "%s%s", first[i].p, GET "\r\n");
		for (size_t cut = 0; cut < n; cut++) {
			http1_read(&r, str_make(both, n), cut, n, true, (struct http1_asked){0});
			ck_assert_int_eq(r.step, HTTP1_DONE);
			ck_assert_uint_eq(r.used, first[i].len);
			http1_read_done(&r);
		}
	}
}
END_TEST

/* --- limits: made, not written out --- */

static enum reason why_of(struct buf *in, size_t piece)
{
	struct http1_read r;
	size_t n = in->len;
	char *bytes = mem_alloc(n);
	for (size_t at = 0; at < n;) {
		struct str s = buf_peek(in);
		memcpy(bytes + at, s.p, s.len);
		at += s.len;
		buf_drain(in, s.len);
	}
	http1_read(&r, str_make(bytes, n), 0, piece, true, (struct http1_asked){0});
	enum reason why = r.why;
	if (why == REASON_NONE)
		ck_assert_int_eq(r.step, HTTP1_DONE);
	http1_read_done(&r);
	mem_free(bytes);
	buf_done(in);
	return why;
}

static void fill(struct buf *b, char c, size_t n)
{
	char *p = mem_alloc(n + 1);
	memset(p, c, n);
	buf_add(b, p, n);
	mem_free(p);
}

static const size_t pieces[] = {1, 7, 4096, 1 << 20};

static enum reason target_of(size_t len, size_t piece)
{
	struct buf b;
	buf_init(&b, 1 << 20);
	buf_printf(&b, "GET /");
	fill(&b, 'x', len - 1);
	buf_printf(&b, H "\r\n");
	return why_of(&b, piece);
}

START_TEST(limits_the_target_to_8_KiB)
{
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		ck_assert_int_eq(target_of(8192, pieces[i]), REASON_NONE);
		ck_assert_int_eq(target_of(8193, pieces[i]), REASON_URI_TOO_LONG);
		ck_assert_int_eq(target_of(100000, pieces[i]), REASON_URI_TOO_LONG);
	}
}
END_TEST

/* One field whose line makes all field lines together `bytes` long; name or value is the long part. */
static enum reason field_of(size_t bytes, bool long_name, size_t piece)
{
	struct buf b;
	size_t rest = bytes - strlen("Host: a\r\n") - strlen("x: y\r\n") + 1;
	buf_init(&b, 1 << 21);
	buf_printf(&b, GET);
	fill(&b, 'x', long_name ? rest : 1);
	buf_printf(&b, ": ");
	fill(&b, 'y', long_name ? 1 : rest);
	buf_printf(&b, "\r\n\r\n");
	return why_of(&b, piece);
}

START_TEST(limits_the_fields_to_32_KiB_and_never_wraps_a_length)
{
	static const size_t fits[] = {255, 256, 257, 511, 16383, 16385, 32768};
	static const size_t not [] = {32769, 65535, 65536, 65537, 65536 + 256, 1 << 20};
	for (size_t p = 1; p < ARRAY_LEN(pieces); p++)
		for (int name = 0; name < 2; name++) {
			for (size_t i = 0; i < ARRAY_LEN(fits); i++)
				ck_assert_int_eq(field_of(fits[i], name, pieces[p]), REASON_NONE);
			for (size_t i = 0; i < ARRAY_LEN(not ); i++)
				ck_assert_int_eq(field_of(not [i], name, pieces[p]), REASON_HEAD_TOO_LARGE);
		}
}
END_TEST

static enum reason count_of(size_t fields, bool trailers, size_t piece)
{
	struct buf b;
	buf_init(&b, 1 << 20);
	buf_printf(&b, trailers ? CH "0\r\n" : GET);
	for (size_t i = trailers ? 0 : 1; i < fields; i++)
		buf_printf(&b, "f%zu: v\r\n", i);
	buf_printf(&b, "\r\n");
	return why_of(&b, piece);
}

START_TEST(limits_the_number_of_fields_and_of_trailers_to_100)
{
	for (size_t p = 0; p < ARRAY_LEN(pieces); p++)
		for (int trailers = 0; trailers < 2; trailers++) {
			ck_assert_int_eq(count_of(100, trailers, pieces[p]), REASON_NONE);
			ck_assert_int_eq(count_of(101, trailers, pieces[p]), REASON_HEAD_TOO_LARGE);
		}
}
END_TEST

static enum reason ext_of(size_t bytes, size_t chunks, size_t piece)
{
	struct buf b;
	buf_init(&b, 1 << 20);
	buf_printf(&b, CH);
	for (size_t i = 0; i < chunks; i++) {
		buf_printf(&b, "1;");
		fill(&b, 'e', bytes);
		buf_printf(&b, "\r\nx\r\n");
	}
	buf_printf(&b, "0\r\n\r\n");
	return why_of(&b, piece);
}

START_TEST(limits_chunk_extensions_to_1_KiB_a_chunk_and_16_KiB_a_message)
{
	for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
		ck_assert_int_eq(ext_of(1023, 1, pieces[p]), REASON_NONE);
		ck_assert_int_eq(ext_of(1024, 1, pieces[p]), REASON_BAD_REQUEST);
		ck_assert_int_eq(ext_of(65536, 1, pieces[p]), REASON_BAD_REQUEST);
		ck_assert_int_eq(ext_of(1023, 16, pieces[p]), REASON_NONE);
		ck_assert_int_eq(ext_of(1023, 17, pieces[p]), REASON_BAD_REQUEST);
	}
}
END_TEST

START_TEST(refuses_a_head_that_passes_the_cap_of_its_arena)
{
	static const size_t caps[] = {0, 100, 300, 600, 1200};
	for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
		struct arena a;
		struct http1_head h;
		size_t used;
		arena_init(&a, caps[i]);
		http1_head_init(&h, &a, &http_limits_default, true, NULL);
		enum http1_step step =
		    http1_head_feed(&h, STR(GET "a: b\r\nUpgrade: a, b\r\nConnection: upgrade\r\n\r\n"), &used);
		if (caps[i] < 600) {
			ck_assert_int_eq(step, HTTP1_BAD);
			ck_assert_int_eq(h.why, REASON_HEAD_TOO_LARGE);
		}
		http1_head_done(&h);
		arena_done(&a);
	}
}
END_TEST

/* --- writing --- */

/* Heads only: the dumps of a message and of what is written for it, up to the body. */
static void check_written(const struct row *row, bool request, struct http1_asked asked)
{
	struct http1_read r, again;
	struct buf out, head;
	buf_init(&out, 1 << 20);
	buf_init(&head, 1 << 20);
	http1_read(&r, row->in, 0, row->in.len, request, asked);
	struct http1_plan plan = http1_read_plan(r.m);
	ck_assert_msg(http1_write_head(&out, r.m, &plan), "%s: cannot be written", row->claim);
	http1_dump_head(&head, r.m);
	struct str want = buf_pullup(&head, head.len), bytes = buf_pullup(&out, out.len);
	http1_read(&again, bytes, 0, bytes.len, request, asked);
	/* a reason phrase that was empty is written in words */
	bool filled = !request && r.m->reason.len == 0;
	ck_assert_msg(filled || str_starts(http1_read_text(&again), want),
		      "%s: became \"" STR_FMT "\" by \"" STR_FMT "\"", row->claim, STR_ARG(http1_read_text(&again)),
		      STR_ARG(bytes));
	http1_read_done(&r);
	http1_read_done(&again);
	buf_done(&out);
	buf_done(&head);
}

START_TEST(what_was_served_is_written_with_the_same_meaning)
{
	if (requests[_i].why == REASON_NONE)
		check_written(&requests[_i], true, (struct http1_asked){0});
}
END_TEST

START_TEST(responses_that_were_served_are_written_with_the_same_meaning)
{
	struct str claim = str_of(responses[_i].claim);
	struct http1_asked asked = {.head = str_starts(claim, STR("HEAD:")),
				    .connect = str_starts(claim, STR("CONNECT:"))};
	if (str_starts(claim, STR("UPGRADE:")))
		asked.upgrade = STR("foo/2, websocket");
	if (responses[_i].why == REASON_NONE)
		check_written(&responses[_i], false, asked);
}
END_TEST

/* SMG-15: parts as another codec might hand them over. */
static const struct {
	const char *claim;
	struct str method, authority, path, name, value;
} unwritable[] = {
    {"line break in a value", STR("GET"), STR("a"), STR("/"), STR("x"), STR("1\r\ny: 2")},
    {"bare LF in a value", STR("GET"), STR("a"), STR("/"), STR("x"), STR("1\ny: 2")},
    {"NUL in a value", STR("GET"), STR("a"), STR("/"), STR("x"), STR("1\0")},
    {"space before a value", STR("GET"), STR("a"), STR("/"), STR("x"), STR(" 1")},
    {"colon in a name", STR("GET"), STR("a"), STR("/"), STR("x:"), STR("1")},
    {"space in a name", STR("GET"), STR("a"), STR("/"), STR("x y"), STR("1")},
    {"empty name", STR("GET"), STR("a"), STR("/"), STR(""), STR("1")},
    {"line break in a name", STR("GET"), STR("a"), STR("/"), STR("x\r\ny"), STR("1")},
    {"space in the path", STR("GET"), STR("a"), STR("/ HTTP/1.1"), STR("x"), STR("1")},
    {"path without a slash", STR("GET"), STR("a"), STR("x"), STR("x"), STR("1")},
    {"empty path", STR("GET"), STR("a"), STR(""), STR("x"), STR("1")},
    {"asterisk for GET", STR("GET"), STR("a"), STR("*"), STR("x"), STR("1")},
    {"line break in the path", STR("GET"), STR("a"), STR("/\r\nX: y"), STR("x"), STR("1")},
    {"space in the method", STR("GET /x"), STR("a"), STR("/"), STR("x"), STR("1")},
    {"empty method", STR(""), STR("a"), STR("/"), STR("x"), STR("1")},
    {"userinfo in the authority", STR("GET"), STR("b@a"), STR("/"), STR("x"), STR("1")},
    {"line break in the authority", STR("GET"), STR("a\r\nX: y"), STR("/"), STR("x"), STR("1")},
    {"CONNECT without a port", STR("CONNECT"), STR("a"), STR(""), STR("x"), STR("1")},
    {"no authority in HTTP/1.1", STR("GET"), STR(""), STR("/"), STR("x"), STR("1")},
};

START_TEST(writes_nothing_that_it_would_not_read)
{
	struct arena a;
	struct message m;
	struct buf out;
	arena_init(&a, 16 << 10);
	buf_init(&out, 4096);
	message_init(&m, &a, true);
	m.method = unwritable[_i].method;
	m.authority = unwritable[_i].authority;
	m.path = unwritable[_i].path;
	ck_assert(message_add(&m, unwritable[_i].name, unwritable[_i].value, false));
	ck_assert_msg(!http1_write_head(&out, &m, &(struct http1_plan){0}), "%s", unwritable[_i].claim);
	ck_assert_uint_eq(out.len, 0);
	buf_done(&out);
	arena_done(&a);
}
END_TEST

START_TEST(writes_no_upgrade_that_is_no_list_of_protocols)
{
	static const struct {
		struct str upgrade;
		bool written;
	} rows[] = {{STR("foo"), true},     {STR("foo/2, websocket"), true},
		    {STR("fo\xed"), false}, {STR("foo,,bar"), false},
		    {STR("foo/"), false},   {STR("foo bar"), false}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct arena a;
		struct message m;
		struct buf out;
		arena_init(&a, 16 << 10);
		buf_init(&out, 4096);
		message_init(&m, &a, false);
		m.status = 426;
		bool written = http1_write_head(&out, &m, &(struct http1_plan){.upgrade = rows[i].upgrade});
		ck_assert_msg(written == rows[i].written, "%s", rows[i].upgrade.p);
		buf_done(&out);
		arena_done(&a);
	}
}
END_TEST

START_TEST(writes_chunks_and_trailers_but_no_forbidden_ones)
{
	struct arena a;
	struct buf out;
	struct fields f = {0};
	arena_init(&a, 16 << 10);
	buf_init(&out, 4096);
	ck_assert(fields_add(&f, &a, STR("Grpc-Status"), STR("0"), true));
	ck_assert(fields_add(&f, &a, STR("Content-Length"), STR("5"), true));
	ck_assert(fields_add(&f, &a, STR("x"), STR("1\r\ny: 2"), true));
	http1_write_chunk(&out, STR("0123456789abcdef!"));
	http1_write_last_chunk(&out, &f);
	ck_assert(str_is(buf_pullup(&out, out.len), "11\r\n0123456789abcdef!\r\n0\r\nGrpc-Status: 0\r\n\r\n"));
	buf_done(&out);
	arena_done(&a);
}
END_TEST

START_TEST(never_writes_a_connection_field_of_another_codec)
{
	struct arena a;
	struct message m;
	struct buf out;
	arena_init(&a, 16 << 10);
	buf_init(&out, 4096);
	message_init(&m, &a, false);
	m.status = 200;
	ck_assert(message_add(&m, STR("Transfer-Encoding"), STR("chunked"), true));
	ck_assert(message_add(&m, STR("content-length"), STR("7"), true));
	ck_assert(message_add(&m, STR("connection"), STR("x"), true));
	ck_assert(http1_write_head(&out, &m, &(struct http1_plan){.length = true, .content_length = 3, .close = true}));
	ck_assert(
	    str_is(buf_pullup(&out, out.len), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"));
	buf_done(&out);
	arena_done(&a);
}
END_TEST

START_TEST(deletes_fields_by_name_and_by_prefix_in_any_case)
{
	struct arena a;
	struct message m;
	arena_init(&a, 16 << 10);
	message_init(&m, &a, true);
	static const char *const names[] = {"X-Weft-A", "keep", "x-weft-b", "Via", "X-WEFT-", "via", "x-wef"};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		ck_assert(message_add(&m, str_of(names[i]), STR("1"), false));
	message_drop_prefix(&m, STR("x-weft-"));
	message_del(&m, "VIA");
	ck_assert_uint_eq(m.fields.len, 2);
	ck_assert(str_is(m.fields.v[0].name, "keep") && str_is(m.fields.v[1].name, "x-wef"));
	ck_assert_ptr_null(message_get(&m, "via"));
	ck_assert_ptr_nonnull(message_get(&m, "KEEP"));
	arena_done(&a);
}
END_TEST

Suite *http1_suite(void)
{
	Suite *s = suite_create("http1");
	TCase *tc = tcase_create("grammar");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, serves_or_refuses_requests_however_they_are_cut, 0, (int)ARRAY_LEN(requests));
	tcase_add_loop_test(tc, serves_or_refuses_responses_however_they_are_cut, 0, (int)ARRAY_LEN(responses));
	tcase_add_test(tc, takes_no_byte_of_the_next_message);
	tcase_add_test(tc, limits_the_target_to_8_KiB);
	tcase_add_test(tc, limits_the_fields_to_32_KiB_and_never_wraps_a_length);
	tcase_add_test(tc, limits_the_number_of_fields_and_of_trailers_to_100);
	tcase_add_test(tc, limits_chunk_extensions_to_1_KiB_a_chunk_and_16_KiB_a_message);
	tcase_add_test(tc, refuses_a_head_that_passes_the_cap_of_its_arena);
	tcase_add_loop_test(tc, what_was_served_is_written_with_the_same_meaning, 0, (int)ARRAY_LEN(requests));
	tcase_add_loop_test(tc, responses_that_were_served_are_written_with_the_same_meaning, 0,
			    (int)ARRAY_LEN(responses));
	tcase_add_loop_test(tc, writes_nothing_that_it_would_not_read, 0, (int)ARRAY_LEN(unwritable));
	tcase_add_test(tc, writes_no_upgrade_that_is_no_list_of_protocols);
	tcase_add_test(tc, writes_chunks_and_trailers_but_no_forbidden_ones);
	tcase_add_test(tc, never_writes_a_connection_field_of_another_codec);
	tcase_add_test(tc, deletes_fields_by_name_and_by_prefix_in_any_case);
	suite_add_tcase(s, tc);
	return s;
}

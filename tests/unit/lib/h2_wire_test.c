/* SPDX-License-Identifier: Apache-2.0 */
/* h2_wire_test.c: codec_h2 against frames written by hand: malformed heads, floods, silence, and what no library sends. */
#include "lib/http/h2_ids.h"
#include "lib/http/h2_guard.h"
#include "lib/http/h2_track.h"
#include "lib/turns.h"
#include "tests/unit/lib/h2_world.h"

#include <stdio.h>
#include <sys/socket.h>

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
#define END_STREAM  1
#define END_HEADERS 4

static struct {
	uint8_t b[4 << 20];
	size_t n;
} out, in;

static void raw_bytes(const void *p, size_t n)
{
	ck_assert_uint_le(out.n + n, sizeof(out.b));
	memcpy(out.b + out.n, p, n);
	out.n += n;
}

static void raw_frame(uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n)
{
	const uint8_t hd[9] = {(uint8_t)(n >> 16),  (uint8_t)(n >> 8),   (uint8_t)n,         type,       flags,
			       (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
	raw_bytes(hd, 9);
	if (n)
		raw_bytes(p, n);
}

/* Literals without indexing and without Huffman; texts of at most 126 bytes. */
static size_t hpack(uint8_t *to, const char *const *kv)
{
	size_t at = 0;
	for (; kv[0]; kv += 2) {
		to[at++] = 0;
		for (int i = 0; i < 2; i++) {
			size_t n = strlen(kv[i]);
			ck_assert_uint_lt(n, 127);
			to[at++] = (uint8_t)n;
			memcpy(to + at, kv[i], n);
			at += n;
		}
	}
	return at;
}

static void raw_headers(uint32_t id, uint8_t flags, const char *const *kv)
{
	uint8_t block[8192];
	raw_frame(HEADERS, flags, id, block, hpack(block, kv));
}

static void raw_start(struct world *w, enum http_role role, const struct http_limits *lim)
{
	world_raw(w, role, lim);
	out.n = in.n = 0;
	if (role == HTTP_SERVER)
		raw_bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	raw_frame(SETTINGS, 0, 0, NULL, 0);
}

/* Writes what is in `out`, reads what comes. */
struct pumping {
	struct world *w;
	size_t at;
	bool (*cond)(void *);
	void *arg;
};

static bool pump(void *arg)
{
	struct pumping *p = arg;
	ssize_t n;
	while (p->at < out.n && (n = send(p->w->raw, out.b + p->at, out.n - p->at, MSG_NOSIGNAL)) > 0)
		p->at += (size_t)n;
	while (in.n < sizeof(in.b) && (n = recv(p->w->raw, in.b + in.n, sizeof(in.b) - in.n, 0)) > 0)
		in.n += (size_t)n;
	return p->cond(p->arg);
}

static void raw_until(struct world *w, bool (*cond)(void *), void *arg)
{
	struct pumping p = {w, 0, cond, arg};
	ck_assert(until(w, pump, &p));
	pump(&p);
	out.n = 0;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The first frame of this type (of this stream, unless 0) that came, from its head on; NULL: none. */
static const uint8_t *came(uint8_t type, uint32_t id)
{
	size_t preface = in.n && in.b[0] == 'P' ? 24 : 0;
	for (size_t at = preface; at + 9 <= in.n;) {
		const uint8_t *p = in.b + at;
		size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
		if (at + 9 + len > in.n)
			break;
		if (p[3] == type && (id == 0 || be32(p + 5) == id))
			return p;
		at += 9 + len;
	}
	return NULL;
}

static uint32_t goaway_code(void)
{
	const uint8_t *p = came(GOAWAY, 0);
	return p ? be32(p + 9 + 4) : UINT32_MAX;
}

static bool reset_1(void *arg)
{
	return came(RST_STREAM, 1) != NULL;
}
static bool answered_1(void *arg)
{
	return came(HEADERS, 1) != NULL;
}
static bool answered_3(void *arg)
{
	return came(HEADERS, 3) != NULL;
}

#define METHOD64     "ABCDEFGHIJKLMNOPABCDEFGHIJKLMNOPABCDEFGHIJKLMNOPABCDEFGHIJKLMNOP" /* as long as HTTP/1 takes them */
#define PSEUDO(path) ":method", "GET", ":scheme", "http", ":authority", "a", ":path", path
static const char *const good_head[] = {PSEUDO("/sum"), NULL};
static const char *const hold_head[] = {PSEUDO("/hold"), NULL};
static const char *const stall_head[] = {PSEUDO("/stall"), NULL};

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
	raw_until(&w, reset_1, NULL);
	ck_assert_msg(be32(came(RST_STREAM, 1) + 9) == 1, "%s: another code", bad_heads[_i].what);
	ck_assert_msg(w.method[0] == 0, "%s reached the owner", bad_heads[_i].what);
	ck_assert(until(&w, no_servings, &w));
	ck_assert_int_eq(w.server_reset.reason, REASON_BAD_REQUEST);
	/* The connection lives: the next stream is served. */
	raw_headers(3, END_STREAM | END_HEADERS, good_head);
	raw_until(&w, answered_3, NULL);
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
	raw_until(&w, answered_1, NULL);
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
	size_t n = hpack(block, good_head);
	raw_start(&w, HTTP_SERVER, NULL);
	for (int i = 0; i < 150; i++) {
		memcpy(block + n, "\0\1x\1y", 5);
		n += 5;
	}
	raw_frame(HEADERS, END_STREAM | END_HEADERS, 1, block, n);
	raw_until(&w, answered_1, NULL);
	const uint8_t *p = came(HEADERS, 1);
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
	raw_until(&w, answered_1, NULL);
	ck_assert(until(&w, no_servings, &w));
	ck_assert_int_eq(w.server_reset.reason, REASON_URI_TOO_LONG);
	world_done(&w);
}
END_TEST

START_TEST(an_hpack_bomb_costs_the_stream)
{
	struct world w;
	uint8_t block[16000];
	size_t n = hpack(block, good_head);
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
	raw_until(&w, answered_1, NULL);
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
	ck_assert(came(RST_STREAM, 1) && came(RST_STREAM, 3) && came(RST_STREAM, 5) && came(RST_STREAM, 7));
	ck_assert(!came(HEADERS, 0));
	world_done(&w);
}
END_TEST

/* --- floods: each ends with GOAWAY(ENHANCE_YOUR_CALM) and its own reason --- */

enum flood {
	FLOOD_PING,
	FLOOD_SETTINGS,
	FLOOD_PRIORITY,
	FLOOD_WINDOW_UPDATE,
	FLOOD_EMPTY_DATA,
	FLOOD_EMPTY_CONTINUATION,
	FLOOD_UNKNOWN,
	FLOOD_RESET,
	FLOOD_MADE_BAD_HEAD,
	FLOOD_MADE_BAD_LENGTH,
	FLOOD_MADE_WINDOW,
	FLOOD_CONTINUATION,
	FLOOD_PADDED_DATA,
	FLOOD_GOAWAY,
	FLOOD_BOMB,
	FLOOD_OVER_STREAMS,
	FLOOD_MANY_SETTINGS,
	FLOOD_COUNT
};

/* The block of FLOOD_BOMB: a field of 4,000 bytes into the dynamic table, then its index 20 times. */
static size_t bomb(uint8_t *block)
{
	size_t n = hpack(block, good_head);
	memcpy(block + n, "\x40\x01x\x7f", 4);
	n += 4;
	block[n++] = (4000 - 127) % 128 + 128;
	block[n++] = (4000 - 127) / 128;
	memset(block + n, 'y', 4000);
	n += 4000;
	memset(block + n, 0x80 | 62, 20);
	return n + 20;
}

static void one_of_a_flood(enum flood kind, uint32_t i)
{
	static const uint8_t eight[8], one_more[4] = {0, 0, 0, 1}, most[4] = {0x7f, 0xff, 0xff, 0xff};
	static const uint8_t prio[5] = {0, 0, 0, 0, 16}, cancel[4] = {0, 0, 0, 8};
	static const char *const bad[] = {PSEUDO("x"), NULL};
	static const char *const five[] = {PSEUDO("/sum"), "content-length", "5", NULL};
	uint32_t id = 2 * i + 1;
	switch (kind) {
	case FLOOD_PING:
		raw_frame(PING, 0, 0, eight, 8);
		break;
	case FLOOD_SETTINGS:
		raw_frame(SETTINGS, 0, 0, NULL, 0);
		break;
	case FLOOD_PRIORITY:
		raw_frame(PRIORITY, 0, 3, prio, 5);
		break;
	case FLOOD_WINDOW_UPDATE:
		raw_frame(WINDOW_UPDATE, 0, 0, one_more, 4);
		break;
	case FLOOD_EMPTY_DATA:
		if (i == 0)
			raw_headers(1, END_HEADERS, stall_head);
		raw_frame(DATA, 0, 1, NULL, 0);
		break;
	case FLOOD_EMPTY_CONTINUATION:
	case FLOOD_CONTINUATION:
		if (i == 0)
			raw_headers(1, 0, hold_head);
		raw_frame(CONTINUATION, 0, 1, "\0\1x\1y", kind == FLOOD_CONTINUATION ? 5 : 0);
		break;
	case FLOOD_UNKNOWN:
		raw_frame(0xbe, 0, 0, NULL, 0);
		break;
	case FLOOD_RESET:
		raw_headers(id, END_STREAM | END_HEADERS, hold_head);
		raw_frame(RST_STREAM, 0, id, cancel, 4);
		break;
	case FLOOD_MADE_BAD_HEAD:
		raw_headers(id, END_STREAM | END_HEADERS, bad);
		break;
	case FLOOD_MADE_BAD_LENGTH:
		raw_headers(id, END_HEADERS, five);
		raw_frame(DATA, END_STREAM, id, "x", 1);
		break;
	case FLOOD_MADE_WINDOW:
		raw_headers(id, END_STREAM | END_HEADERS, hold_head);
		raw_frame(WINDOW_UPDATE, 0, id, most, 4);
		break;
	case FLOOD_PADDED_DATA:
		if (i == 0)
			raw_headers(1, END_HEADERS, stall_head);
		raw_frame(DATA, 8, 1, "\x03\0\0\0", 4); /* PADDED: a length and three bytes of padding */
		break;
	case FLOOD_GOAWAY:
		if (i == 0)
			raw_headers(1, END_HEADERS, stall_head);
		raw_frame(GOAWAY, 0, 0, eight, 8);
		break;
	case FLOOD_BOMB: {
		uint8_t block[8192];
		raw_frame(HEADERS, END_STREAM | END_HEADERS, id, block, bomb(block));
		break;
	}
	case FLOOD_OVER_STREAMS: /* before SETTINGS are acknowledged nghttp2 refuses, later it ends the connection */
		raw_headers(id, END_HEADERS, stall_head);
		break;
	case FLOOD_MANY_SETTINGS: {
		static const uint8_t many[33 * 6];
		raw_frame(SETTINGS, 0, 0, many, sizeof(many));
		break;
	}
	case FLOOD_COUNT:
		break;
	}
}

START_TEST(floods_end_the_connection)
{
	static const struct {
		uint32_t enough;
		enum reason reason;
	} floods[FLOOD_COUNT] = {
	    [FLOOD_PING] = {130, REASON_FLOOD_PING},
	    [FLOOD_SETTINGS] = {130, REASON_FLOOD_SETTINGS},
	    [FLOOD_PRIORITY] = {300, REASON_FLOOD_PRIORITY},
	    [FLOOD_WINDOW_UPDATE] = {200, REASON_FLOOD_WINDOW},
	    [FLOOD_EMPTY_DATA] = {20, REASON_FLOOD_EMPTY},
	    [FLOOD_EMPTY_CONTINUATION] = {15, REASON_FLOOD_EMPTY},
	    [FLOOD_UNKNOWN] = {130, REASON_FLOOD_UNKNOWN},
	    [FLOOD_RESET] = {400, REASON_FLOOD_RESET},
	    [FLOOD_MADE_BAD_HEAD] = {400, REASON_FLOOD_MADE_RESET},
	    [FLOOD_MADE_BAD_LENGTH] = {400, REASON_FLOOD_MADE_RESET},
	    [FLOOD_MADE_WINDOW] = {400, REASON_FLOOD_MADE_RESET},
	    [FLOOD_CONTINUATION] = {20, REASON_FLOOD_CONTINUATION},
	    [FLOOD_PADDED_DATA] = {20, REASON_FLOOD_EMPTY},
	    [FLOOD_GOAWAY] = {130, REASON_FLOOD_GOAWAY},
	    [FLOOD_BOMB] = {20, REASON_FLOOD_HEAD},
	    [FLOOD_OVER_STREAMS] = {400, REASON_FLOOD_MADE_RESET},
	    [FLOOD_MANY_SETTINGS] = {1, REASON_FLOOD_SETTINGS},
	};
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	/* In pieces, as a peer would that waits a little for answers: never more than a hundred streams at once. */
	for (uint32_t i = 0; i < floods[_i].enough && !w.server_closed; i++) {
		one_of_a_flood((enum flood)_i, i);
		if (i % 50 == 49) {
			struct pumping p = {&w, 0, no_servings, &w};
			pump(&p);
			run_ms(&w, 3);
			pump(&p);
			out.n = 0;
		}
	}
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, floods[_i].reason);
	ck_assert_uint_eq(goaway_code(), 11);
	ck_assert(no_servings(&w));
	world_done(&w);
}
END_TEST

static bool answered_179(void *arg)
{
	return came(HEADERS, 179) != NULL;
}

static bool answered_31(void *arg)
{
	return came(HEADERS, 31) != NULL;
}

static bool answered_1001(void *arg)
{
	return came(HEADERS, 1001) != NULL;
}

struct seen {
	struct world *w;
	unsigned n;
};

/* As its peer becomes known: sixteen requests, all served. */
static void get_known(struct world *w)
{
	for (uint32_t i = 0; i < 16; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, good_head);
	raw_until(w, answered_31, NULL);
	ck_assert(until(w, no_servings, w));
	w->most_a_turn = 0;
}

static bool seen_so_many(void *arg)
{
	const struct seen *s = arg;
	return s->w->streams_seen >= s->n;
}

/* A share as they come, then what turns.h lets one alone begin. */
START_TEST(requests_that_come_at_once_begin_in_turns_and_all_are_served)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.heads_a_turn = _i ? 64 : 0;
	raw_start(&w, HTTP_SERVER, &lim);
	get_known(&w);
	for (uint32_t i = 16; i < 90; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, good_head);
	raw_until(&w, answered_179, NULL);
	ck_assert_uint_eq(w.streams_seen, 90);
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS);
	ck_assert_uint_ge(w.most_a_turn, TURNS_POINTS - 2); /* all that is unpacked is a point or two */
	world_done(&w);
}
END_TEST

START_TEST(a_stranger_begins_fewer_in_a_turn)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.heads_a_turn = 64;
	raw_start(&w, HTTP_SERVER, &lim);
	for (uint32_t i = 0; i < 90; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, hold_head);
	raw_until(&w, seen_so_many, &(struct seen){&w, 90});
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS / 8);
	world_done(&w);
}
END_TEST

/* 28 KB each, out of a few bytes: within every limit, and not for the price of a small one. */
START_TEST(heads_count_by_what_they_unpack_to)
{
	struct world w;
	uint8_t block[8192];
	raw_start(&w, HTTP_SERVER, NULL);
	get_known(&w);
	for (uint32_t i = 0; i < 40; i++) {
		size_t n = i == 0 ? bomb(block) - 14 : hpack(block, good_head);
		memset(block + n, 0x80 | 62, 7);
		raw_frame(HEADERS, END_STREAM | END_HEADERS, 2 * (i + 16) + 1, block, i == 0 ? n : n + 7);
	}
	raw_until(&w, seen_so_many, &(struct seen){&w, 56});
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS / 8 + 4); /* a share is over before it is known what it cost */
	ck_assert(!w.server_closed);
	world_done(&w);
}
END_TEST

/* Each moves the windows of 48 streams at least. */
START_TEST(settings_count_by_the_streams_whose_windows_they_move)
{
	static const uint8_t window[6] = {0, 4, 0, 1, 0, 0};
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.heads_a_turn = 64;
	raw_start(&w, HTTP_SERVER, &lim);
	get_known(&w);
	for (uint32_t i = 16; i < 64; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, hold_head);
	raw_until(&w, seen_so_many, &(struct seen){&w, 64});
	w.most_a_turn = 0;
	for (uint32_t i = 64; i < 114; i++) {
		raw_frame(SETTINGS, 0, 0, window, sizeof(window));
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, hold_head);
	}
	raw_until(&w, seen_so_many, &(struct seen){&w, 114});
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS / 4);
	world_done(&w);
}
END_TEST

static bool sixty_seen(void *arg)
{
	return ((struct world *)arg)->streams_seen >= 60;
}

/* Given up, all of them, and more: from then on it begins an eighth of that. */
START_TEST(who_gives_up_many_requests_begins_fewer_in_a_turn)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.heads_a_turn = 64;
	lim.resets_burst = 10000;
	raw_start(&w, HTTP_SERVER, &lim);
	for (uint32_t i = 0; i < 60; i++)
		one_of_a_flood(FLOOD_RESET, i);
	raw_until(&w, sixty_seen, &w);
	w.most_a_turn = 0;
	for (uint32_t i = 60; i < 160; i++)
		one_of_a_flood(FLOOD_RESET, i);
	raw_headers(2 * 500 + 1, END_STREAM | END_HEADERS, good_head);
	raw_until(&w, answered_1001, NULL);
	ck_assert_uint_eq(w.streams_seen, 161);
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS / 8);
	world_done(&w);
}
END_TEST

/* What came with the end, and waits for its turn, is served before the end counts. */
START_TEST(requests_before_the_end_of_the_connection_all_begin)
{
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	for (uint32_t i = 0; i < 90; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, good_head);
	struct pumping p = {&w, 0, no_servings, &w};
	pump(&p);
	shutdown(w.raw, SHUT_WR);
	out.n = 0;
	raw_until(&w, server_gone, &w);
	ck_assert_uint_eq(w.streams_seen, 90);
	world_done(&w);
}
END_TEST

START_TEST(what_honest_peers_send_is_no_flood)
{
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	for (uint32_t i = 0; i < 90; i++) {
		one_of_a_flood(FLOOD_PING, i);
		one_of_a_flood(FLOOD_SETTINGS, i);
		one_of_a_flood(FLOOD_PRIORITY, i);
		one_of_a_flood(FLOOD_WINDOW_UPDATE, i);
	}
	for (uint32_t i = 0; i < 20; i++)
		one_of_a_flood(FLOOD_UNKNOWN, i);
	one_of_a_flood(FLOOD_PADDED_DATA, 0);
	raw_frame(DATA, END_STREAM, 1, NULL, 0); /* that empty one is how a body ends */
	raw_headers(3, END_STREAM | END_HEADERS, good_head);
	raw_until(&w, answered_3, NULL);
	ck_assert(!w.server_closed);
	ck_assert(!came(GOAWAY, 0));
	world_done(&w);
}
END_TEST

START_TEST(the_guard_refills_by_the_clock)
{
	struct h2_guard g;
	h2_guard_init(&g, 0, 0, 1000);
	for (int i = 0; i < 200; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	ck_assert(!h2_guard_odd(&g, H2_ODD_RESET, 1000));
	/* 20 a second, in however small steps */
	h2_guard_init(&g, 0, 0, 1000);
	for (int i = 0; i < 200; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	unsigned taken = 0;
	for (uint64_t ms = 1001; ms <= 2000; ms++)
		if (ms % 50 == 0)
			taken += h2_guard_odd(&g, H2_ODD_RESET, ms);
	ck_assert_uint_eq(taken, 20);
}
END_TEST

START_TEST(streams_that_end_in_order_give_resets_back)
{
	struct h2_guard g;
	h2_guard_init(&g, 0, 0, 1000);
	for (int i = 0; i < 200; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	for (int i = 0; i < 1000; i++) {
		h2_guard_good(&g);
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	}
	for (int i = 0; i < 1000; i++) /* never more than the whole bucket */
		h2_guard_good(&g);
	for (int i = 0; i < 200; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	ck_assert(!h2_guard_odd(&g, H2_ODD_RESET, 1000));
}
END_TEST

START_TEST(a_larger_budget_of_resets_is_kept_to)
{
	struct h2_guard g;
	h2_guard_init(&g, 10000, 1000, 1000);
	for (int i = 0; i < 10000; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	ck_assert(!h2_guard_odd(&g, H2_ODD_RESET, 1000));
	for (int i = 0; i < 500; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1500));
	ck_assert(!h2_guard_odd(&g, H2_ODD_RESET, 1500));
}
END_TEST

START_TEST(a_ping_for_each_data_frame_is_free)
{
	struct h2_guard g;
	h2_guard_init(&g, 0, 0, 1000);
	g.data_sent = 5000;
	for (int i = 0; i < 5100; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_PING, 1000));
	ck_assert(!h2_guard_odd(&g, H2_ODD_PING, 1000));
}
END_TEST

static enum h2_ids_says frame_on(struct h2_ids *ids, uint8_t type, uint32_t id, uint8_t flags)
{
	struct h2_frame_head f = {.type = type, .stream = id, .flags = flags, .length = 1};
	return h2_ids_frame(ids, &f);
}

START_TEST(frames_on_streams_that_their_sender_ended_are_seen)
{
	struct h2_ids ids = {0};
	ck_assert_int_eq(frame_on(&ids, HEADERS, 1, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, DATA, 1, 0), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 1, END_STREAM | END_HEADERS), H2_IDS_FINE); /* trailers */
	ck_assert_int_eq(frame_on(&ids, DATA, 1, 0), H2_IDS_CLOSED);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 1, 0), H2_IDS_CLOSED);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 3, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, RST_STREAM, 3, 0), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, RST_STREAM, 3, 0), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, WINDOW_UPDATE, 3, 0), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, DATA, 3, END_STREAM), H2_IDS_CLOSED);
	/* of what has been forgotten nothing is said */
	for (uint32_t id = 5; id < 5 + 2 * H2_IDS_ENDED; id += 2)
		ck_assert_int_eq(frame_on(&ids, HEADERS, id, END_STREAM | END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, DATA, 1, 0), H2_IDS_FINE);
}
END_TEST

START_TEST(streams_that_were_passed_over_are_not_opened_any_more)
{
	struct h2_ids ids = {0};
	ck_assert_int_eq(frame_on(&ids, HEADERS, 5, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 3, END_HEADERS), H2_IDS_UNUSED);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 5, END_STREAM), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 7, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 0x7fffffff, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 0x7ffffffd, END_HEADERS), H2_IDS_UNUSED);
	ck_assert_int_eq(frame_on(&ids, DATA, 7, 0), H2_IDS_FINE);
}
END_TEST

/* --- protocol errors and silence --- */

START_TEST(what_is_not_http2_closes_the_connection)
{
	struct world w;
	world_raw(&w, HTTP_SERVER, NULL);
	out.n = in.n = 0;
	raw_bytes("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 27);
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_PEER_PROTOCOL);
	world_done(&w);
}
END_TEST

START_TEST(a_frame_error_is_answered_with_its_code)
{
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	raw_headers(1, END_STREAM | END_HEADERS, hold_head);
	raw_frame(PING, 0, 0, "short", 5);
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_PEER_PROTOCOL);
	ck_assert_uint_eq(goaway_code(), 6); /* FRAME_SIZE_ERROR */
	ck_assert(no_servings(&w));
	world_done(&w);
}
END_TEST

START_TEST(silence_before_the_preface_ends)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.preface_ms = 50;
	world_raw(&w, HTTP_SERVER, &lim);
	out.n = in.n = 0;
	raw_bytes("PRI * HTTP/2.0\r\n", 16);
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_HEAD_TIMEOUT);
	world_done(&w);
}
END_TEST

START_TEST(a_header_block_that_does_not_end_ends)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.head_timeout_ms = 50;
	raw_start(&w, HTTP_SERVER, &lim);
	raw_headers(1, 0, hold_head);
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_HEAD_TIMEOUT);
	world_done(&w);
}
END_TEST

START_TEST(a_frame_that_does_not_end_ends)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.head_timeout_ms = 50;
	raw_start(&w, HTTP_SERVER, &lim);
	if (_i == 0)
		raw_bytes("\0\0\x08\x06\0", 5); /* a part of a frame's head */
	else
		raw_bytes("\0\0\x08\x06\0\0\0\0\0abcd", 13); /* PING with half of its bytes */
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_HEAD_TIMEOUT);
	world_done(&w);
}
END_TEST

/* Cut in the midst of a frame each time, but another one: that is progress. And DATA may take as long as it likes. */
START_TEST(frames_that_do_end_may_be_cut_anywhere)
{
	struct http_limits lim = http_limits_default;
	struct pumping p;
	struct world w;
	lim.head_timeout_ms = 200;
	raw_start(&w, HTTP_SERVER, &lim);
	raw_bytes("\0\0\x08\x06\0\0\0\0\0abcd", 13);
	for (int i = 0; i < 10; i++) {
		p = (struct pumping){&w, 0, no_servings, &w};
		pump(&p);
		run_ms(&w, 50);
		out.n = 0;
		raw_bytes("efgh\0\0\x08\x06\0\0\0\0\0abcd", 17);
	}
	raw_bytes("efgh", 4);
	raw_headers(1, END_HEADERS, stall_head);
	raw_bytes("\0\0\x08\0\0\0\0\0\x01"
		  "abcd",
		  13);
	p = (struct pumping){&w, 0, no_servings, &w};
	pump(&p);
	run_ms(&w, 400);
	ck_assert(!w.server_closed);
	world_done(&w);
}
END_TEST

START_TEST(a_dead_peer_is_found_by_ping)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.ping_ms = 50;
	raw_start(&w, HTTP_SERVER, &lim);
	raw_headers(1, END_STREAM | END_HEADERS, hold_head);
	raw_until(&w, server_gone, &w);
	ck_assert(came(PING, 0) != NULL);
	ck_assert_int_eq(w.server_reason, REASON_CLIENT_GONE);
	ck_assert_int_eq(w.server_reset.reason, REASON_CLIENT_GONE);
	world_done(&w);
}
END_TEST

/* --- as a client --- */

static bool sent_request(void *arg)
{
	return came(HEADERS, (uint32_t)(uintptr_t)arg) != NULL;
}

START_TEST(goaway_tells_which_streams_were_never_processed)
{
	static const uint8_t last_is_1[8] = {0, 0, 0, 1, 0, 0, 0, 0};
	struct world w;
	struct call a, b;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	call_start(&w, &a, "POST", "/x", BODY_OPEN);
	call_start(&w, &b, "POST", "/x", BODY_OPEN);
	raw_until(&w, sent_request, (void *)3);
	raw_frame(GOAWAY, 0, 0, last_is_1, 8);
	raw_until(&w, is_over, &b);
	ck_assert(b.reset && b.why.unprocessed);
	ck_assert_int_eq(b.why.reason, REASON_REFUSED);
	ck_assert(!is_over(&a));
	ck_assert(w.client_draining);
	ck_assert_uint_eq(codec_h2.room(w.client), 0);
	/* The one that it knows goes on: 200 with END_STREAM, and nothing more is wanted of us. */
	raw_frame(HEADERS, END_STREAM | END_HEADERS, 1, "\x88", 1);
	raw_until(&w, is_over, &a);
	ck_assert_uint_eq(a.status, 200);
	codec_h2.send_end(a.st, NULL);
	codec_h2.close(a.st);
	raw_until(&w, client_gone, &w);
	ck_assert_int_eq(w.client_reason, REASON_NONE);
	call_done(&a);
	call_done(&b);
	world_done(&w);
}
END_TEST

static const struct {
	const char *what;
	const char *kv[10];
	uint8_t flags;
} bad_answers[] = {
    {"101", {":status", "101"}, END_HEADERS},
    {"two digits", {":status", "20"}, END_HEADERS},
    {"no status", {"x", "y"}, END_HEADERS},
    {"request pseudo-field", {":status", "200", ":path", "/"}, END_HEADERS},
    {"transfer-encoding", {":status", "200", "transfer-encoding", "chunked"}, END_HEADERS},
    {"connection", {":status", "200", "connection", "close"}, END_HEADERS},
    {"1xx with END_STREAM", {":status", "103"}, END_HEADERS | END_STREAM},
    {"length without body", {":status", "200", "content-length", "5"}, END_HEADERS | END_STREAM},
};

START_TEST(malformed_answers_are_resets_of_the_upstream)
{
	struct world w;
	struct call c;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	call_start(&w, &c, "GET", "/x", 0);
	raw_until(&w, sent_request, (void *)1);
	raw_headers(1, bad_answers[_i].flags, bad_answers[_i].kv);
	raw_until(&w, is_over, &c);
	ck_assert_msg(c.reset && c.why.reason == REASON_UPSTREAM_PROTOCOL && !c.why.unprocessed, "%s",
		      bad_answers[_i].what);
	ck_assert(!w.client_closed);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(a_head_that_never_left_is_unprocessed)
{
	struct world w;
	struct call c;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	/* The peer goes in the same turn in which the request is made. */
	shutdown(w.raw, SHUT_RDWR);
	call_start(&w, &c, "POST", "/x", 1000);
	ck_assert(until(&w, client_gone, &w));
	ck_assert(c.reset && c.why.unprocessed);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(push_is_refused)
{
	static const uint8_t promise[] = {0, 0, 0, 2, 0x82, 0x86, 0x84};
	struct world w;
	struct call c;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	call_start(&w, &c, "GET", "/x", 0);
	raw_until(&w, sent_request, (void *)1);
	/* Our SETTINGS (ENABLE_PUSH 0) are acknowledged: a promise is an error then. */
	raw_frame(SETTINGS, 1, 0, NULL, 0);
	raw_frame(PUSH_PROMISE, END_HEADERS, 1, promise, sizeof(promise));
	raw_until(&w, client_gone, &w);
	ck_assert_int_eq(w.client_reason, REASON_UPSTREAM_PROTOCOL);
	ck_assert(c.reset);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(frame_boundaries_are_followed_byte_by_byte)
{
	static const uint8_t bytes[] = {0, 0, 1, HEADERS, 0, 0, 0, 0, 1, 'h', 0, 0, 0, CONTINUATION, 4, 0, 0, 0, 1};
	struct h2_frame_head f;
	struct h2_track t;
	unsigned heads = 0;
	bool head;
	h2_track_init(&t, true);
	for (int i = 0; i < 24; i++)
		ck_assert_uint_eq(h2_track_step(&t, (const uint8_t *)"x", 1, &head, &f), 1);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ck_assert_uint_eq(h2_track_step(&t, bytes + i, 1, &head, &f), 1);
		heads += head;
		ck_assert_int_eq(t.in_block, i >= 8 && i + 1 < sizeof(bytes));
	}
	ck_assert_uint_eq(heads, 2);
}
END_TEST

START_TEST(an_upstream_that_floods_is_left_with_a_reason_that_the_client_can_be_told)
{
	struct world w;
	struct call c;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	call_start(&w, &c, "GET", "/x", 0);
	raw_until(&w, sent_request, (void *)1);
	for (uint32_t i = 0; i < 130; i++)
		one_of_a_flood((enum flood)_i, i);
	raw_until(&w, client_gone, &w);
	ck_assert_int_eq(w.client_reason, REASON_UPSTREAM_FLOOD);
	ck_assert_int_eq(c.why.reason, REASON_UPSTREAM_FLOOD);
	ck_assert_uint_eq(reason_row(c.why.reason)->http_status, 502);
	call_done(&c);
	world_done(&w);
}
END_TEST

Suite *h2_wire_suite(void);
Suite *h2_wire_suite(void)
{
	Suite *s = suite_create("h2_wire");
	TCase *t = tcase_create("server");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, malformed_heads_are_reset_and_never_reported, 0, ARRAY_LEN(bad_heads));
	tcase_add_loop_test(t, odd_but_legal_heads_are_served, 0, ARRAY_LEN(good_heads));
	tcase_add_test(t, too_many_fields_are_answered_431);
	tcase_add_test(t, a_long_target_is_answered_414);
	tcase_add_test(t, an_hpack_bomb_costs_the_stream);
	tcase_add_test(t, a_body_that_belies_its_length_is_reset);
	tcase_add_loop_test(t, floods_end_the_connection, 0, FLOOD_COUNT);
	tcase_add_test(t, what_honest_peers_send_is_no_flood);
	tcase_add_loop_test(t, requests_that_come_at_once_begin_in_turns_and_all_are_served, 0, 2);
	tcase_add_test(t, who_gives_up_many_requests_begins_fewer_in_a_turn);
	tcase_add_test(t, a_stranger_begins_fewer_in_a_turn);
	tcase_add_test(t, heads_count_by_what_they_unpack_to);
	tcase_add_test(t, settings_count_by_the_streams_whose_windows_they_move);
	tcase_add_test(t, requests_before_the_end_of_the_connection_all_begin);
	tcase_add_test(t, the_guard_refills_by_the_clock);
	tcase_add_test(t, streams_that_end_in_order_give_resets_back);
	tcase_add_test(t, a_larger_budget_of_resets_is_kept_to);
	tcase_add_test(t, a_ping_for_each_data_frame_is_free);
	tcase_add_test(t, frames_on_streams_that_their_sender_ended_are_seen);
	tcase_add_test(t, streams_that_were_passed_over_are_not_opened_any_more);
	tcase_add_test(t, what_is_not_http2_closes_the_connection);
	tcase_add_test(t, a_frame_error_is_answered_with_its_code);
	tcase_add_test(t, silence_before_the_preface_ends);
	tcase_add_test(t, a_header_block_that_does_not_end_ends);
	tcase_add_loop_test(t, a_frame_that_does_not_end_ends, 0, 2);
	tcase_add_test(t, frames_that_do_end_may_be_cut_anywhere);
	tcase_add_test(t, a_dead_peer_is_found_by_ping);
	tcase_add_test(t, frame_boundaries_are_followed_byte_by_byte);
	suite_add_tcase(s, t);
	t = tcase_create("client");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, goaway_tells_which_streams_were_never_processed);
	tcase_add_loop_test(t, malformed_answers_are_resets_of_the_upstream, 0, ARRAY_LEN(bad_answers));
	tcase_add_test(t, a_head_that_never_left_is_unprocessed);
	tcase_add_test(t, push_is_refused);
	tcase_add_loop_test(t, an_upstream_that_floods_is_left_with_a_reason_that_the_client_can_be_told, FLOOD_PING,
			    FLOOD_SETTINGS + 1);
	suite_add_tcase(s, t);
	return s;
}

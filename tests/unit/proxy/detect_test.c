/* SPDX-License-Identifier: Apache-2.0 */
/* What first bytes are taken for, whole and cut at every place. */
#include "proxy/detect.h"

#include <check.h>
#include <stdlib.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static const struct {
	const char *bytes;
	size_t len;
	enum detected is;
} plain[] = {
#define BYTES(b, is)                 \
	{                            \
		b, sizeof(b) - 1, is \
	}
    BYTES("GET / HTTP/1.1\r\n", DETECT_HTTP1),
    BYTES("GET http://a/b?c HTTP/1.0\r\n", DETECT_HTTP1),
    BYTES("X-ODD~METHOD! * HTTP/", DETECT_HTTP1),
    BYTES("CONNECT a:443 HTTP/1.1\r\n", DETECT_HTTP1),
    BYTES(PREFACE, DETECT_HTTP2),
    BYTES("PRI / HTTP/1.1\r\n", DETECT_HTTP1),
    BYTES("GET /\r\n", DETECT_OPAQUE),
    BYTES("GET  / HTTP/1.1\r\n", DETECT_OPAQUE),
    BYTES("*3\r\n$3\r\nSET\r\n", DETECT_OPAQUE),
    BYTES("EHLO client\r\n", DETECT_OPAQUE),
    BYTES("SSH-2.0-OpenSSH\r\n", DETECT_OPAQUE),
    BYTES("\x00\x00\x00\x00", DETECT_OPAQUE),
    BYTES("\x16\x02\x01", DETECT_TLS),
    BYTES("\x16\x03\x01\x00\x04\x02\x00\x00\x00", DETECT_TLS),
    BYTES("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHI", DETECT_OPAQUE),
    BYTES("GET", DETECT_MORE),
    BYTES("GET /a", DETECT_MORE),
    BYTES("", DETECT_MORE),
};

START_TEST(first_bytes_are_taken_for_what_they_are)
{
	enum detected d = detect_bytes(str_make(plain[_i].bytes, plain[_i].len));
	ck_assert_msg(d == plain[_i].is, "\"%s\" is %s", plain[_i].bytes, detected_name(d));
}
END_TEST

START_TEST(a_verdict_never_changes_with_more_bytes)
{
	enum detected last = DETECT_MORE;
	for (size_t n = 0; n <= plain[_i].len; n++) {
		enum detected d = detect_bytes(str_make(plain[_i].bytes, n));
		if (last != DETECT_MORE)
			ck_assert_int_eq(d, last);
		last = d;
	}
}
END_TEST

/* A ClientHello body with one ALPN extension, in records of at most `piece` bytes. */
static size_t hello(const char *alpn, size_t piece, uint8_t *out)
{
	uint8_t h[512] = {1, 0, 0, 0, 3, 3};
	size_t n = 6 + 32, a = strlen(alpn), rec = 0;
	h[n++] = 0;                                           /* session id */
	memcpy(h + n, "\x00\x02\x13\x01\x01\x00", 6), n += 6; /* one suite, no compression */
	size_t exts = 4 + 4 + 7 + a;                          /* an unknown extension, then ALPN */
	h[n++] = 0, h[n++] = (uint8_t)exts;
	memcpy(h + n, "\x00\x2b\x00\x04\x03\x04\x03\x03", 8), n += 8;
	h[n++] = 0, h[n++] = 16, h[n++] = 0, h[n++] = (uint8_t)(a + 3), h[n++] = 0, h[n++] = (uint8_t)(a + 1);
	h[n++] = (uint8_t)a;
	memcpy(h + n, alpn, a), n += a;
	h[2] = (uint8_t)((n - 4) >> 8), h[3] = (uint8_t)(n - 4);
	for (size_t at = 0; at < n; at += piece) {
		size_t len = n - at < piece ? n - at : piece;
		memcpy(out + rec, "\x16\x03\x01\x00", 4);
		out[rec + 4] = (uint8_t)len;
		memcpy(out + rec + 5, h + at, len);
		rec += 5 + len;
	}
	return rec;
}

static const struct {
	const char *alpn;
	enum detected is;
} hellos[] = {
    {"weft1-h2", DETECT_MESH_H2}, {"weft1-tcp", DETECT_MESH_TCP}, {"h2", DETECT_TLS}, {"weft1-h22", DETECT_TLS}};

START_TEST(a_client_hello_is_judged_whole_however_it_is_split)
{
	uint8_t bytes[4096];
	for (size_t piece = 1; piece <= 200; piece++) {
		size_t n = hello(hellos[_i].alpn, piece, bytes);
		for (size_t have = 0; have < n; have++) {
			enum detected d = detect_bytes(str_make(bytes, have));
			ck_assert_msg(d == DETECT_MORE, "piece %zu, %zu of %zu bytes: %s", piece, have, n,
				      detected_name(d));
		}
		ck_assert_int_eq(detect_bytes(str_make(bytes, n)), hellos[_i].is);
	}
}
END_TEST

START_TEST(a_damaged_client_hello_is_never_the_mesh_own_by_accident)
{
	uint8_t bytes[4096], hurt[4096];
	size_t n = hello("h2", 4096, bytes);
	srand(1);
	for (int round = 0; round < 20000; round++) {
		memcpy(hurt, bytes, n);
		for (int k = 0; k < 3; k++)
			hurt[(size_t)rand() % n] = (uint8_t)rand();
		uint8_t *exact = malloc(n); /* so that the sanitizer sees a read past the end */
		memcpy(exact, hurt, n);
		enum detected d = detect_bytes(str_make(exact, n));
		free(exact);
		ck_assert_int_ne(d, DETECT_MESH_H2);
		ck_assert_int_ne(d, DETECT_MESH_TCP);
	}
}
END_TEST

static const struct {
	const char *bytes;
	size_t len;
	enum heard is;
} heard[] = {
    BYTES("220 mail ESMTP\r\n", HEARD_SPEECH),
    BYTES("\x4a\0\0\0\x0a"
	  "8.0.36",
	  HEARD_SPEECH), /* MySQL */
    BYTES("SSH-2.0-x\r\n", HEARD_SPEECH),
    BYTES("-DENIED Redis", HEARD_SPEECH),
    BYTES("\0\0\x12\4\0\0\0\0\0"
	  "\0\3\0\0\0\x64",
	  HEARD_HTTP),                         /* SETTINGS */
    BYTES("\0\0\0\4\0\0\0\0\0", HEARD_HTTP),   /* of no settings */
    BYTES("\0\0\0\4\1\0\0\0\0", HEARD_SPEECH), /* an ACK comes second */
    BYTES("\0\0\5\4\0\0\0\0\0", HEARD_SPEECH), /* no whole setting */
    BYTES("\0\0\6\4\0\0\0\0\1", HEARD_SPEECH), /* not the connection's */
    BYTES("\0\0\0\6\0\0\0\0\0", HEARD_SPEECH), /* a PING */
    BYTES("HTTP/1.1 408 Request Timeout\r\n", HEARD_HTTP),
    BYTES("HTTP/1.0 408 ", HEARD_HTTP),
    BYTES("HTTP/1.1 200 OK\r\n", HEARD_SPEECH),
    BYTES("HTTP/2.0 408", HEARD_SPEECH),
};

#undef BYTES

START_TEST(what_a_server_says_first_is_speech_but_for_settings_and_408)
{
	struct str s = str_make(heard[_i].bytes, heard[_i].len);
	ck_assert_int_eq(detect_server(s, false), heard[_i].is);
	ck_assert_int_eq(detect_server(s, true), heard[_i].is);
	for (size_t n = 1; n < s.len; n++) { /* cut anywhere: not sure, or the same; at the end it is speech */
		enum heard h = detect_server(str_make(s.p, n), false);
		ck_assert(h == HEARD_MORE || h == heard[_i].is);
		if (h == HEARD_MORE)
			ck_assert_int_eq(detect_server(str_make(s.p, n), true), HEARD_SPEECH);
	}
}
END_TEST

START_TEST(a_server_that_says_nothing_is_no_evidence_and_its_end_is_its_end)
{
	ck_assert_int_eq(detect_server(STR(""), false), HEARD_NOTHING);
	ck_assert_int_eq(detect_server(STR(""), true), HEARD_END);
}
END_TEST

Suite *detect_suite(void);
Suite *detect_suite(void)
{
	Suite *s = suite_create("detect");
	TCase *t = tcase_create("detect");
	tcase_add_loop_test(t, first_bytes_are_taken_for_what_they_are, 0, (int)(sizeof(plain) / sizeof(plain[0])));
	tcase_add_loop_test(t, a_verdict_never_changes_with_more_bytes, 0, (int)(sizeof(plain) / sizeof(plain[0])));
	tcase_add_loop_test(t, a_client_hello_is_judged_whole_however_it_is_split, 0, 4);
	tcase_add_test(t, a_damaged_client_hello_is_never_the_mesh_own_by_accident);
	tcase_add_loop_test(t, what_a_server_says_first_is_speech_but_for_settings_and_408, 0,
			    (int)(sizeof(heard) / sizeof(heard[0])));
	tcase_add_test(t, a_server_that_says_nothing_is_no_evidence_and_its_end_is_its_end);
	suite_add_tcase(s, t);
	return s;
}

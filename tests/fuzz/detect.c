/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz detect: any bytes as the first ones of a connection, the client's and the server's. Detection is asked again after every
 * piece, so it must never take a verdict back: not with one byte more, and not because of the bytes behind them. An input is
 * the length of the client's bytes (u16), those, and the server's. */
#include "proxy/detect.h"

#include "lib/http/parse.h"
#include "lib/mem.h"

#define EACH_MAX 700 /* bytes of which every prefix is tried; of more only some */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In a block of exactly its size: a read past the end is seen. */
static enum detected client_at(struct str all, size_t n)
{
	char *exact = mem_dup(all.p ? all.p : "", n);
	enum detected d = detect_bytes(str_make(exact, n));
	mem_free(exact);
	return d;
}

static enum heard server_at(struct str all, size_t n, bool eof)
{
	char *exact = mem_dup(all.p ? all.p : "", n);
	enum heard h = detect_server(str_make(exact, n), eof);
	mem_free(exact);
	return h;
}

/* The next length to try, so that short inputs are tried at every one. */
static size_t step(struct str all, size_t n)
{
	return n + (all.len <= EACH_MAX ? 1 : 1 + n / 8);
}

/* What HTTP/1 was taken for must look like it: "token SP target SP HTTP/", or a target that no other protocol has. */
static void check_http1(struct str s)
{
	struct str method, target;
	MUST(str_cut(s, ' ', &method, &s) && http1_is_token(method) && method.len <= 32);
	if (!str_cut(s, ' ', &target, &s)) {
		MUST(target.len > 8192);
		return;
	}
	MUST(target.len > 0 && (target.len > 8192 || str_starts(s, STR("HTTP/"))));
	for (size_t i = 0; i < target.len; i++)
		MUST((uint8_t)target.p[i] > ' ' && target.p[i] != 0x7f);
}

static void check_client(struct str all)
{
	enum detected last = DETECT_MORE, whole = client_at(all, all.len);
	for (size_t n = 0; n < all.len; n = step(all, n)) {
		enum detected d = client_at(all, n);
		MUST(last == DETECT_MORE || d == last);
		last = d;
	}
	MUST(last == DETECT_MORE || whole == last);
	if (whole == DETECT_HTTP1)
		check_http1(all);
	if (whole == DETECT_HTTP2)
		MUST(str_starts(all, STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")));
	if (whole == DETECT_TLS || whole == DETECT_MESH_H2 || whole == DETECT_MESH_TCP)
		MUST(all.p[0] == 22);
	MUST(whole != DETECT_MORE || all.len < DETECT_BYTES_MAX * 6u); /* one byte a record at worst */
	MUST(detected_name(whole)[0]);
}

static void check_server(struct str all)
{
	enum heard last = HEARD_MORE;
	for (size_t n = 1; n <= all.len; n = step(all, n)) {
		enum heard h = server_at(all, n, false), ended = server_at(all, n, true);
		MUST(h != HEARD_NOTHING && h != HEARD_END);
		MUST(last == HEARD_MORE || h == last);
		MUST(ended == (h == HEARD_MORE ? HEARD_SPEECH : h));
		MUST(h != HEARD_MORE || n < HEARD_BYTES);
		last = h;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	size_t n = MIN((size_t)data[0] << 8 | data[1], size - 2);
	check_client(str_make(data + 2, n));
	check_server(str_make(data + 2 + n, size - 2 - n));
	return 0;
}

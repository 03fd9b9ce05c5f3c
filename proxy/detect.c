/* SPDX-License-Identifier: Apache-2.0 */
/* detect.c: first bytes. A ClientHello is read whole (all its records) before it is judged, however it is split: the ALPN extension
 * decides whether it is the mesh's own. Everything is bounds-checked; what does not parse is opaque or the application's TLS. */
#include "proxy/detect.h"

#include "lib/base.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct reader {
	const uint8_t *p;
	size_t left;
};

static bool take(struct reader *r, size_t n, struct reader *ret)
{
	if (r->left < n)
		return false;
	*ret = (struct reader){r->p, n};
	r->p += n;
	r->left -= n;
	return true;
}

/* A length of `bytes` bytes and as much data behind it. */
static bool take_vector(struct reader *r, size_t bytes, struct reader *ret)
{
	size_t n = 0;
	struct reader len;
	if (!take(r, bytes, &len))
		return false;
	for (size_t i = 0; i < bytes; i++)
		n = n << 8 | len.p[i];
	return take(r, n, ret);
}

static enum detected alpn_of(struct reader ext)
{
	struct reader list, name;
	if (!take_vector(&ext, 2, &list))
		return DETECT_TLS;
	while (take_vector(&list, 1, &name)) {
		struct str s = str_make(name.p, name.left);
		if (str_is(s, "weft1-h2"))
			return DETECT_MESH_H2;
		if (str_is(s, "weft1-tcp"))
			return DETECT_MESH_TCP;
	}
	return DETECT_TLS;
}

/* body: a whole ClientHello without its handshake header. */
static enum detected client_hello(struct reader body)
{
	struct reader skip, exts, ext, type;
	if (!take(&body, 2 + 32, &skip) || !take_vector(&body, 1, &skip) || !take_vector(&body, 2, &skip) ||
	    !take_vector(&body, 1, &skip) || !take_vector(&body, 2, &exts))
		return DETECT_TLS;
	while (take(&exts, 2, &type) && take_vector(&exts, 2, &ext))
		if (type.p[0] == 0 && type.p[1] == 16)
			return alpn_of(ext);
	return DETECT_TLS;
}

/* Puts the fragments of the handshake records together and judges the ClientHello once it is whole. */
static enum detected tls(struct str first)
{
	static _Thread_local uint8_t hello[DETECT_BYTES_MAX];
	size_t have = 0;
	struct reader r = {(const uint8_t *)first.p, first.len}, head, fragment;
	while (take(&r, 3, &head)) {
		if (head.p[0] != 22 || head.p[1] != 3)
			return DETECT_TLS;
		struct reader length = r;
		size_t want = length.left < 2 ? 0 : (size_t)(length.p[0] << 8 | length.p[1]);
		if (length.left >= 2 && (want == 0 || want > 16384 + 256))
			return DETECT_TLS;
		bool whole = take_vector(&r, 2, &fragment);
		if (!whole)
			fragment =
			    length.left > 2 ? (struct reader){length.p + 2, length.left - 2} : (struct reader){NULL, 0};
		if (have + fragment.left > sizeof(hello))
			return DETECT_TLS;
		if (fragment.left > 0)
			memcpy(hello + have, fragment.p, fragment.left);
		have += fragment.left;
		if (have >= 1 && hello[0] != 1)
			return DETECT_TLS;
		if (have >= 4) {
			size_t len = (size_t)hello[1] << 16 | (size_t)hello[2] << 8 | hello[3];
			if (len + 4 > sizeof(hello))
				return DETECT_TLS;
			if (have >= len + 4)
				return client_hello((struct reader){hello + 4, len});
		}
		if (!whole)
			break;
	}
	return DETECT_MORE;
}

static bool token_char(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* "METHOD SP target SP HTTP/1.": judged as HTTP as soon as the version is seen, as opaque as soon as it cannot be one. A line that ends
 * without a version is not HTTP. Methods are at most 32 bytes here. */
static enum detected request_line(struct str s)
{
	size_t i = 0;
	while (i < s.len && i <= 32 && token_char((uint8_t)s.p[i]))
		i++;
	if (i == s.len && i <= 32)
		return DETECT_MORE;
	if (i == 0 || i > 32 || s.p[i] != ' ')
		return DETECT_OPAQUE;
	size_t target = ++i;
	while (i < s.len && (uint8_t)s.p[i] > ' ' && s.p[i] != 0x7f)
		i++;
	if (i == s.len)
		return i - target > 8192 ? DETECT_HTTP1 : DETECT_MORE;
	if (i == target || s.p[i] != ' ')
		return DETECT_OPAQUE;
	struct str rest = str_make(s.p + i + 1, s.len - i - 1);
	struct str want = STR("HTTP/");
	size_t n = MIN(rest.len, want.len);
	if (memcmp(rest.p, want.p, n) != 0)
		return DETECT_OPAQUE;
	return rest.len >= want.len ? DETECT_HTTP1 : DETECT_MORE;
}

enum detected detect_bytes(struct str first)
{
	if (first.len == 0)
		return DETECT_MORE;
	if ((uint8_t)first.p[0] == 22)
		return tls(first);
	size_t n = MIN(first.len, sizeof(preface) - 1);
	if (memcmp(first.p, preface, n) == 0)
		return n == sizeof(preface) - 1 ? DETECT_HTTP2 : DETECT_MORE;
	return request_line(first);
}

/* The server's connection preface (RFC 9113 3.4): a SETTINGS frame that is no ACK, on stream 0, of whole settings. */
static enum heard settings(struct str s)
{
	static const uint8_t want[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
	size_t n = MIN(s.len, sizeof(want));
	for (size_t i = 0; i < n; i++)
		if (i != 1 && i != 2 && (uint8_t)s.p[i] != want[i])
			return HEARD_SPEECH;
	if (s.len < sizeof(want))
		return HEARD_MORE;
	return ((uint8_t)s.p[1] << 8 | (uint8_t)s.p[2]) % 6 == 0 ? HEARD_HTTP : HEARD_SPEECH;
}

/* "HTTP/1.x 408": what servers say to who kept a connection open and asked nothing. */
static enum heard idle_answer(struct str s)
{
	static const char want[] = "HTTP/1.? 408";
	size_t n = MIN(s.len, sizeof(want) - 1);
	for (size_t i = 0; i < n; i++)
		if (want[i] == '?' ? s.p[i] != '0' && s.p[i] != '1' : s.p[i] != want[i])
			return HEARD_SPEECH;
	return n == sizeof(want) - 1 ? HEARD_HTTP : HEARD_MORE;
}

enum heard detect_server(struct str first, bool eof)
{
	if (first.len == 0)
		return eof ? HEARD_END : HEARD_NOTHING;
	enum heard h = first.p[0] == 0 ? settings(first) : idle_answer(first);
	return h == HEARD_MORE && eof ? HEARD_SPEECH : h;
}

const char *detected_name(enum detected d)
{
	switch (d) {
	case DETECT_MORE:
		return "unknown";
	case DETECT_HTTP1:
		return "http1";
	case DETECT_HTTP2:
		return "http2";
	case DETECT_MESH_H2:
		return "weft1-h2";
	case DETECT_MESH_TCP:
		return "weft1-tcp";
	case DETECT_TLS:
		return "tls";
	case DETECT_OPAQUE:
		return "opaque";
	}
	return "unknown";
}

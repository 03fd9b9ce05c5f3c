/* SPDX-License-Identifier: Apache-2.0 */
/* h2_raw.c: see h2_raw.h. */
#include "tests/unit/lib/h2_raw.h"

#include <sys/socket.h>

struct raw_octets raw_out, raw_in;

const char *const raw_good_head[] = {PSEUDO("/sum"), NULL};
const char *const raw_hold_head[] = {PSEUDO("/hold"), NULL};
const char *const raw_stall_head[] = {PSEUDO("/stall"), NULL};

void raw_bytes(const void *p, size_t n)
{
	ck_assert_uint_le(raw_out.n + n, sizeof(raw_out.b));
	memcpy(raw_out.b + raw_out.n, p, n);
	raw_out.n += n;
}

void raw_frame(uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n)
{
	const uint8_t hd[9] = {(uint8_t)(n >> 16),  (uint8_t)(n >> 8),   (uint8_t)n,         type,       flags,
			       (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
	raw_bytes(hd, 9);
	if (n)
		raw_bytes(p, n);
}

size_t raw_hpack(uint8_t *to, const char *const *kv)
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

void raw_headers(uint32_t id, uint8_t flags, const char *const *kv)
{
	uint8_t block[8192];
	raw_frame(HEADERS, flags, id, block, raw_hpack(block, kv));
}

void raw_start(struct world *w, enum http_role role, const struct http_limits *lim)
{
	world_raw(w, role, lim);
	raw_out.n = raw_in.n = 0;
	if (role == HTTP_SERVER)
		raw_bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	raw_frame(SETTINGS, 0, 0, NULL, 0);
}

bool raw_pump(void *arg)
{
	struct raw_pump *p = arg;
	ssize_t n;
	while (p->at < raw_out.n && (n = send(p->w->raw, raw_out.b + p->at, raw_out.n - p->at, MSG_NOSIGNAL)) > 0)
		p->at += (size_t)n;
	while (raw_in.n < sizeof(raw_in.b) &&
	       (n = recv(p->w->raw, raw_in.b + raw_in.n, sizeof(raw_in.b) - raw_in.n, 0)) > 0)
		raw_in.n += (size_t)n;
	return p->cond(p->arg);
}

void raw_until(struct world *w, bool (*cond)(void *), void *arg)
{
	struct raw_pump p = {w, 0, cond, arg};
	ck_assert(until(w, raw_pump, &p));
	raw_pump(&p);
	raw_out.n = 0;
}

uint32_t raw_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

const uint8_t *raw_came(uint8_t type, uint32_t id)
{
	size_t preface = raw_in.n && raw_in.b[0] == 'P' ? 24 : 0;
	for (size_t at = preface; at + 9 <= raw_in.n;) {
		const uint8_t *p = raw_in.b + at;
		size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
		if (at + 9 + len > raw_in.n)
			break;
		if (p[3] == type && (id == 0 || raw_be32(p + 5) == id))
			return p;
		at += 9 + len;
	}
	return NULL;
}

uint32_t raw_goaway_code(void)
{
	const uint8_t *p = raw_came(GOAWAY, 0);
	return p ? raw_be32(p + 9 + 4) : UINT32_MAX;
}

bool raw_reset_1(void *arg)
{
	return raw_came(RST_STREAM, 1) != NULL;
}
bool raw_answered_1(void *arg)
{
	return raw_came(HEADERS, 1) != NULL;
}
bool raw_answered_3(void *arg)
{
	return raw_came(HEADERS, 3) != NULL;
}

bool raw_sent_request(void *arg)
{
	return raw_came(HEADERS, (uint32_t)(uintptr_t)arg) != NULL;
}

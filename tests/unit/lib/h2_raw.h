/* SPDX-License-Identifier: Apache-2.0 */
/* h2_raw.h: a peer of codec_h2 that writes its frames by hand: the ground of the suites h2_head, h2_flood and h2_wire. What it
 * writes gathers in raw_out until raw_until() sends it; what came since raw_start() stands in raw_in. One peer at a time. */
#ifndef WEFT_TESTS_H2_RAW_H
#define WEFT_TESTS_H2_RAW_H

#include "tests/unit/lib/h2_world.h"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
#define END_STREAM   1
#define END_HEADERS  4

/* Heads as raw_headers() and raw_hpack() take them: name, value, name, value ..., NULL. */
#define PSEUDO(path) ":method", "GET", ":scheme", "http", ":authority", "a", ":path", path
extern const char *const raw_good_head[];  /* served at once */
extern const char *const raw_hold_head[];  /* never answered */
extern const char *const raw_stall_head[]; /* its body is never consumed */

extern struct raw_octets {
	uint8_t b[4 << 20];
	size_t n;
} raw_out, raw_in;

/* world_raw(), with the preface (as a client) and SETTINGS already in raw_out. */
void raw_start(struct world *w, enum http_role role, const struct http_limits *lim);

/* Into raw_out; a test that fills it fails. */
void raw_bytes(const void *p, size_t n);
void raw_frame(uint8_t type, uint8_t flags, uint32_t id, const void *p, size_t n);
void raw_headers(uint32_t id, uint8_t flags, const char *const *kv);
/* Literals without indexing and without Huffman; texts of at most 126 bytes. Returns the length of the block. */
size_t raw_hpack(uint8_t *to, const char *const *kv);

/* Writes what is in raw_out from `at` on, reads what comes. */
struct raw_pump {
	struct world *w;
	size_t at;
	bool (*cond)(void *);
	void *arg;
};

bool raw_pump(void *pump); /* once; what its condition says */
/* Until cond(arg), or the test fails after until()'s time; raw_out is empty then. */
void raw_until(struct world *w, bool (*cond)(void *), void *arg);

uint32_t raw_be32(const uint8_t *p);
/* The first frame of this type (of this stream, unless 0) that came, from its head on; NULL: none. */
const uint8_t *raw_came(uint8_t type, uint32_t id);
uint32_t raw_goaway_code(void); /* UINT32_MAX: none came */

/* Conditions of raw_until(); the argument is not looked at. */
bool raw_reset_1(void *arg);
bool raw_answered_1(void *arg);
bool raw_answered_3(void *arg);
bool raw_sent_request(void *id); /* the codec opened the stream of this number */

#endif

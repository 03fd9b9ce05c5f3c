/* SPDX-License-Identifier: Apache-2.0 */
/* h2_world.h: two ends of codec_h2 on a socket pair and one loop, with owners that do what a path says: the ground of the
 * suite h2, and of h2_raw.h. */
#ifndef WEFT_TESTS_H2_WORLD_H
#define WEFT_TESTS_H2_WORLD_H

#include "lib/http/codec.h"
#include "lib/http/h2_window.h"
#include "lib/mem.h"

#include <check.h>

enum breakpoint { BREAK_NONE, BREAK_HEAD, BREAK_BODY, BREAK_TRAILERS, BREAK_END, BREAK_ROOM, BREAK_RESET };
enum breaker { BY_RESET, BY_CLOSE, BY_SESSION_CLOSE, BY_COUNT };

struct world {
	struct loop *loop;
	struct http_session *client, *server;
	int raw; /* the end of a peer written by hand, or -1 */
	struct list servings;
	unsigned n_servings, streams_seen, server_resets, readies;
	unsigned turn_streams, most_a_turn; /* streams that began in the turn turn_us, and in any */
	uint64_t turn_us;
	bool client_ready, client_idle, client_draining, server_draining, client_closed, server_closed;
	enum reason client_reason, server_reason;
	struct err client_err, server_err;
	struct http_reset server_reset; /* the last one */
	enum breakpoint break_at;
	enum breaker break_by;
	char path[128], authority[128], cookie[256], protocol[32], method[80];
	size_t fields;
	bool te;
	enum http_framing framing;
};

/* One exchange at the server: /echo, /sum (length in a trailer), /big/N, /hold, /stall, /refuse, /early, /hints; CONNECT: echo. */
struct serving {
	struct world *w;
	struct http_stream *st;
	struct list node;
	struct arena arena;
	struct message *m;
	struct buf held; /* taken and not yet sent on */
	size_t to_send, got;
	bool trailers_in, ended, answered, echo, out_ended;
	char path[128];
};

struct call {
	struct world *w;
	struct http_stream *st;
	struct arena arena;
	uint16_t status, informational;
	size_t got, to_send, sent;
	size_t limit; /* consumes no more than so much; 0: all */
	size_t unconsumed;
	uint64_t sum; /* of the bytes received, by position */
	bool ended, reset, out_ended;
	struct http_reset why;
	char trailer[64], field[64];
};

#define BODY_OPEN SIZE_MAX

/* lim NULL: the defaults. */
void world_pair(struct world *w, const struct http_limits *server, const struct http_limits *client);
void world_raw(struct world *w, enum http_role role, const struct http_limits *lim);
void world_done(struct world *w);
/* Runs the loop until cond(arg), looked at each millisecond; false when it does not come true within 20 s. */
bool until(struct world *w, bool (*cond)(void *), void *arg);
void run_ms(struct world *w, uint64_t ms);

bool is_ready(void *world);
bool is_over(void *call);
bool client_gone(void *world);
bool server_gone(void *world);
bool both_gone(void *world);
bool no_servings(void *world);

/* body: bytes to send, 0: none, BODY_OPEN: the test sends and ends itself. */
void call_start(struct world *w, struct call *c, const char *method, const char *path, size_t body);
void call_open(struct world *w, struct call *c); /* no head yet */
void call_done(struct call *c);
uint64_t call_sum(size_t n); /* what `sum` must be for n bytes echoed */

#endif

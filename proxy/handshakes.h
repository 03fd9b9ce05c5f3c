/* SPDX-License-Identifier: Apache-2.0 */
/* handshakes.h: how many TLS handshakes of callers are worked on at once, and how many begin in one turn of the loop. A handshake is
 * the dearest thing that a stranger can ask for: signatures on our side before anything is known of the other. Those beyond the limits
 * wait in their order; what is open already goes on between them. Knows neither sessions nor connections. */
#ifndef WEFT_PROXY_HANDSHAKES_H
#define WEFT_PROXY_HANDSHAKES_H

#include "lib/loop.h"

#define HANDSHAKES_MAX     128  /* begun and not ended, of the process */
#define HANDSHAKES_WAITING 1024 /* of the process; beyond it callers are turned away */
#define HANDSHAKES_A_TURN  4
#define HANDSHAKE_SPARE_MS 500 /* who takes longer makes room when others wait; else it has its own time limit */

struct handshakes;

/* Embedded by its user; list_init(&node) first. */
struct handshake {
	struct list node;
	uint64_t since_ms;
	bool begun;
	void (*on_begin)(struct handshake *h); /* its turn has come */
	void (*on_evict)(struct handshake *h); /* it shall make room: out of the list already */
};

/* `threads` (at least 1): so many of these share the limits of the process; each has an even part, as it has of the connections. */
struct handshakes *handshakes_new(struct loop *loop, unsigned threads);
void handshakes_free(struct handshakes **h); /* nobody is in it any more */
/* Queues it; on_begin comes at the end of this turn at the earliest. False: too many wait. */
bool handshakes_enter(struct handshakes *h, struct handshake *one) MUST_USE;
/* It ended one way or the other, waiting or begun. Safe when it is not in. */
void handshakes_leave(struct handshakes *h, struct handshake *one);
/* Begun and not ended; waiting. */
size_t handshakes_begun(const struct handshakes *h);
size_t handshakes_waiting(const struct handshakes *h);

#endif

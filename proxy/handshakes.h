/* SPDX-License-Identifier: Apache-2.0 */
/* handshakes.h: how many TLS handshakes of callers are worked on at once, and when each is. A handshake is the dearest thing that a stranger
 * can ask for: signatures before anything is known of the other, half a millisecond and more in one go. So they take *steps* one at a time
 * (the first, which answers the ClientHello; another, when the caller's certificate has come), and between two of them everything else has
 * the loop: until it has nothing else to do, or for as long as the step took. Those beyond the limits wait in their
 * order. Knows neither sessions nor connections. */
#ifndef WEFT_PROXY_HANDSHAKES_H
#define WEFT_PROXY_HANDSHAKES_H

#include "lib/loop.h"

#define HANDSHAKES_MAX     128  /* begun and not ended, of the process */
#define HANDSHAKES_WAITING 1024 /* of the process; beyond it callers are turned away */
#define HANDSHAKE_SPARE_MS 500  /* who takes longer makes room when others wait; else it has its own time limit */
#define HANDSHAKE_DEAR_US  50   /* a step that took less was none (a part of a message): no rest after it */

struct handshakes;

/* Embedded by its user; handshake_init() first. */
struct handshake {
	struct list node;  /* waiting or begun */
	struct list ready; /* begun, and a step of it waits */
	uint64_t since_ms;
	bool begun;
	bool first; /* begun, and its first step has not been taken */
	void (*on_begin)(
	    struct handshake *h); /* its turn has come: it has the first step free, at the end of this turn */
	void (*on_step)(struct handshake *h);  /* take the step that handshakes_step() has put off */
	void (*on_evict)(struct handshake *h); /* it shall make room: out of the list already */
};
void handshake_init(struct handshake *one);

/* `threads` (at least 1): so many of these share the limits of the process; each has an even part, as it has of the connections. */
struct handshakes *handshakes_new(struct loop *loop, unsigned threads);
void handshakes_free(struct handshakes **h); /* nobody is in it any more */
/* Queues it; on_begin comes at the end of this turn at the earliest. False: too many wait. */
bool handshakes_enter(struct handshakes *h, struct handshake *one) MUST_USE;
/* One that has begun has something to work on. False: later, on_step comes. */
bool handshakes_step(struct handshakes *h, struct handshake *one) MUST_USE;
/* It ended one way or the other, waiting or begun. Safe when it is not in. */
void handshakes_leave(struct handshakes *h, struct handshake *one);
/* Begun and not ended; waiting. */
size_t handshakes_begun(const struct handshakes *h);
size_t handshakes_waiting(const struct handshakes *h);

#endif

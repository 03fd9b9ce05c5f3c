/* SPDX-License-Identifier: Apache-2.0 */
/* turns.h: whoever has much to ask of a loop takes turns with the others who have. It knows no protocol: a *taker* (an HTTP/2 connection)
 * begins *pieces* of work (requests).
 *
 * A taker that asks little never waits: the first pieces of a round, its share, it may begin as they come. Who wants more waits in a queue,
 * and at the start of each turn of the loop those at its head begin TURNS_POINTS worth of pieces between them, a share each. A round is over
 * when each who waited at its beginning has had a share; with nobody waiting it is over when the turn is. So what all of them may begin in a
 * turn does not grow with their number, and who comes with one request waits for one such turn, never for the queue. */
#ifndef WEFT_LIB_TURNS_H
#define WEFT_LIB_TURNS_H

#include "lib/loop.h"

#define TURNS_POINTS 64 /* of work that had to wait, in one turn; a piece costs 1 or more (taker.cost) */

/* Embedded by its user, who sets `share`, `cost` (at least 1) and `go`, after taker_init(). */
struct taker {
	struct list node; /* in the queue */
	uint64_t round;   /* the last one in which it has had a share */
	uint32_t left;    /* pieces that it may begin now; its user counts down */
	uint32_t share;   /* pieces in a round */
	uint32_t cost;    /* points each */
	/* It has waited, and may begin `left` pieces; with more to do than that it asks for its next turn. May close itself or others. */
	void (*go)(struct taker *k);
};

struct turns;
struct turns *loop_turns(struct loop *loop); /* the loop's own: made when it is first asked for, freed with the loop */
void taker_init(struct taker *k, void (*go)(struct taker *k));
/* New work came, without any wait: `left` is what it may begin of it, 0 while it waits. */
void turns_enter(struct turns *t, struct taker *k);
/* There is more: go() comes in one of the next turns of the loop. */
void turns_wait(struct turns *t, struct taker *k);
void turns_leave(struct taker *k); /* it is going away; safe when it does not wait */
static inline bool turns_waits(const struct taker *k)
{
	return !list_empty(&k->node);
}

#endif

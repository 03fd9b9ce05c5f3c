/* SPDX-License-Identifier: Apache-2.0 */
/* turns.h: whoever has much to ask of a loop takes turns with the others who have. It knows no protocol: a *taker* (an HTTP/2 connection)
 * does work (begins requests, unpacks heads), which its user counts in *points* of about ten microseconds.
 *
 * A taker that asks little never waits: the first points of a round, its share, it may spend as its work comes. Who wants more waits in a
 * queue, and at the start of each turn of the loop those at its head spend TURNS_POINTS between them, a share each. A *stranger*, of whom
 * nothing good is known yet, spends of these points from the first, as long as there are any, and, where it is *paced*, no more than
 * TURNS_PACE in a ms: turns that follow each other without sleep would let strangers have the whole processor. A round is over
 * when each who waited at its beginning has had a share; with nobody waiting it is over when the turn is. So what all of them may ask of a
 * turn does not grow with their number, and who is known and comes with one request waits for one such turn, never for the queue. */
#ifndef WEFT_LIB_TURNS_H
#define WEFT_LIB_TURNS_H

#include "lib/loop.h"

#define TURNS_POINTS   64   /* of work that had to wait, or that strangers ask for, in one turn */
#define TURNS_PACE     128  /* of paced strangers, in a ms: requests of theirs take a quarter of a processor */
#define TURNS_PACE_MAX 512  /* after a time without them: what a timer that comes late may have missed */
#define TURNS_DEBT_MAX 1024 /* points that dear work may take from the turns that follow, or from the pace */

/* Embedded by its user, who sets `share`, `stranger` and `paced` after taker_init(). */
struct taker {
	struct list node; /* in the queue */
	uint64_t round;   /* the last one in which it has had a share */
	int32_t
	    left; /* points that it may spend now; its user counts down, beneath 0 where work was dearer than it looked */
	int32_t had;   /* what `left` was when turns.c last looked */
	int32_t share; /* points in a round, at least 1 */
	bool stranger;
	bool paced; /* where it is a stranger, by the clock, too */
	/* It has waited, and may spend `left`; with more to do than that it asks for its next turn. May close itself or others. */
	void (*go)(struct taker *k);
};

struct turns;
struct turns *loop_turns(struct loop *loop); /* the loop's own: made when it is first asked for, freed with the loop */
void taker_init(struct taker *k, void (*go)(struct taker *k));
/* New work came, without any wait: `left` is what it may spend on it, 0 while it waits. */
void turns_enter(struct turns *t, struct taker *k);
/* That work is done, as far as `left` went: what others pay for is taken from their points. */
void turns_spent(struct turns *t, struct taker *k);
/* Work of `k` that nobody could put off (the end of a connection with all that is open on it): the turns that follow have so much less, and
 * so has the pace. */
void turns_owe(struct turns *t, const struct taker *k, uint32_t points);
/* There is more: go() comes in one of the next turns of the loop. */
void turns_wait(struct turns *t, struct taker *k);
void turns_leave(struct taker *k); /* it is going away; safe when it does not wait */
static inline bool turns_waits(const struct taker *k)
{
	return !list_empty(&k->node);
}

#endif

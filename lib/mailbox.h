/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox.h: letters from any thread to one. Lock-free: a letter is put in with one compare-and-swap and all are taken out with one
 * exchange, so that no sender ever waits for another one or for the reader. loop.h has one for each loop and wakes it.
 *
 * A letter is embedded in what it is about, as `struct task` is: the mailbox owns nothing, allocates nothing, and holds as many letters
 * as there are. Who makes letters bounds them (loop_post() does). */
#ifndef WEFT_LIB_MAILBOX_H
#define WEFT_LIB_MAILBOX_H

#include "lib/base.h"

/* Zeroed, then letter_init(). It must stay where it is while it is on its way. */
struct letter {
	struct letter *next;
	bool sent; /* atomic: on its way, and not opened yet */
	void (*open)(struct letter *l);
};
void letter_init(struct letter *l, void (*open)(struct letter *l));

/* Zeroed: empty. */
struct mailbox {
	struct letter *last; /* atomic: the youngest; each points to the one before */
};

/* Any thread. A letter that is on its way already is not put in again: its reader has yet to open it, and sees by then all that the
 * caller wrote before. True: it went into an empty mailbox, so the reader is to be woken. */
bool mailbox_put(struct mailbox *m, struct letter *l) MUST_USE;
/* The reader alone: opens every letter that is there, the oldest first. When open() runs the letter may be sent again, or freed.
 * Letters that arrive meanwhile stay. */
void mailbox_open(struct mailbox *m);

#endif

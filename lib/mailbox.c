/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox.c: a stack that any thread pushes on and one thread takes whole (Treiber). Only the taker removes, and it removes everything:
 * a letter is never compared with its own successor, so there is no ABA. */
#include "lib/mailbox.h"

void letter_init(struct letter *l, void (*open)(struct letter *l))
{
	*l = (struct letter){.open = open};
}

bool mailbox_put(struct mailbox *m, struct letter *l)
{
	MUST(l->open != NULL);
	if (__atomic_exchange_n(&l->sent, true, __ATOMIC_ACQ_REL))
		return false;
	struct letter *last = __atomic_load_n(&m->last, __ATOMIC_RELAXED);
	do {
		l->next = last;
	} while (!__atomic_compare_exchange_n(&m->last, &last, l, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	return last == NULL;
}

/* The oldest first. */
static struct letter *reversed(struct letter *l)
{
	struct letter *first = NULL;
	while (l != NULL) {
		struct letter *before = l->next;
		l->next = first;
		first = l;
		l = before;
	}
	return first;
}

void mailbox_open(struct mailbox *m)
{
	struct letter *l = reversed(__atomic_exchange_n(&m->last, NULL, __ATOMIC_ACQUIRE));
	while (l != NULL) {
		struct letter *next = l->next;
		/* Before open(): what is written after this and sent again is put in again. */
		(void)__atomic_exchange_n(&l->sent, false, __ATOMIC_ACQ_REL);
		l->open(l);
		l = next;
	}
}

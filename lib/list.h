/* SPDX-License-Identifier: Apache-2.0 */
/* list.h: intrusive doubly linked list with a head. A node is in one list at a time; an unlinked node points to itself. */
#ifndef WEFT_LIB_LIST_H
#define WEFT_LIB_LIST_H

#include "lib/base.h"

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_add_between(struct list *n, struct list *prev, struct list *next)
{
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}
static inline void list_push(struct list *head, struct list *n) /* at the end */
{
	list_add_between(n, head->prev, head);
}
static inline void list_push_front(struct list *head, struct list *n)
{
	list_add_between(n, head, head->next);
}
static inline void list_remove(struct list *n) /* safe on an unlinked, initialised node */
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#define list_first(head, type, field) (list_empty(head) ? NULL : CONTAINER_OF((head)->next, type, field))
#define list_for_each(it, head, type, field)                                           \
	for (type *it = CONTAINER_OF((head)->next, type, field); &it->field != (head); \
	     it = CONTAINER_OF(it->field.next, type, field))
/* `it` may be removed and freed inside; other nodes may not. */
#define list_for_each_safe(it, head, type, field)                         \
	for (type *it = CONTAINER_OF((head)->next, type, field),          \
		  *it##_next = CONTAINER_OF(it->field.next, type, field); \
	     &it->field != (head); it = it##_next, it##_next = CONTAINER_OF(it->field.next, type, field))

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* push_index.h: what is called what, and who asked for it. A *slot* is one name of one type (canonical or alias), with those
 * who subscribed to it and those resources that claim it; it may have either without the other. An *entry* is one resource by
 * its key, with the sessions that hold it; it outlives the resource until the last session has been told.
 * Private to push*.c. */
#ifndef WEFT_CONTROL_PUSH_INDEX_H
#define WEFT_CONTROL_PUSH_INDEX_H

#include "control/pushed.h"
#include "lib/list.h"
#include "lib/map.h"

struct slot {
	struct map_node node;
	enum pushed_type type;
	struct list subs;   /* struct sub.in_slot: push.c */
	struct list claims; /* struct claim.in_slot: the newest first, it owns the name */
	uint64_t mark;      /* of the response that said it is gone last */
	char name[];
};

struct claim {
	struct list in_slot;
	struct slot *slot;
	struct entry *entry;
	bool wanted; /* while a changed resource is put in */
};

struct entry {
	struct map_node node;
	enum pushed_type type;
	struct pushed *res; /* NULL: gone, or never there */
	struct list helds;  /* struct held.in_entry: push.c */
	struct claim **claims;
	size_t n_claims;
	char key[];
};

struct push_index {
	struct map slots[PUSHED_TYPES], entries[PUSHED_TYPES];
};

void push_index_init(struct push_index *x);
void push_index_done(struct push_index *x); /* nobody subscribes any more; drops every resource */

/* Makes what is absent; push_index_slot_drop() and push_index_entry_drop() free what has become empty. */
struct slot *push_index_slot(struct push_index *x, enum pushed_type type, struct str name);
void push_index_slot_drop(struct push_index *x, struct slot *slot);
struct entry *push_index_entry(struct push_index *x, enum pushed_type type, struct str key);
void push_index_entry_drop(struct push_index *x, struct entry *e);
struct entry *push_index_entry_find(const struct push_index *x, enum pushed_type type, struct str key);

struct entry *slot_owner(const struct slot *slot); /* NULL: nothing has this name */

/* Puts a resource in (takes a reference), in place of the one with its key; touched is called for each slot whose answer may
 * have changed. False: it is the same version, nothing happened. */
bool push_index_set(struct push_index *x, struct pushed *res, void (*touched)(void *ctx, struct slot *slot), void *ctx);
/* Takes it out. False: it was not there. */
bool push_index_remove(struct push_index *x, enum pushed_type type, struct str key,
		       void (*touched)(void *ctx, struct slot *slot), void *ctx);

#endif

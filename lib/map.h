/* SPDX-License-Identifier: Apache-2.0 */
/* map.h: intrusive hash map from a byte key to a node. Seeded SipHash-like hashing (keys come from peers), grows by
 * doubling, never shrinks below its first size; the owner caps how many nodes it puts in. */
#ifndef WEFT_LIB_MAP_H
#define WEFT_LIB_MAP_H

#include "lib/str.h"

struct map_node {
	struct map_node *next;
	uint64_t hash;
	struct str key; /* bytes owned by the containing struct; must not change while in the map */
};

struct map {
	struct map_node **slots;
	size_t cap; /* power of two */
	size_t len;
};

void map_init(struct map *m);
void map_done(struct map *m); /* frees the slots, not the nodes; must be empty or abandoned */
struct map_node *map_get(const struct map *m, struct str key);   /* NULL when absent */
void map_put(struct map *m, struct map_node *n, struct str key); /* key must be absent */
void map_del(struct map *m, struct map_node *n);                 /* n must be in m */
/* The first node, or the one after n in the map's own order; NULL at the end. The map may not change but by deleting
 * the node that was returned before the next call is made on an already fetched successor. */
struct map_node *map_next(const struct map *m, const struct map_node *n);

#define map_for_each(it, m)                                                                         \
	for (struct map_node *it = map_next(m, NULL), *it##_next = it ? map_next(m, it) : NULL; it; \
	     it = it##_next, it##_next = it ? map_next(m, it) : NULL)

#endif

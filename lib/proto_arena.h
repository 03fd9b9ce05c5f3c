/* SPDX-License-Identifier: Apache-2.0 */
/* proto_arena.h: unpacking protobuf from a peer without trusting its sizes: nesting is checked on the wire before protobuf-c
 * (which recurses) sees it, memory comes from an arena with a cap, and unknown fields can be found anywhere in the result,
 * since "a field that is not understood" must never mean "match all". */
#ifndef WEFT_LIB_PROTO_ARENA_H
#define WEFT_LIB_PROTO_ARENA_H

#include "lib/arena.h"
#include "lib/err.h"

#include <protobuf-c/protobuf-c.h>

#define PROTO_DEPTH_MAX 16 /* messages within messages; ours need 6 */

struct proto_arena {
	ProtobufCAllocator alloc; /* for protobuf-c; free does nothing, everything goes with the arena */
	struct arena arena;
};

/* cap: bytes of all that is unpacked into it (a message takes up to about 10 times its wire size). */
void proto_arena_init(struct proto_arena *a, size_t cap);
void proto_arena_done(struct proto_arena *a); /* what was unpacked is gone with it; may be initialised again */

/* Checks the wire, then unpacks into the arena. NULL and err: malformed, too deep, or larger than the cap. */
void *proto_unpack(struct proto_arena *a, const ProtobufCMessageDescriptor *d, struct str wire, struct err *err);
/* No message on the wire nests deeper than `max`, no string holds a NUL (protobuf-c would cut it there: two readers, two
 * names), and it is well-formed as far as that needs (no groups). */
bool proto_wire_ok(struct str wire, const ProtobufCMessageDescriptor *d, unsigned max);
/* False when an unknown field is present anywhere within m, or it nests deeper than PROTO_DEPTH_MAX. */
bool proto_known(const ProtobufCMessage *m);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* proto_arena.c: see proto_arena.h. Both walks keep their own stack of PROTO_DEPTH_MAX frames: no recursion on what a peer
 * nests. Wire format: https://protobuf.dev/programming-guides/encoding/ */
#include "lib/proto_arena.h"

static void *arena_take(void *data, size_t n)
{
	struct proto_arena *a = data;
	return arena_alloc(&a->arena, n ? n : 1);
}

static void arena_keep(void *data, void *p)
{
}

void proto_arena_init(struct proto_arena *a, size_t cap)
{
	a->alloc = (ProtobufCAllocator){.alloc = arena_take, .free = arena_keep, .allocator_data = a};
	arena_init(&a->arena, cap);
}

void proto_arena_done(struct proto_arena *a)
{
	arena_done(&a->arena);
}

void *proto_unpack(struct proto_arena *a, const ProtobufCMessageDescriptor *d, struct str wire, struct err *err)
{
	if (!proto_wire_ok(wire, d, PROTO_DEPTH_MAX)) {
		err_set(err, ERR_INVALID, "%s: malformed, a NUL in a string, or nested deeper than %d messages",
			d->name, PROTO_DEPTH_MAX);
		return NULL;
	}
	void *m = protobuf_c_message_unpack(d, &a->alloc, wire.len, (const uint8_t *)(wire.p ? wire.p : ""));
	if (m)
		return m;
	/* protobuf-c does not say which: an arena that is almost full is taken for the reason. */
	if (a->arena.used + wire.len > a->arena.cap)
		err_set(err, ERR_LIMIT, "%s: larger than %zu bytes unpacked", d->name, a->arena.cap);
	else
		err_set(err, ERR_INVALID, "%s: malformed", d->name);
	return NULL;
}

/* --- on the wire --- */

struct wire {
	const uint8_t *p, *end;
	const ProtobufCMessageDescriptor *d;
};

static bool varint(struct wire *w, uint64_t *ret)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 70 && w->p < w->end; shift += 7) {
		uint8_t b = *w->p++;
		if (shift < 64)
			v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

static bool skip(struct wire *w, uint64_t n)
{
	if (n > (uint64_t)(w->end - w->p))
		return false;
	w->p += n;
	return true;
}

/* What a length-delimited field is: a message (its descriptor), or text that must hold no NUL. */
static bool delimited(const struct wire *w, uint64_t tag, struct wire *ret_sub)
{
	const ProtobufCFieldDescriptor *f =
	    tag <= UINT32_MAX ? protobuf_c_message_descriptor_get_field(w->d, (unsigned)tag) : NULL;
	size_t n = (size_t)(ret_sub->end - ret_sub->p);
	if (f && f->type == PROTOBUF_C_TYPE_MESSAGE)
		ret_sub->d = f->descriptor;
	return !(f && f->type == PROTOBUF_C_TYPE_STRING && n > 0 && memchr(ret_sub->p, 0, n));
}

/* One field. *ret_sub: the message within it, if it is one. */
static bool field(struct wire *w, struct wire *ret_sub)
{
	uint64_t key, n;
	ret_sub->d = NULL;
	if (!varint(w, &key) || key >> 3 == 0)
		return false;
	switch (key & 7) {
	case 0:
		return varint(w, &n);
	case 1:
		return skip(w, 8);
	case 5:
		return skip(w, 4);
	case 2:
		if (!varint(w, &n))
			return false;
		ret_sub->p = w->p;
		if (!skip(w, n))
			return false;
		ret_sub->end = w->p;
		return delimited(w, key >> 3, ret_sub);
	}
	return false; /* groups, and types that do not exist */
}

bool proto_wire_ok(struct str wire, const ProtobufCMessageDescriptor *d, unsigned max)
{
	struct wire stack[PROTO_DEPTH_MAX], sub;
	unsigned depth = 1;
	MUST(max >= 1 && max <= PROTO_DEPTH_MAX);
	if (wire.len == 0)
		return true; /* an empty message, perhaps without an address */
	stack[0] = (struct wire){(const uint8_t *)wire.p, (const uint8_t *)wire.p + wire.len, d};
	while (depth > 0) {
		struct wire *w = &stack[depth - 1];
		if (w->p == w->end) {
			depth--;
			continue;
		}
		if (!field(w, &sub))
			return false;
		if (!sub.d)
			continue;
		if (depth == max)
			return false;
		stack[depth++] = sub;
	}
	return true;
}

/* --- unpacked --- */

struct place {
	const ProtobufCMessage *m;
	unsigned field;
	size_t element;
};

/* The next message directly within p->m, or NULL when there is none left. */
static const ProtobufCMessage *next_within(struct place *p)
{
	const char *base = (const char *)p->m;
	for (; p->field < p->m->descriptor->n_fields; p->field++, p->element = 0) {
		const ProtobufCFieldDescriptor *f = &p->m->descriptor->fields[p->field];
		if (f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)(base + f->quantifier_offset);
			if (p->element < n)
				return (*(ProtobufCMessage *const *const *)(base + f->offset))[p->element++];
			continue;
		}
		bool other = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
			     *(const uint32_t *)(base + f->quantifier_offset) != f->id;
		const ProtobufCMessage *sub = other ? NULL : *(ProtobufCMessage *const *)(base + f->offset);
		if (!sub)
			continue;
		p->field++;
		p->element = 0;
		return sub;
	}
	return NULL;
}

bool proto_known(const ProtobufCMessage *m)
{
	struct place stack[PROTO_DEPTH_MAX];
	unsigned depth = 1;
	MUST(m != NULL);
	stack[0] = (struct place){.m = m};
	if (m->n_unknown_fields > 0)
		return false;
	while (depth > 0) {
		const ProtobufCMessage *sub = next_within(&stack[depth - 1]);
		if (!sub) {
			depth--;
			continue;
		}
		if (sub->n_unknown_fields > 0 || depth == PROTO_DEPTH_MAX)
			return false;
		stack[depth++] = (struct place){.m = sub};
	}
	return true;
}

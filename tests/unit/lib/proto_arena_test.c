/* SPDX-License-Identifier: Apache-2.0 */
/* proto_arena_test.c: unpacking hostile protobuf: depth, size, unknown fields at every level, malformed bytes. */
#include "lib/proto/weft.pb-c.h"
#include "lib/proto/xds.pb-c.h"
#include "lib/proto_arena.h"

#include <check.h>
#include <stdlib.h>

#define RESPONSE &envoy__service__discovery__v3__delta_discovery_response__descriptor

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryResponse Response;

static void *unpack(struct proto_arena *a, const ProtobufCMessageDescriptor *d, const void *p, size_t n,
		    struct err *err)
{
	return proto_unpack(a, d, str_make(p, n), err);
}

START_TEST(a_message_comes_out_as_it_went_in)
{
	struct proto_arena a;
	struct err err = {0};
	/* nonce "n1", one resource { name "x" any { type_url "t" } } */
	static const char wire[] = "\x2a\x02n1\x12\x0a\x1a\x01x\x12\x03\x0a\x01t";
	proto_arena_init(&a, 64 << 10);
	/* resource: 3 + 5 bytes */
	static const char good[] = "\x2a\x02n1\x12\x08\x1a\x01x\x12\x03\x0a\x01t";
	Response *r = unpack(&a, RESPONSE, good, sizeof(good) - 1, &err);
	ck_assert_msg(r != NULL, "%s", err.text);
	ck_assert_str_eq(r->nonce, "n1");
	ck_assert_uint_eq(r->n_resources, 1);
	ck_assert_str_eq(r->resources[0]->name, "x");
	ck_assert_str_eq(r->resources[0]->resource->type_url, "t");
	ck_assert(proto_known(&r->base));
	ck_assert_ptr_null(unpack(&a, RESPONSE, wire, sizeof(wire) - 1, &err)); /* a length past the end */
	ck_assert_int_eq(err.code, ERR_INVALID);
	/* empty is a message too */
	ck_assert_ptr_nonnull(unpack(&a, RESPONSE, "", 0, NULL));
	proto_arena_done(&a);
}
END_TEST

START_TEST(an_unknown_field_is_found_at_every_depth)
{
	static const struct {
		const char *wire;
		size_t n;
		bool known;
	} row[] = {
	    {"\x0a\x01"
	     "a",
	     3, true},
	    {"\xf8\x07\x01", 3, false},                         /* field 127 at the top */
	    {"\x22\x03\xf8\x07\x01", 5, false},                 /* in a port */
	    {"\x22\x02\x10\x50\x22\x03\xf8\x07\x01", 9, false}, /* in the second port */
	    {"\x22\x02\x10\x50\x22\x02\x10\x51", 8, true},
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct proto_arena a;
		struct err err = {0};
		proto_arena_init(&a, 64 << 10);
		Weft__V1__Service *s = unpack(&a, &weft__v1__service__descriptor, row[i].wire, row[i].n, &err);
		ck_assert_msg(s != NULL, "%zu: %s", i, err.text);
		ck_assert_msg(proto_known(&s->base) == row[i].known, "row %zu", i);
		proto_arena_done(&a);
	}
}
END_TEST

START_TEST(an_unknown_field_in_a_oneof_is_found)
{
	struct proto_arena a;
	proto_arena_init(&a, 64 << 10);
	Weft__V1__LinkUp *up = unpack(&a, &weft__v1__link_up__descriptor, "\x0a\x03\xf8\x07\x01", 5, NULL);
	ck_assert_ptr_nonnull(up);
	ck_assert(!proto_known(&up->base));
	up = unpack(&a, &weft__v1__link_up__descriptor, "\x0a\x03\x0a\x01i", 5, NULL);
	ck_assert_ptr_nonnull(up);
	ck_assert(proto_known(&up->base));
	proto_arena_done(&a);
}
END_TEST

START_TEST(memory_stays_within_the_cap)
{
	struct proto_arena a;
	struct err err = {0};
	size_t n = 200000;
	char *wire = malloc(n);
	/* 100,000 empty resources of 2 bytes, about 100 bytes each when unpacked */
	for (size_t i = 0; i < n; i += 2) {
		wire[i] = 0x12;
		wire[i + 1] = 0;
	}
	proto_arena_init(&a, 1 << 20);
	ck_assert_ptr_null(unpack(&a, RESPONSE, wire, n, &err));
	ck_assert_int_eq(err.code, ERR_LIMIT);
	ck_assert_uint_le(a.arena.used, 1 << 20);
	proto_arena_done(&a);
	free(wire);
}
END_TEST

START_TEST(malformed_wire_is_refused)
{
	static const struct {
		const char *wire;
		size_t n;
	} row[] = {
	    {"\x0a", 1}, /* no length */
	    {"\x0a\x05"
	     "ab",
	     4},                                                      /* short */
	    {"\x0b\x0c", 2},                                          /* a group */
	    {"\x02\x01x", 3},                                         /* field number 0 */
	    {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* a varint that does not end */
	    {"\x0a\x03"
	     "a\0b",
	     5}, /* NUL in a string */
	    {"\x22\x05\x0a\x03"
	     "a\0b",
	     7},                 /* ... of a message within */
	    {"\x11\x01\x02", 3}, /* 64 bits announced, 16 there */
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct proto_arena a;
		proto_arena_init(&a, 64 << 10);
		ck_assert_msg(!unpack(&a, &weft__v1__service__descriptor, row[i].wire, row[i].n, NULL), "row %zu", i);
		proto_arena_done(&a);
	}
}
END_TEST

START_TEST(nesting_beyond_the_limit_is_refused_before_unpacking)
{
	/* response > resource > any: three messages */
	static const char wire[] = "\x12\x05\x12\x03\x0a\x01t";
	ck_assert(proto_wire_ok(str_make(wire, 7), RESPONSE, 3));
	ck_assert(!proto_wire_ok(str_make(wire, 7), RESPONSE, 2));
}
END_TEST

/* None of ours nests itself; this one is made for the test. */
START_TEST(a_message_that_nests_itself_is_cut_at_the_depth)
{
	ProtobufCFieldDescriptor f = {.name = "self",
				      .id = 1,
				      .label = PROTOBUF_C_LABEL_NONE,
				      .type = PROTOBUF_C_TYPE_MESSAGE,
				      .offset = sizeof(ProtobufCMessage)};
	unsigned by_name[] = {0};
	ProtobufCIntRange range[] = {{1, 0}, {0, 1}};
	struct self {
		ProtobufCMessage base;
		struct self *in;
	} deep[PROTO_DEPTH_MAX + 1];
	ProtobufCMessageDescriptor d = {.magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
					.name = "Self",
					.sizeof_message = sizeof(struct self),
					.n_fields = 1,
					.fields = &f,
					.fields_sorted_by_name = by_name,
					.n_field_ranges = 1,
					.field_ranges = range};
	char wire[2 * 60];
	f.descriptor = &d;
	for (int i = 0; i < 60; i++) {
		wire[2 * i] = 0x0a;
		wire[2 * i + 1] = (char)(2 * (60 - i - 1));
	}
	ck_assert(!proto_wire_ok(str_make(wire, sizeof(wire)), &d, PROTO_DEPTH_MAX));
	ck_assert(proto_wire_ok(str_make(wire + 2 * 46, 2 * 14), &d, PROTO_DEPTH_MAX));
	for (int i = 0; i <= PROTO_DEPTH_MAX; i++)
		deep[i] = (struct self){.base.descriptor = &d, .in = i < PROTO_DEPTH_MAX ? &deep[i + 1] : NULL};
	ck_assert(!proto_known(&deep[0].base));
	ck_assert(proto_known(&deep[1].base));
}
END_TEST

Suite *proto_arena_suite(void);
Suite *proto_arena_suite(void)
{
	Suite *s = suite_create("proto_arena");
	TCase *t = tcase_create("all");
	tcase_add_test(t, a_message_comes_out_as_it_went_in);
	tcase_add_test(t, an_unknown_field_is_found_at_every_depth);
	tcase_add_test(t, an_unknown_field_in_a_oneof_is_found);
	tcase_add_test(t, memory_stays_within_the_cap);
	tcase_add_test(t, malformed_wire_is_refused);
	tcase_add_test(t, nesting_beyond_the_limit_is_refused_before_unpacking);
	tcase_add_test(t, a_message_that_nests_itself_is_cut_at_the_depth);
	suite_add_tcase(s, t);
	return s;
}

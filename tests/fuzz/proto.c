/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz proto: any bytes as each message that a peer may send, unpacked into a small arena. Never more memory than the arena has, no
 * nesting beyond the limit, no text with a NUL; what was taken, packed again, is taken again and is the same. The first byte picks
 * the message and the size of the arena. */
#include "lib/proto/weft.pb-c.h"
#include "lib/proto/xds.pb-c.h"
#include "lib/mem.h"
#include "lib/proto_arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const messages[] = {
    &envoy__service__discovery__v3__delta_discovery_request__descriptor,
    &envoy__service__discovery__v3__delta_discovery_response__descriptor,
    &weft__v1__service__descriptor,
    &weft__v1__endpoints__descriptor,
    &weft__v1__manifest__descriptor,
    &weft__v1__route__descriptor,
    &weft__v1__workload__descriptor,
    &weft__v1__self__descriptor,
    &weft__v1__mesh_config__descriptor,
    &weft__v1__issue_request__descriptor,
    &weft__v1__issue_response__descriptor,
    &weft__v1__link_up__descriptor,
    &weft__v1__link_down__descriptor,
};

static void check_again(const ProtobufCMessageDescriptor *d, const ProtobufCMessage *m, bool known)
{
	struct proto_arena a;
	struct err err;
	size_t n = protobuf_c_message_get_packed_size(m);
	uint8_t *packed = mem_alloc(n + 1), *twice = mem_alloc(n + 1);
	MUST(protobuf_c_message_pack(m, packed) == n);
	proto_arena_init(&a, 4u << 20);
	ProtobufCMessage *again = proto_unpack(&a, d, str_make(packed, n), &err);
	MUST(again != NULL && proto_known(again) == known);
	MUST(protobuf_c_message_get_packed_size(again) == n && protobuf_c_message_pack(again, twice) == n);
	MUST(memcmp(packed, twice, n) == 0);
	proto_arena_done(&a);
	mem_free(packed);
	mem_free(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proto_arena a;
	struct err err = {.text = ""};
	if (size < 1)
		return 0;
	const ProtobufCMessageDescriptor *d = messages[data[0] % ARRAY_LEN(messages)];
	struct str wire = str_make(data + 1, size - 1);
	proto_arena_init(&a, data[0] & 0x80 ? 512 : 64u << 10);
	ProtobufCMessage *m = proto_unpack(&a, d, wire, &err);
	MUST(a.arena.used <= a.arena.cap);
	if (m) {
		MUST(protobuf_c_message_check(m) && proto_wire_ok(wire, d, PROTO_DEPTH_MAX));
		check_again(d, m, proto_known(m));
	} else
		MUST(err.code == ERR_INVALID || err.code == ERR_LIMIT);
	proto_arena_done(&a);
	return 0;
}

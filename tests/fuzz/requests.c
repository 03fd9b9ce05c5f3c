/* SPDX-License-Identifier: Apache-2.0 */
/* requests.c: fuzzes what a proxy says to weftd: DeltaDiscoveryRequests of any bytes on two streams, between changes of what is
 * there. Each response must be one, and nothing may be left when the streams are closed. An input is a sequence of
 * op (1 byte), length (2 bytes), bytes. */
#include "control/push.h"
#include "lib/mem.h"
#include "lib/proto_arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t now;

static uint64_t now_ms(void *ctx)
{
	return now;
}

static bool instance_ok(void *ctx, const char *ns, const char *sa, const char *instance, struct err *err)
{
	return strcmp(instance, "no") != 0 || err_set(err, ERR_DENIED, "not yours");
}

static void on_dirty(void *ctx)
{
}

static void on_nack(void *ctx, const char *proxy, const char *type, const char *name, const char *reason)
{
	MUST(strlen(reason) <= PUSH_REASON_MAX);
}

static bool send_one(void *ctx, struct str response)
{
	struct proto_arena arena;
	struct err err;
	proto_arena_init(&arena, 64u << 20);
	MUST(proto_unpack(&arena, &envoy__service__discovery__v3__delta_discovery_response__descriptor, response,
			  &err) ||
	     err.code == ERR_LIMIT);
	proto_arena_done(&arena);
	return true;
}

static void end_one(void *ctx, enum grpc_status status, const char *text)
{
	push_close(ctx);
}

static void change(struct push *p, const uint8_t *data, size_t n)
{
	static const char *const names[] = {"shop/a", "shop/b", "self", "mesh"};
	static const char *const aliases[] = {"addr:10.0.0.1", "addr:10.0.0.2", "addr:fd00::1"};
	if (n < 3)
		return;
	enum pushed_type type = (enum pushed_type)(data[0] % PUSHED_TYPES);
	const char *name = names[data[1] % ARRAY_LEN(names)];
	size_t first = data[2] % ARRAY_LEN(aliases), count = data[2] / 16 % (ARRAY_LEN(aliases) - first + 1);
	if (data[2] & 8) {
		push_remove(p, type, name);
		return;
	}
	struct pushed *r = pushed_new(type, NULL, name, aliases + first, count, str_make(data + 3, n - 3));
	push_set(p, r);
	pushed_unref(&r);
}

static void request(struct push_session *s, struct str bytes)
{
	struct proto_arena arena;
	struct err err;
	proto_arena_init(&arena, 16u << 20);
	push_request_pb *req =
	    proto_unpack(&arena, &envoy__service__discovery__v3__delta_discovery_request__descriptor, bytes, &err);
	if (req && s)
		push_request(s, req);
	proto_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct push_hooks hooks = {now_ms, instance_ok, on_dirty, on_nack};
	static const struct push_link link_ops = {send_one, end_one};
	const struct push_peer peer = {"spiffe://td/ns/shop/sa/a", "shop", "a", "10.0.0.9:1"};
	struct push *p = push_new(&hooks, NULL);
	struct push_session *s[2];
	for (size_t i = 0; i < 2; i++)
		s[i] = push_open(p, &peer, &link_ops, &s[i]);
	while (size >= 3) {
		size_t n = MIN((size_t)data[1] << 8 | data[2], size - 3);
		if (data[0] % 4 < 2)
			request(s[data[0] % 4], str_make(data + 3, n));
		else if (data[0] % 4 == 2)
			change(p, data + 3, n);
		else
			push_flush(p);
		data += 3 + n;
		size -= 3 + n;
	}
	push_flush(p);
	json_decref(push_status(p));
	now += PUSH_STALL_MS;
	push_tick(p);
	for (size_t i = 0; i < 2; i++)
		push_close(&s[i]);
	MUST(push_counts(p)->subscriptions == 0 && push_counts(p)->sessions == 0);
	push_free(&p);
	return 0;
}

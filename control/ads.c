/* SPDX-License-Identifier: Apache-2.0 */
/* ads.c: ties one gRPC call to one push session; each ends the other. */
#include "control/ads.h"

#include "control/caller.h"
#include "control/store.h"
#include "lib/mem.h"
#include "lib/proto_arena.h"

#include <stdio.h>

#define ADS_MAGIC 0x61647321u

struct ads {
	uint32_t magic;
	struct grpc_call *call;
	struct push_session *session;
};

static void ads_free(struct ads *a)
{
	push_close(&a->session);
	a->magic = 0;
	mem_free(a);
}

static bool send_response(void *ctx, struct str response)
{
	struct ads *a = ctx;
	MUST_BE(a, ADS_MAGIC);
	return grpc_send(a->call, response);
}

static void end_stream(void *ctx, enum grpc_status status, const char *text)
{
	struct ads *a = ctx;
	MUST_BE(a, ADS_MAGIC);
	grpc_finish(&a->call, status, text);
	ads_free(a);
}

static const struct push_link link_ops = {.send = send_response, .end = end_stream};

static void on_message(void *ctx, struct grpc_call *call, struct str message)
{
	struct ads *a = ctx;
	struct proto_arena arena;
	struct err err;
	MUST_BE(a, ADS_MAGIC);
	proto_arena_init(&arena, ADS_DECODE_MAX);
	push_request_pb *req =
	    proto_unpack(&arena, &envoy__service__discovery__v3__delta_discovery_request__descriptor, message, &err);
	if (req)
		push_request(a->session, req); /* may end the stream */
	else
		end_stream(a, GRPC_INVALID_ARGUMENT, err.text);
	proto_arena_done(&arena);
}

static void on_half_close(void *ctx, struct grpc_call *call)
{
	end_stream(ctx, GRPC_OK, "");
}

static void on_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	ads_free(ctx);
}

static const struct grpc_call_events events = {
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_end = on_end,
};

bool ads_call(struct push *p, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
	      enum grpc_status *ret_status, const char **ret_text)
{
	const struct spiffe *id = caller_identity(call);
	if (!id) {
		*ret_status = GRPC_UNAUTHENTICATED;
		*ret_text = CALLER_NONE_TEXT;
		return false;
	}
	char ns[STORE_NS_MAX], sa[STORE_NS_MAX], address[ADDR_TEXT_MAX];
	snprintf(ns, sizeof(ns), STR_FMT, STR_ARG(id->ns));
	snprintf(sa, sizeof(sa), STR_FMT, STR_ARG(id->sa));
	struct push_peer peer = {id->id, ns, sa, addr_text(caller_address(call), address)};
	struct ads *a = NEW(struct ads);
	a->magic = ADS_MAGIC;
	a->call = call;
	a->session = push_open(p, &peer, &link_ops, a);
	if (!a->session) {
		ads_free(a);
		*ret_status = GRPC_RESOURCE_EXHAUSTED;
		*ret_text = "this weftd serves as many push streams as it can; run another one beside it";
		return false;
	}
	*ret_ev = &events;
	*ret_ctx = a;
	return true;
}

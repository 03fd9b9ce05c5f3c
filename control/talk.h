/* SPDX-License-Identifier: Apache-2.0 */
/* talk.h: the gRPC method /weft.v1.Link/Talk: registrations, heartbeats and goodbyes of proxies into registry.h. */
#ifndef WEFT_CONTROL_TALK_H
#define WEFT_CONTROL_TALK_H

#include "control/registry.h"
#include "lib/grpc.h"
#include "lib/loop.h"

struct write_queue;

#define TALK_METHOD_PATH   "/weft.v1.Link/Talk"
#define TALK_DECODE_MAX    (256u << 10) /* bytes that one LinkUp may unpack to */
#define TALK_REGISTERS_MAX 16           /* of one call: who changes more often must reconnect */
#define TALK_HELD_MAX      (8u << 20) /* bytes of registrations that wait for the store; what is more makes the loop wait */

struct talk_server;

struct talk_server_cfg {
	struct loop *loop;
	struct registry *registry;  /* borrowed */
	struct write_queue *writes; /* borrowed: registrations wait in it while others write; NULL: they do not */
	size_t held_max;            /* bytes of them; 0: TALK_HELD_MAX */
	int64_t (*wall_ms)(void *ctx);
	void *ctx;
};
struct talk_server *talk_server_new(const struct talk_server_cfg *cfg);
void talk_server_free(struct talk_server **s); /* every call has ended */

/* What a grpc_method's on_call does. */
bool talk_server_call(struct talk_server *s, struct grpc_call *call, const struct grpc_call_events **ret_ev,
		      void **ret_ctx, enum grpc_status *ret_status, const char **ret_text);
void talk_server_tick(struct talk_server *s); /* once a second: ends calls that have been silent for two leases */
void talk_server_end_all(struct talk_server *s, const char *text); /* weftd stops: UNAVAILABLE, come again */
size_t talk_server_count(const struct talk_server *s);

#endif

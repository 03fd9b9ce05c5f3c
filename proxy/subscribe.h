/* SPDX-License-Identifier: Apache-2.0 */
/* subscribe.h: the proxy's side of delta xDS (docs/push.md) as a state machine without sockets: the addresses that config.c
 * follows become subscriptions, responses become resources in config.c, each response is answered once (ACK, or NACK with a
 * line for each refused resource). It outlives streams: a new one gets all subscriptions and held versions again. */
#ifndef WEFT_PROXY_SUBSCRIBE_H
#define WEFT_PROXY_SUBSCRIBE_H

#include "lib/loop.h"
#include "lib/str.h"

#define SUBSCRIBE_PATH     "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
#define SUBSCRIBE_NACK_MAX (16u << 10) /* bytes of the text of a NACK */

struct config;
struct subscribe;

/* node_id: the instance; node_cluster: "namespace/service-account". Becomes the source of `c`, which must outlive it. */
struct subscribe *subscribe_new(struct loop *loop, struct config *c, const char *node_id, const char *node_cluster);
void subscribe_free(struct subscribe **s);

/* A stream is open: `send` takes packed DeltaDiscoveryRequests, the first ones before this returns. */
void subscribe_start(struct subscribe *s, void (*send)(void *ctx, struct str message), void *ctx);
/* The stream is over, or about to be ended. What is held stays. */
void subscribe_stop(struct subscribe *s);
/* A packed DeltaDiscoveryResponse came. False and err: not one; the stream must be ended. */
bool subscribe_message(struct subscribe *s, struct str message, struct err *err) MUST_USE;

struct subscribe_counts { /* since the start */
	uint64_t responses, applied, refused, removed;
};
const struct subscribe_counts *subscribe_counts(const struct subscribe *s);

#endif

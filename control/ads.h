/* SPDX-License-Identifier: Apache-2.0 */
/* ads.h: the gRPC method of the push protocol: a stream of requests into push.h, its responses out. */
#ifndef WEFT_CONTROL_ADS_H
#define WEFT_CONTROL_ADS_H

#include "control/push.h"

#define ADS_PATH       "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
#define ADS_DECODE_MAX (16u << 20) /* bytes that one request may unpack to */

/* What a grpc_method's on_call does. */
bool ads_call(struct push *p, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
	      enum grpc_status *ret_status, const char **ret_text);

#endif

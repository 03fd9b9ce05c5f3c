/* SPDX-License-Identifier: Apache-2.0 */
/* stats.h: what the data path counts: requests, connections, bytes, by reason row and service; and their page for /metrics.
 * Label sets are bounded by lib/metric.h. One a thread: the page is the sum. */
#ifndef WEFT_PROXY_STATS_H
#define WEFT_PROXY_STATS_H

#include "lib/buf.h"
#include "lib/reason.h"
#include "proxy/policy/policy.h"

struct stats;

struct stats *stats_new(void);
void stats_free(struct stats **s);
/* One request has ended. service: "namespace/name", "" inbound or outside. status 0: none was sent. */
void stats_request(struct stats *s, enum direction d, const char *service, uint16_t status, enum reason r,
		   uint64_t took_us);
/* One opaque connection has ended. */
void stats_tunnel(struct stats *s, enum direction d, const char *service, enum reason r, uint64_t up_bytes,
		  uint64_t down_bytes);
/* What became of a speculative dial: "carried", "unused", "failed". */
void stats_speculation(struct stats *s, enum direction d, const char *outcome);
/* An endpoint was ejected. */
void stats_ejection(struct stats *s, const char *service, enum reason why);
/* A second attempt: made, or not made because the budget was spent. */
void stats_retry(struct stats *s, enum reason why, const char *result);
/* One downstream connection was accepted, and has ended. `secured`: mTLS with a mesh peer (inbound). */
void stats_open(struct stats *s, enum direction d);
void stats_close(struct stats *s, enum direction d, bool secured, enum reason r);
/* Given up for want of memory: n of "pooled", "idle_session", "stream", "connection". */
void stats_shed(struct stats *s, const char *what, size_t n);
void stats_gauge(struct stats *s, const char *name, int64_t v); /* name: one of those in stats.c */
/* Adds all of `from`, which may be of another thread that does not run on meanwhile. */
void stats_sum(struct stats *into, const struct stats *from);
void stats_page(const struct stats *s, struct buf *out);

#endif

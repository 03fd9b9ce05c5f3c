/* SPDX-License-Identifier: Apache-2.0 */
/* uplink.h: one HTTP/2 connection to weftd, kept for ever: dialled again with back-off (10 ms doubling to 15 s or uplink_patience(), full jitter)
 * whenever it is lost. It checks that the other end is weftd before anything is sent; what is said on it is its user's. */
#ifndef WEFT_PROXY_UPLINK_H
#define WEFT_PROXY_UPLINK_H

#include "certs/tlsctx.h"
#include "lib/http/codec.h"
#include "proxy/mark.h"

struct uplink;

struct uplink_cfg {
	struct loop *loop;
	struct addr to;
	const struct mark *mark;
	const char *expect; /* identity of weftd; lives as long as the uplink */
	/* What to show and whom to trust in the next attempt, with a reference for the taker. NULL and err: not now. */
	SSL_CTX *(*context)(void *ctx, struct err *err);
	void (*on_up)(void *ctx, struct http_session *s);
	/* Lost, or never came up: calls on it must be cancelled from within. */
	void (*on_down)(void *ctx, const struct err *err);
	void *ctx;
};

struct uplink *uplink_new(const struct uplink_cfg *cfg);   /* dials at the end of the turn */
void uplink_free(struct uplink **u);                       /* no callback follows; calls must have been cancelled */
void uplink_worked(struct uplink *u);                      /* it is of use: the next loss is tried again at once */
void uplink_fail(struct uplink *u, const struct err *err); /* it is of no use: on_down, then again after the back-off */
void uplink_again(struct uplink *u); /* on purpose: dial anew at once, with a new context; on_down is not called */
void uplink_patience(struct uplink *u, uint64_t ms);         /* no attempt waits longer than this; at most 15 s */
void uplink_last(struct uplink *u);                          /* stays, but is not dialled again */
struct http_session *uplink_session(const struct uplink *u); /* NULL while it is down */

/* Uniform in 0 to max: jitter. */
uint64_t uplink_jitter(uint64_t max);

#endif

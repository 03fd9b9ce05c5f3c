/* SPDX-License-Identifier: Apache-2.0 */
/* talk.h: /weft.v1.Link/Talk: this workload's registration over one uplink. It lives while the call does: register, a heartbeat
 * every 5 s (a third of the lease where that is less), goodbye on a clean stop. The address that counts is the one the uplink comes from. */
#ifndef WEFT_PROXY_TALK_H
#define WEFT_PROXY_TALK_H

#include "lib/http/codec.h"
#include "proxy/options.h"

#define TALK_PATH         "/weft.v1.Link/Talk"
#define TALK_HEARTBEAT_MS 5000  /* at most; see take_registered */
#define TALK_LOST         4     /* heartbeats without an answer: the uplink is dead */
#define TALK_SKEW_MS      60000 /* clocks further apart than this are said */
#define TALK_REASON_MAX   256

struct talk;

struct talk_cfg {
	struct loop *loop;
	const struct proxy_options *options; /* lives as long as the talk */
	const char *authority;
	void (*on_registered)(void *ctx, uint32_t lease_s);
	void (*on_dead)(void *ctx, const struct err *err); /* no answer: the uplink is of no use */
	void *ctx;
};

struct talk *talk_new(const struct talk_cfg *cfg);
void talk_free(struct talk **t);
void talk_start(struct talk *t, struct http_session *s); /* the uplink is up */
void talk_stop(struct talk *t);                          /* it is down, or about to be */
void talk_goodbye(struct talk *t);              /* clean stop: the registration is withdrawn, and not made again */
const char *talk_refused(const struct talk *t); /* why weftd does not register this workload; NULL: nothing is wrong */

#endif

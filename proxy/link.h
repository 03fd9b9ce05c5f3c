/* SPDX-License-Identifier: Apache-2.0 */
/* link.h: the connection to weftd: first certificate and renewal (Issue), configuration (delta xDS through subscribe.c), registration and
 * heartbeat (Talk). Keeps trying for ever with back-off; what is known stays in force while it is away. */
#ifndef WEFT_PROXY_LINK_H
#define WEFT_PROXY_LINK_H

#include "lib/loop.h"
#include "proxy/config.h"
#include "proxy/identity.h"
#include "proxy/mark.h"
#include "proxy/options.h"

struct link;

struct link_cfg {
	struct loop *loop;
	const struct proxy_options *options; /* copied where it is kept; its texts live as long as the process */
	struct config *config;
	struct identity *
	    identity; /* may hold a credential already (the supervisor's memfd): then no Issue is needed before its half life */
	const struct mark
	    *mark; /* the link's own sockets are exempt from capture: mark_exempt() in conn_dial.prepare */
	/* A new credential is in force: for the supervisor. Called from the loop. */
	void (*on_credential)(void *ctx, const struct credential *c);
	void *ctx;
};

/* NULL and err when it can never work: no address of weftd, an unreadable join token, an unusable state directory. Loads the copy on disk
 * (keep.c) before it returns. */
struct link *link_new(const struct link_cfg *cfg, struct err *err);
/* Clean stop: the registration is withdrawn at once; no reconnect afterwards. */
void link_goodbye(struct link *l);
/* Another worker of this workload is registered now: nothing is withdrawn, renewed or kept on disk any more. The configuration goes on
 * for what is open, as long as the connection lasts. */
void link_retire(struct link *l);
void link_free(struct link **l);
/* For a worker that takes over from another: it is registered as that one is, or weftd is away and nobody can be. */
bool link_settled(const struct link *l);
bool link_is_up(const struct link *l);
/* What last went wrong with weftd, for /ready; NULL before, and since it worked again. */
const char *link_trouble(const struct link *l);
/* Why this workload is not registered, for /ready; NULL while nothing is wrong. */
const char *link_refused(const struct link *l);

#endif

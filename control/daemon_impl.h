/* SPDX-License-Identifier: Apache-2.0 */
/* daemon_impl.h: what weftd holds while it runs. Private to daemon*.c. */
#ifndef WEFT_CONTROL_DAEMON_IMPL_H
#define WEFT_CONTROL_DAEMON_IMPL_H

#include "certs/ca.h"
#include "certs/credential.h"
#include "control/api.h"
#include "control/compile.h"
#include "control/daemon.h"
#include "control/issue.h"
#include "control/push.h"
#include "control/registry.h"
#include "control/sync.h"
#include "control/talk.h"
#include "control/write_queue.h"
#include "lib/http/server.h"
#include "lib/listener.h"
#include "lib/loop.h"

struct daemon {
	const struct daemon_options *o;
	struct loop *loop;
	/* what it knows */
	struct store *store;
	struct write_queue *writes; /* of this loop, to the store */
	struct store_mesh mesh;
	struct registry *registry;
	struct compile *compile;
	struct push *push;
	struct sync *sync;
	/* who it is */
	struct ca *ca;
	struct credential *credential;
	SSL_CTX *tls_link, *tls_api;
	uint64_t renew_after_ms; /* the next try to renew its own certificate; 0: when it is due */
	/* what it serves */
	struct issue *issue;
	struct talk_server *talks;
	struct grpc_server *grpc;
	struct api *api;
	struct http_server *pages;
	struct listener *listeners[3 * DAEMON_LISTEN_MAX];
	size_t listeners_len;
	/* when */
	struct task flush; /* compile, then push, at the end of a turn in which something changed */
	struct timer tick, end;
	uint64_t ticked_ms;              /* when it did last */
	struct writer tick_write;        /* leases are written in a tick */
	bool ready, stopping, answering; /* the last one: at its end calls of the API were run */
	uint64_t end_by_ms;              /* when it stops, whatever is run */
};

/* daemon_pages.c */
void daemon_page(void *ctx, struct http_exchange *x); /* /ready, /live, /metrics */
json_t *daemon_status(void *ctx);                     /* what `weft status` adds to the store's own */
/* daemon_reach.c: how far services are among the proxies, and where they are served. */
json_t *daemon_progress(void *ctx, const json_t *services);
json_t *daemon_reach(void *ctx, const json_t *services);

#endif

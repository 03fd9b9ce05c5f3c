/* SPDX-License-Identifier: Apache-2.0 */
/* request.h: one HTTP exchange through the proxy: the second of the two spines. */
#ifndef WEFT_PROXY_REQUEST_H
#define WEFT_PROXY_REQUEST_H

#include "proxy/proxy.h"

#include <jansson.h>

/* Whose requests they are: embedded in the session, which knows the connection. A request asks it when it begins. */
struct request_owner {
	struct proxy *p;
	struct list requests;
	bool mesh; /* inbound over mTLS: hop fields are trusted and expected */
	/* The subject of a request that begins now: looks the target up in the snapshot in force (target is filled and pointed to). */
	void (*subject)(struct request_owner *o, struct target *target, struct subject *ret);
	/* Once: an application has answered one of its requests in HTTP. */
	void (*answered)(struct request_owner *o);
	bool was_answered;
};

/* A stream begins on the owner's codec: what http_session_events.on_stream answers with. False: refused unprocessed. */
bool request_begin(struct request_owner *o, struct http_stream *st, const struct http_stream_events **ret_ev,
		   void **ret_ctx, struct arena **ret_arena);
/* Ends all requests that an owner still has when its connection goes: all of them when it goes by our own will, else those whose answer
 * went down whole while the upstream has not ended it yet (of these the codec says nothing). */
void request_abort_all(struct request_owner *o, enum reason reason);
/* Short of memory. What the greediest request holds, bodies on their way and its arena; with `stalled` only of those whose bodies have not moved
 * since the last request_look_all(). */
size_t request_held(const struct request_owner *o, bool stalled);
void request_look_all(struct request_owner *o);
/* What is to go: all threads take from the same amount, so that together they give up no more than that. */
struct shed_want {
	bool stalled; /* only those that have not moved since the last look */
	size_t least; /* who holds less stays */
	size_t *left; /* atomic: bytes to free yet */
};
struct shed_count {
	size_t streams, connections;
};
/* Resets those that are wanted, with REASON_SHED. Adds what it did to *n. */
void request_shed(struct request_owner *o, const struct shed_want *want, struct shed_count *n);
/* One that holds so much is to go. */
bool shed_take(const struct shed_want *want, size_t bytes) MUST_USE;
json_t *request_dump(const struct request_owner *o); /* requests in flight with step and age */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* request.h: one HTTP exchange through the proxy: the second of the two spines. */
#ifndef WEFT_PROXY_REQUEST_H
#define WEFT_PROXY_REQUEST_H

#include "proxy/session.h"

/* A stream begins on a session's codec: what http_session_events.on_stream answers with. False: refused unprocessed. */
bool request_begin(struct session *s, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
                   struct arena **ret_arena);
/* Ends all requests of a session whose connection is going away by our own will. */
void request_abort_all(struct session *s);
json_t *request_dump(const struct session *s); /* requests in flight with step and age */

#endif

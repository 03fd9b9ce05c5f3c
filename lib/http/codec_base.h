/* SPDX-License-Identifier: Apache-2.0 */
/* codec_base.h: what a codec's own session and stream structs begin with. For the codecs (h1.c, h2.c) and codec.c, which
 * serves http_session_ops() and its like from it; owners of streams never include it. */
#ifndef WEFT_LIB_HTTP_CODEC_BASE_H
#define WEFT_LIB_HTTP_CODEC_BASE_H

#include "lib/http/codec.h"

struct http_session {
	const struct codec_ops *ops;
	const struct http_session_events *ev;
	void *ctx;
};

struct http_stream {
	const struct codec_ops *ops;
	struct http_session *session;
	const struct http_stream_events
	    *ev; /* a codec reads ev and ctx afresh for each callback: the owner may change */
	void *ctx;
	struct arena *arena; /* the owner's */
};

/* A server that owes the answer waits so much longer without progress than who asks for it upstream: that one has a 504 to give for it. More than the
 * codecs' timers are late by. */
static inline uint64_t http_answer_slack_ms(uint64_t stream_idle_ms)
{
	return stream_idle_ms ? MAX(stream_idle_ms / 4, (uint64_t)500) : 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* codec.c: what callers may ask of any session or stream without knowing its protocol, and the default limits. */
#include "lib/http/codec_base.h"

const struct http_limits http_limits_default = {
    .target_max = 8 << 10,
    .head_max = 32 << 10,
    .fields_max = 100,
    .streams_max = 100,
    .window = 64 << 10,
    .window_max = 1 << 20,
    .head_timeout_ms = 10 * 1000,
    .idle_timeout_ms = 60 * 1000,
    .age_max_ms = 3600 * 1000,
    .stream_idle_ms = 300 * 1000,
};

const struct codec_ops *http_session_ops(const struct http_session *s)
{
	MUST(s != NULL && s->ops != NULL);
	return s->ops;
}

const struct codec_ops *http_stream_ops(const struct http_stream *st)
{
	MUST(st != NULL && st->ops != NULL);
	return st->ops;
}

void http_stream_set_events(struct http_stream *st, const struct http_stream_events *ev, void *ctx)
{
	MUST(st != NULL && ev != NULL);
	st->ev = ev;
	st->ctx = ctx;
}

struct http_session *http_stream_session(const struct http_stream *st)
{
	MUST(st != NULL);
	return st->session;
}

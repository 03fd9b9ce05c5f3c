/* SPDX-License-Identifier: Apache-2.0 */
/* session_shed.c: what the connections of a thread give up when memory is short, or nothing happens (docs/memory.md). When, is shed.c's to say. */
#include "proxy/session_impl.h"

void session_rest_all(struct proxy *p)
{
	list_for_each (s, &p->sessions, struct session, node)
		if (s->http != NULL && http_session_ops(s->http)->rest != NULL)
			http_session_ops(s->http)->rest(s->http);
}

size_t session_shed_idle(struct proxy *p)
{
	size_t n = 0;
	list_for_each (s, &p->sessions, struct session, node) {
		if (s->http == NULL || s->last || http_session_ops(s->http) != &codec_h2 ||
		    http_session_ops(s->http)->open_streams(s->http) > 0)
			continue;
		s->last = true;
		http_session_ops(s->http)->drain(s->http);
		n++;
	}
	return n;
}

static bool pumps(const struct session *s)
{
	return s->tunnel != NULL && s->conn == NULL;
}

/* What the connection of a codec holds beside its requests. */
static size_t queued(const struct session *s, bool stalled)
{
	const struct codec_ops *ops = s->http != NULL ? http_session_ops(s->http) : NULL;
	const struct conn *c = ops != NULL ? ops->conn(s->http) : NULL;
	return c == NULL || (stalled && conn_tx_bytes(c) != s->seen) ? 0 : ops->held(s->http);
}

size_t session_held(const struct proxy *p, bool stalled)
{
	size_t most = 0;
	list_for_each (s, &p->sessions, struct session, node) {
		most = MAX(most, request_held(&s->owner, stalled));
		most = MAX(most, pumps(s) ? tunnel_held(s->tunnel, stalled) : queued(s, stalled));
	}
	return most;
}

static void shed_one(struct session *s, const struct shed_want *want, struct shed_count *n)
{
	size_t tunnel = pumps(s) ? tunnel_held(s->tunnel, want->stalled) : 0;
	request_shed(&s->owner, want, n);
	if (!shed_take(want, MAX(tunnel, queued(s, want->stalled))))
		return;
	n->connections++;
	if (tunnel > 0)
		tunnel_shed(s->tunnel);
	else
		session_end(s, REASON_SHED);
}

struct shed_count session_shed(struct proxy *p, const struct shed_want *want)
{
	struct shed_count n = {0, 0};
	list_for_each_safe (s, &p->sessions, struct session, node)
		shed_one(s, want, &n);
	return n;
}

void session_look_all(struct proxy *p)
{
	list_for_each (s, &p->sessions, struct session, node) {
		struct conn *c = s->http != NULL ? http_session_ops(s->http)->conn(s->http) : NULL;
		s->seen = c != NULL ? conn_tx_bytes(c) : 0;
		request_look_all(&s->owner);
		if (pumps(s))
			tunnel_look(s->tunnel);
	}
}

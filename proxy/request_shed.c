/* SPDX-License-Identifier: Apache-2.0 */
/* request_shed.c: what requests hold, and giving up those that hold the most; when is shed.c's. */
#include "proxy/request_impl.h"

static size_t held(const struct request *r, bool stalled)
{
	if (stalled && r->moved != r->seen)
		return 0;
	return r->body.len + r->replay.len + r->answer.len + r->arena.used;
}

size_t request_held(const struct request_owner *o, bool stalled)
{
	size_t most = 0;
	list_for_each (r, &o->requests, struct request, node)
		most = MAX(most, held(r, stalled));
	return most;
}

void request_look_all(struct request_owner *o)
{
	list_for_each (r, &o->requests, struct request, node)
		r->seen = r->moved;
}

void request_shed(struct request_owner *o, bool stalled, size_t least, size_t want, struct shed_count *n)
{
	list_for_each_safe (r, &o->requests, struct request, node) {
		size_t bytes = held(r, stalled);
		if (bytes < least || n->bytes >= want)
			continue;
		n->bytes += bytes;
		n->streams++;
		balance_end(r->p->balancer, &r->attempt, OUTCOME_NEUTRAL, REASON_NONE);
		r->calls = false; /* its last words would wait behind what is to go */
		request_answer(r, REASON_SHED, false);
	}
}

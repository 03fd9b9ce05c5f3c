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

bool shed_take(const struct shed_want *want, size_t bytes)
{
	size_t left = __atomic_load_n(want->left, __ATOMIC_RELAXED);
	if (bytes < want->least)
		return false;
	while (left > 0)
		if (__atomic_compare_exchange_n(want->left, &left, left - MIN(left, bytes), true, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return true;
	return false;
}

void request_shed(struct request_owner *o, const struct shed_want *want, struct shed_count *n)
{
	list_for_each_safe (r, &o->requests, struct request, node) {
		if (!shed_take(want, held(r, want->stalled)))
			continue;
		n->streams++;
		balance_end(r->p->balancer, &r->attempt, OUTCOME_NEUTRAL, REASON_NONE);
		r->calls = false; /* its last words would wait behind what is to go */
		request_answer(r, REASON_SHED, false);
	}
}

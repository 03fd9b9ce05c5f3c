/* SPDX-License-Identifier: Apache-2.0 */
/* live.h: what this thread has seen of the endpoints it uses: latency and load; and, shared with the other threads, failures, ejection and
 * silence (repute.h). It is kept by address, port and identity, so that it outlives the snapshots that name the endpoint; what nobody names any
 * more is kept for LIVE_KEEP_MS.
 *
 * Owns the entries; holders count references. Does not know sets or services: which share may be ejected is the balancer's to say.
 * One table a thread. Latency is each thread's own: to share it each answer would write to what all read for each choice. */
#ifndef WEFT_PROXY_BALANCE_LIVE_H
#define WEFT_PROXY_BALANCE_LIVE_H

#include "lib/loop.h"
#include "lib/map.h"
#include "proxy/balance/repute.h"
#include "proxy/snapshot.h"

#include <jansson.h>

#define LIVE_MAX      16384  /* entries; past it idle ones go early, then newcomers share one that tells nothing */
#define LIVE_KEEP_MS  600000 /* without a holder: twice the longest ejection */
#define LIVE_PATIENCE 8      /* times the slowest answer of late: silence that long is not slowness */

/* A request that has not been answered yet. Embed it; list node initialised or in the endpoint's list. */
struct live_pending {
	struct list node;
	uint64_t began_us;
	bool found; /* lives_silent() has named it */
};

/* Freed by the table, when no one holds it and it was idle for long enough. */
struct live {
	struct map_node node;
	struct list idle;      /* no holder: in the table's list, oldest first */
	struct list out;       /* ejected by this thread: in the table's list */
	struct list pending;   /* struct live_pending, the oldest first */
	struct repute *repute; /* a reference */
	double ewma_us;        /* peak EWMA of the time to the first byte of an answer, as of seen_us; 0: not known */
	uint64_t seen_us;
	double answer_us;  /* the slowest answer of late, as of heard_us: what was given up or failed is not in it */
	uint64_t heard_us; /* the last answer began; 0: none yet */
	uint64_t idle_since_ms;
	uint64_t ended, failed; /* attempts */
	uint64_t lost_conn;     /* the last connection whose end was a failure (balance_lost); 0: none */
	uint32_t refs, in_flight;
	bool shared;
};
_Static_assert(sizeof(struct live) <= 168, "one for each endpoint in use");

struct lives;

struct lives *lives_new(struct loop *loop, struct reputes *reputes);
void lives_free(struct lives **t); /* all references must have been given back */
/* The entry of this endpoint, made when there is none; one reference. Never NULL. */
struct live *live_get(struct lives *t, const struct endpoint *ep);
void live_put(struct lives *t, struct live **l);

double live_estimate(const struct live *l, uint64_t now_us); /* as of now; 0: not known */
/* The estimate, or the age of the oldest unanswered request where that is more (who hangs is not fast; another thread's counts while nobody is
 * answered), times the load that one more
 * request would make. Unknown: 0 while nothing is on its way (one request finds out),
 * else more than any known one. */
double live_cost(const struct live *l, uint64_t now_us);
/* An answer took so long. A peak counts at once, an improvement slowly. */
void live_sample(struct live *l, uint64_t now_us, double took_us);
/* The same, and it was an answer: the endpoint is not silent. */
void live_heard(struct live *l, uint64_t now_us, double took_us);

/* Requests of endpoints that have gone silent: unanswered for `patience_us`, and for LIVE_PATIENCE times what answers lately took there, with
 * no other answer from the endpoint in all that time, to any thread. The others are told of what hangs. An endpoint that has not answered of late gets `patience_us` and a half more. Each is named once;
 * at most `max` a call, the rest by the next one. *ret_waiting: some request somewhere is unanswered. O(endpoints in use). */
size_t lives_silent(struct lives *t, uint64_t now_us, uint64_t patience_us, struct live_pending **out, size_t max,
		    bool *ret_waiting);

/* With the lock of the reputes held. Takes it out of use of all threads until then; lives_ejected() counts it from now on, and it comes back by
 * itself. */
void live_eject(struct lives *t, struct live *l, uint64_t for_ms);
size_t lives_ejected(const struct lives *t); /* by this thread */
/* Back in use, and says so. With the lock of the reputes held. */
void live_return(struct repute *r);
size_t lives_len(const struct lives *t);
void lives_sweep(struct lives *t);
json_t *lives_dump(const struct lives *t);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* balance.h: which endpoint of a set, and what came of it. An algorithm is one constant struct from one file and one row in
 * balancers.tbl.h; it sees a group and answers with an index.
 *
 * The balancer keeps, by thread, a view of each set in use (a group) and the live state of its endpoints (live.h); it takes endpoints out that
 * fail again and again (outlier detection), for all threads (repute.h), and counts what a service has on its way (circuit.h). */
#ifndef WEFT_PROXY_BALANCE_BALANCE_H
#define WEFT_PROXY_BALANCE_BALANCE_H

#include "proxy/balance/circuit.h"
#include "proxy/balance/live.h"
#include "proxy/policy/policy.h"
#include "proxy/snapshot.h"
#include "proxy/stats.h"

#define EJECT_AFTER     5      /* consecutive failures */
#define EJECT_MS        10000  /* times the number of ejections in a row */
#define EJECT_MAX_MS    300000 /* a time without one that long, and the count begins anew */
#define LAST_CHOICE_MS  10000  /* of one that should be ejected and may not; each further failure begins it anew */
#define HEDGE_AFTER_MS  2000   /* the default of --hedge-after */
#define BALANCE_LOOK_MS 250    /* for silent endpoints, while requests are unanswered */
#define GROUP_KEEP_MS   60000  /* a set that nobody asked for; one that no snapshot has goes at once */

struct balancer;

/* A set as this thread sees it. Algorithms read it; state and score are theirs. */
struct group {
	struct map_node node; /* by the set's address: the reference keeps that unique */
	struct endpoint_set *set;
	struct circuit *circuit;
	uint64_t used_ms;
	unsigned users;   /* attempts on their way */
	unsigned epoch;   /* of the ejections that n_out counts */
	size_t n_out;     /* ejected ones */
	bool weighted;    /* not all weights are equal */
	uint64_t *upto;   /* weighted: sums of weights up to and with each endpoint */
	int64_t *score;   /* round robin, weighted */
	uint32_t turn;    /* round robin */
	struct live *v[]; /* as in the set */
};

/* Which endpoints count for this pick. */
struct avoid {
	const struct addr *tried; /* by this request before */
	size_t n_tried;
	uint64_t now_ms;
	bool panic; /* ejections do not count: too few would be left */
	bool last;  /* those of last choice count as well */
};
bool group_usable(const struct group *g, size_t i, const struct avoid *avoid);

struct balance_ops {
	const char *name;
	/* Index of an endpoint that group_usable() lets through, if there is one; else -1. The set is not empty. */
	long (*pick)(struct balancer *b, struct group *g, const struct avoid *avoid);
};
const struct balance_ops *balance_ops_find(const char *name); /* NULL: no such algorithm; "": the default */

uint64_t balance_now_us(const struct balancer *b);
uint64_t balance_random(struct balancer *b, uint64_t below); /* uniform */

/* circuits, reputes: the process's, outlive the balancer. */
struct balancer *balancer_new(struct loop *loop, const struct balance_ops *ops, struct stats *stats,
			      struct circuits *circuits, struct reputes *reputes);
void balancer_free(struct balancer **b);
/* How long an endpoint may be silent (live.h) before on_silent is called, looked at every BALANCE_LOOK_MS; 0, as at the start: never. */
void balancer_hedge_after(struct balancer *b, uint64_t ms);

/* One attempt at one endpoint: from the choice to the end of the exchange. Embed it; zeroed: none. */
struct attempt {
	struct live *live; /* NULL: none, or nothing is kept of this one */
	struct group *group;
	struct circuit *circuit;
	struct live_pending pending;
	bool answered;
	bool out;     /* chosen although it was ejected: a good end brings it back */
	bool counted; /* its failure is one with another's: balance_lost() */
	/* Set after the pick, or NULL. At most once, from the loop: the endpoint has gone silent (balancer_hedge_after). The attempt goes on. */
	void (*on_silent)(struct attempt *a);
};

/* Asks for the permit, so that nothing is balanced that policy did not let through. Begins the attempt; balance_end() must follow. NULL: why
 * not. */
const struct endpoint *balance_pick(struct balancer *b, const struct permit *permit, const char *service,
				    struct endpoint_set *set, const struct addr *tried, size_t n_tried,
				    struct attempt *ret, enum reason *ret_why);
/* The same where there is nothing to choose: a workload's own address. */
void balance_direct(struct balancer *b, const struct permit *permit, const struct endpoint *ep, struct attempt *ret);

/* The request leaves now. What came before, a handshake that only the first one pays, is not the endpoint's latency: counted, it would keep a
 * new endpoint nearly unused until the peak has decayed. */
void balance_sent(struct balancer *b, struct attempt *a);
void balance_answered(struct balancer *b, struct attempt *a); /* the answer begins (opaque: connected) */
/* It is lost with its connection, as all others on it are: `conn` is a number that no other connection of this thread has, and not 0. That is
 * one event, and one failure: that of the first of them which ends as failed. Before balance_end(). */
void balance_lost(struct attempt *a, uint64_t conn);
/* The attempt lives at `to` (none there) from now on; none is left at `from`. on_silent stays behind. */
void balance_move(struct attempt *to, struct attempt *from);

enum outcome {
	OUTCOME_GOOD,
	OUTCOME_FAILED,  /* of the endpoint: not connected, reset, timed out, 502, 503, 504 */
	OUTCOME_NEUTRAL, /* says nothing of the endpoint: the client went away, we are stopping */
};
/* Safe when none was begun. `why`: label of the ejection that may follow. */
void balance_end(struct balancer *b, struct attempt *a, enum outcome how, enum reason why);
bool balance_is_failure(enum reason why); /* whether an end of an attempt is the endpoint's failure */

json_t *balance_dump(const struct balancer *b);     /* its endpoints, for the admin socket */
const char *balance_name(const struct balancer *b); /* the algorithm */
size_t balance_known(const struct balancer *b);
size_t balance_ejected(const struct balancer *b);

#endif

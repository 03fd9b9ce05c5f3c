/* SPDX-License-Identifier: Apache-2.0 */
/* balance.c: groups, attempts, outlier detection. What an algorithm must not choose is decided here, what it should choose is not. */
#include "proxy/balance/balance.h"

#include "lib/event.h"
#include "lib/mem.h"

#include <string.h>
#include <sys/random.h>

#define SWEEP_MS                        1000
#define FOUND_MAX                       64 /* told of silence in one go */
#define SLOW_FAILURE_US                 50e3

#define BALANCER(suffix, name, meaning) extern const struct balance_ops balance_##suffix;
#include "proxy/balance/balancers.tbl.h"
#undef BALANCER

static const struct balance_ops *const algorithms[] = {
#define BALANCER(suffix, name, meaning) &balance_##suffix,
#include "proxy/balance/balancers.tbl.h"
#undef BALANCER
};

struct balancer {
	struct loop *loop;
	const struct balance_ops *ops;
	struct stats *stats;
	struct lives *lives;
	struct reputes *reputes; /* the process's */
	struct map groups;
	struct circuits *circuits; /* the process's */
	struct circuit *direct;    /* of what is no service */
	struct timer sweep;
	struct timer look;    /* for silence */
	uint64_t patience_us; /* 0: nobody looks */
	uint64_t seed;
};

const struct balance_ops *balance_ops_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(algorithms); i++)
		if (*name == '\0' || strcmp(algorithms[i]->name, name) == 0)
			return algorithms[i];
	return NULL;
}

uint64_t balance_now_us(const struct balancer *b)
{
	return loop_now_us(b->loop);
}

/* xorshift64*: chance, not secrecy. */
uint64_t balance_random(struct balancer *b, uint64_t below)
{
	b->seed ^= b->seed >> 12;
	b->seed ^= b->seed << 25;
	b->seed ^= b->seed >> 27;
	return (uint64_t)(((unsigned __int128)(b->seed * 0x2545F4914F6CDD1Dull) * below) >> 64);
}

/* --- groups --- */

static void drop(struct balancer *b, struct group *g)
{
	MUST(g->users == 0);
	for (size_t i = 0; i < g->set->len; i++)
		live_put(b->lives, &g->v[i]);
	map_del(&b->groups, &g->node);
	circuit_unref(&g->circuit);
	endpoint_set_unref(&g->set);
	mem_free(g->upto);
	mem_free(g->score);
	mem_free(g);
}

static bool stale(const struct group *g, uint64_t now)
{
	bool only_ours = __atomic_load_n(&g->set->refs, __ATOMIC_ACQUIRE) == 1;
	return g->users == 0 && (only_ours || now - g->used_ms >= GROUP_KEEP_MS);
}

static void sweep(struct timer *t)
{
	struct balancer *b = CONTAINER_OF(t, struct balancer, sweep);
	uint64_t now = loop_now_ms(b->loop);
	map_for_each (n, &b->groups) {
		struct group *g = CONTAINER_OF(n, struct group, node);
		if (stale(g, now))
			drop(b, g);
	}
	lives_sweep(b->lives);
	if (lives_len(b->lives) > 0)
		timer_start(&b->sweep, SWEEP_MS);
}

static void weigh(struct group *g)
{
	const struct endpoint_set *set = g->set;
	uint64_t sum = 0;
	for (size_t i = 1; i < set->len; i++)
		g->weighted = g->weighted || set->v[i].weight != set->v[0].weight;
	if (!g->weighted)
		return;
	g->upto = mem_alloc(set->len * sizeof(*g->upto));
	g->score = mem_zalloc(set->len * sizeof(*g->score));
	for (size_t i = 0; i < set->len; i++)
		g->upto[i] = sum += MAX(set->v[i].weight, 1u);
}

static struct group *group_of(struct balancer *b, const char *service, struct endpoint_set *set)
{
	struct map_node *n = map_get(&b->groups, str_make((const char *)&set, sizeof(set)));
	if (n != NULL)
		return CONTAINER_OF(n, struct group, node);
	struct group *g = mem_zalloc(sizeof(*g) + set->len * sizeof(struct live *));
	g->set = endpoint_set_ref(set);
	g->circuit = circuit_get(b->circuits, service, loop_now_ms(b->loop));
	g->epoch = reputes_epoch(b->reputes) - 1;
	for (size_t i = 0; i < set->len; i++)
		g->v[i] = live_get(b->lives, &set->v[i]);
	weigh(g);
	map_put(&b->groups, &g->node, str_make((const char *)&g->set, sizeof(g->set)));
	if (!timer_running(&b->sweep))
		timer_start(&b->sweep, SWEEP_MS);
	return g;
}

/* The epoch first: who is ejected while we count is counted the next time. */
static void count_out(const struct balancer *b, struct group *g)
{
	unsigned epoch = reputes_epoch(b->reputes);
	if (g->epoch == epoch)
		return;
	g->epoch = epoch;
	g->n_out = 0;
	for (size_t i = 0; i < g->set->len; i++)
		g->n_out += REPUTE_READ(g->v[i]->repute, ejected);
}

bool group_usable(const struct group *g, size_t i, const struct avoid *avoid)
{
	const struct repute *r = g->v[i]->repute;
	if (!avoid->panic && REPUTE_READ(r, ejected))
		return false;
	if (!avoid->last && REPUTE_READ(r, last_choice_ms) > avoid->now_ms)
		return false;
	for (size_t k = 0; k < avoid->n_tried; k++)
		if (addr_eq(&avoid->tried[k], &g->set->v[i].addr))
			return false;
	return true;
}

/* --- attempts --- */

/* `c`: one of its active requests is taken. */
static void begin(struct balancer *b, struct attempt *a, struct live *l, struct circuit *c)
{
	*a = (struct attempt){.live = l, .circuit = circuit_ref(c)};
	a->pending.began_us = loop_now_us(b->loop);
	list_push(&l->pending, &a->pending.node);
	l->refs++;
	l->in_flight++;
	if (b->patience_us != 0 && !timer_running(&b->look))
		timer_start(&b->look, BALANCE_LOOK_MS);
}

/* First all are found, then they are told: what they do changes the tables. None of them ends another's attempt. */
static void look(struct timer *t)
{
	struct balancer *b = CONTAINER_OF(t, struct balancer, look);
	struct live_pending *found[FOUND_MAX];
	bool waiting;
	size_t n = lives_silent(b->lives, loop_now_us(b->loop), b->patience_us, found, FOUND_MAX, &waiting);
	if (waiting)
		timer_start(&b->look, BALANCE_LOOK_MS);
	for (size_t i = 0; i < n; i++) {
		struct attempt *a = CONTAINER_OF(found[i], struct attempt, pending);
		if (a->on_silent != NULL)
			a->on_silent(a);
	}
}

void balancer_hedge_after(struct balancer *b, uint64_t ms)
{
	b->patience_us = ms * 1000;
}

/* Nobody is known to be well: the one whose failure is the longest past may be again, ejected or not. In turn, so that one
 * that hangs does not get all; who answers well is in use again. */
static long resort(struct balancer *b, struct group *g, const struct avoid *avoid)
{
	uint32_t first = 0;
	long at = -1;
	for (size_t i = 0; i < g->set->len; i++) {
		uint32_t failed_at = REPUTE_READ(g->v[i]->repute, failed_at);
		if (!group_usable(g, i, avoid) || (at >= 0 && (int32_t)(failed_at - first) >= 0))
			continue;
		at = (long)i;
		first = failed_at;
	}
	if (at >= 0)
		REPUTE_WRITE(g->v[at]->repute, failed_at, reputes_order(b->reputes));
	return at;
}

/* Who was not tried by this request comes first, an ejected one too: that one may be well again, while the one that was tried has failed just
 * now. A set of one has nothing else to offer. */
static long choose(struct balancer *b, struct group *g, const struct addr *tried, size_t n_tried)
{
	bool panic = (g->set->len - g->n_out) * 2 < g->set->len;
	uint64_t now_ms = loop_now_ms(b->loop);
	long at = -1;
	for (int again = n_tried == 0; again < 2 && at < 0; again++) {
		size_t n = again ? 0 : n_tried;
		struct avoid ill = {.tried = tried, .n_tried = n, .now_ms = now_ms, .panic = panic, .last = panic};
		struct avoid none = {.tried = tried, .n_tried = n, .now_ms = now_ms, .panic = true, .last = true};
		at = b->ops->pick(b, g, &ill);
		if (at < 0)
			at = resort(b, g, &none);
	}
	return at;
}

const struct endpoint *balance_pick(struct balancer *b, const struct permit *permit, const char *service,
				    struct endpoint_set *set, const struct addr *tried, size_t n_tried,
				    struct attempt *ret, enum reason *ret_why)
{
	MUST(permit != NULL && permit->policy != NULL && ret->live == NULL);
	if (set->len == 0) {
		*ret_why = REASON_NO_HEALTHY;
		return NULL;
	}
	struct group *g = group_of(b, service, set);
	g->used_ms = loop_now_ms(b->loop);
	if (!circuit_take(&g->circuit->active, CIRCUIT_ACTIVE_MAX)) {
		*ret_why = REASON_OVERFLOW;
		return NULL;
	}
	count_out(b, g);
	long i = choose(b, g, tried, n_tried);
	MUST(i >= 0 && (size_t)i < set->len);
	begin(b, ret, g->v[i], g->circuit);
	ret->out = REPUTE_READ(g->v[i]->repute, ejected);
	ret->group = g;
	g->users++;
	if (n_tried == 0)
		circuit_request(g->circuit);
	return &set->v[i];
}

void balance_direct(struct balancer *b, const struct permit *permit, const struct endpoint *ep, struct attempt *ret)
{
	MUST(permit != NULL && permit->policy != NULL && ret->live == NULL);
	struct live *l = live_get(b->lives, ep);
	MUST(circuit_take(&b->direct->active, UINT32_MAX)); /* no service, no limit: counted only */
	begin(b, ret, l, b->direct);
	live_put(b->lives, &l);
	if (!timer_running(&b->sweep))
		timer_start(&b->sweep, SWEEP_MS);
}

void balance_sent(struct balancer *b, struct attempt *a)
{
	if (a->live == NULL || a->answered)
		return;
	a->pending.began_us = loop_now_us(b->loop);
	a->pending.found = false;
	list_remove(&a->pending.node);
	list_push(&a->live->pending, &a->pending.node);
}

void balance_answered(struct balancer *b, struct attempt *a)
{
	if (a->live == NULL || a->answered)
		return;
	uint64_t now = loop_now_us(b->loop);
	a->answered = true;
	list_remove(&a->pending.node);
	live_heard(a->live, now, (double)(now - a->pending.began_us));
}

void balance_lost(struct attempt *a, uint64_t conn)
{
	MUST(conn != 0);
	if (a->live == NULL)
		return;
	a->counted = a->live->lost_conn == conn;
	a->live->lost_conn = conn;
}

void balance_move(struct attempt *to, struct attempt *from)
{
	MUST(to->live == NULL);
	*to = *from;
	to->on_silent = NULL;
	if (from->live != NULL) {
		list_init(&to->pending.node);
		if (!list_empty(&from->pending.node)) {
			list_push_front(&from->pending.node, &to->pending.node); /* in its place */
			list_remove(&from->pending.node);
		}
	}
	*from = (struct attempt){.live = NULL};
}

/* An attempt that never was answered took at least this long: it may raise the estimate, not improve it. A failure that came at once says
 * nothing of how long answers take. */
static void unanswered(struct balancer *b, struct attempt *a, double at_least_us)
{
	uint64_t now = loop_now_us(b->loop);
	double took = (double)(now - a->pending.began_us);
	if (!a->answered && took > MAX(live_estimate(a->live, now), at_least_us))
		live_sample(a->live, now, took);
}

static uint64_t eject_ms(uint32_t ejections)
{
	return MIN((uint64_t)EJECT_MS * ejections, (uint64_t)EJECT_MAX_MS);
}

/* When it had been out for a first ejection. */
static uint64_t paid_ms(const struct repute *r)
{
	return r->until_ms - eject_ms(r->ejections) + EJECT_MS;
}

/* The ejected one that went first, if that was EJECT_MS ago or more; else NULL. */
static struct repute *longest_out(const struct balancer *b, const struct group *g)
{
	struct repute *first = NULL;
	uint64_t since = loop_now_ms(b->loop);
	for (size_t i = 0; i < g->set->len; i++) {
		struct repute *r = g->v[i]->repute;
		if (r->ejected && paid_ms(r) <= since) {
			first = r;
			since = paid_ms(r);
		}
	}
	return first;
}

/* At most half of a set, whichever threads ejected them, and never the last one. Ejections in a row grow long, so who went long ago may be well by
 * now: it gives its place to who fails now, and has one attempt to show it. */
static bool may_eject(struct balancer *b, struct group *g)
{
	count_out(b, g);
	if (g->set->len > 1 && (g->n_out + 1) * 2 <= g->set->len)
		return true;
	struct repute *r = (g->n_out * 2 <= g->set->len) ? longest_out(b, g) : NULL;
	if (r == NULL)
		return false;
	live_return(r);
	REPUTE_WRITE(r, failures, EJECT_AFTER - 1);
	return true;
}

/* With the lock held: nobody else ejects or returns meanwhile. Milliseconds; 0: it is not ejected. */
static uint64_t eject(struct balancer *b, struct group *g, struct live *l)
{
	struct repute *r = l->repute;
	uint64_t now = loop_now_ms(b->loop);
	if (r->ejected || REPUTE_READ(r, failures) < EJECT_AFTER)
		return 0;
	if (g == NULL || !may_eject(b, g)) { /* it stays, but as the last choice */
		REPUTE_WRITE(r, last_choice_ms, now + LAST_CHOICE_MS);
		return 0;
	}
	if (now > r->until_ms + EJECT_MAX_MS)
		REPUTE_WRITE(r, ejections, 0);
	uint64_t ms = eject_ms(r->ejections + 1);
	live_eject(b->lives, l, ms);
	return ms;
}

static void consider(struct balancer *b, struct attempt *a, uint32_t failures, enum reason why)
{
	struct live *l = a->live;
	char addr[ADDR_TEXT_MAX];
	if (failures < EJECT_AFTER || l->shared || REPUTE_READ(l->repute, ejected))
		return;
	reputes_lock(b->reputes);
	uint64_t ms = eject(b, a->group, l);
	reputes_unlock(b->reputes);
	if (ms == 0)
		return;
	stats_ejection(b->stats, a->circuit->name, why);
	event(EV_ENDPOINT_EJECTED, "service=%s endpoint=\"%s\" reason=%s failures=%u ms=%llu", a->circuit->name,
	      addr_text(&l->repute->addr, addr), reason_row(why)->label, failures, (unsigned long long)ms);
}

/* It was chosen although it was out, and is well. */
static void bring_back(struct balancer *b, struct repute *r)
{
	reputes_lock(b->reputes);
	if (r->ejected)
		live_return(r);
	reputes_unlock(b->reputes);
}

void balance_end(struct balancer *b, struct attempt *a, enum outcome how, enum reason why)
{
	struct live *l = a->live;
	if (l == NULL)
		return;
	MUST(l->in_flight > 0);
	l->in_flight--;
	list_remove(&a->pending.node);
	l->ended++;
	circuit_give(&a->circuit->active);
	switch (how) {
	case OUTCOME_GOOD:
		repute_good(l->repute);
		if (a->out)
			bring_back(b, l->repute);
		break;
	case OUTCOME_FAILED:
		unanswered(b, a, SLOW_FAILURE_US);
		l->failed++;
		if (!a->counted)
			consider(b, a, repute_failed(l->repute), why);
		break;
	case OUTCOME_NEUTRAL:
		unanswered(b, a, 0);
		break;
	}
	if (a->group != NULL)
		a->group->users--;
	circuit_unref(&a->circuit);
	live_put(b->lives, &a->live);
	*a = (struct attempt){.live = NULL};
}

bool balance_is_failure(enum reason why)
{
	uint16_t status = reason_row(why)->http_status;
	return status >= 502 && status <= 504 && why != REASON_NOT_READY && why != REASON_OVERFLOW;
}

/* --- the whole --- */

struct balancer *balancer_new(struct loop *loop, const struct balance_ops *ops, struct stats *stats,
			      struct circuits *circuits, struct reputes *reputes)
{
	struct balancer *b = NEW(struct balancer);
	b->loop = loop;
	b->ops = ops;
	b->stats = stats;
	b->lives = lives_new(loop, reputes);
	b->reputes = reputes;
	map_init(&b->groups);
	b->circuits = circuits;
	b->direct = circuit_get(circuits, "", loop_now_ms(loop));
	timer_init(&b->sweep, loop, sweep);
	timer_init(&b->look, loop, look);
	if (getrandom(&b->seed, sizeof(b->seed), GRND_NONBLOCK) != sizeof(b->seed) || b->seed == 0)
		b->seed = (uint64_t)(uintptr_t)b | 1;
	return b;
}

void balancer_free(struct balancer **bp)
{
	struct balancer *b = *bp;
	if (b == NULL)
		return;
	timer_stop(&b->sweep);
	timer_stop(&b->look);
	map_for_each (n, &b->groups)
		drop(b, CONTAINER_OF(n, struct group, node));
	circuit_unref(&b->direct);
	lives_free(&b->lives);
	map_done(&b->groups);
	FREE(bp);
}

json_t *balance_dump(const struct balancer *b)
{
	return lives_dump(b->lives);
}

const char *balance_name(const struct balancer *b)
{
	return b->ops->name;
}

size_t balance_known(const struct balancer *b)
{
	return lives_len(b->lives);
}

size_t balance_ejected(const struct balancer *b)
{
	return lives_ejected(b->lives);
}

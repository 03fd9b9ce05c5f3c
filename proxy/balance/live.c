/* SPDX-License-Identifier: Apache-2.0 */
/* live.c: the table of endpoints in use, and peak EWMA: the estimate jumps up to a slower answer and comes down with time (Finagle). */
#include "proxy/balance/live.h"

#include "certs/spiffe.h"
#include "lib/event.h"
#include "lib/mem.h"

#include <string.h>

#define KEY_HEAD   ADDR_KEY_LEN
#define UNKNOWN_US 1e12 /* more than any answer takes */

struct lives {
	struct loop *loop;
	struct reputes *reputes; /* the process's */
	struct map map;
	struct list idle, out;
	struct timer back;   /* the first of those that come back */
	struct live *shared; /* for those that find the table full; never ejected */
};

static uint64_t since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
}

double live_estimate(const struct live *l, uint64_t now_us)
{
	return repute_decayed(l->ewma_us, since(now_us, l->seen_us));
}

double live_cost(const struct live *l, uint64_t now_us)
{
	double ewma = live_estimate(l, now_us);
	struct live_pending *oldest = list_first(&l->pending, struct live_pending, node);
	if (ewma <= 0 && l->in_flight > 0)
		ewma = UNKNOWN_US;
	if (oldest != NULL)
		ewma = MAX(ewma, (double)since(now_us, oldest->began_us));
	ewma = MAX(ewma, (double)repute_hung(l->repute, now_us));
	return ewma * ((double)l->in_flight + 1);
}

void live_sample(struct live *l, uint64_t now_us, double took_us)
{
	double kept = live_estimate(l, now_us);
	double share = l->ewma_us > 0 ? kept / l->ewma_us : 0;
	took_us = MAX(took_us, 1.0);
	l->ewma_us = took_us >= kept ? took_us : kept + took_us * (1 - share);
	l->seen_us = now_us;
}

/* --- silence --- */

void live_heard(struct live *l, uint64_t now_us, double took_us)
{
	l->answer_us = MAX(took_us, repute_decayed(l->answer_us, since(now_us, l->heard_us)));
	l->heard_us = now_us;
	repute_heard(l->repute, now_us, took_us);
	live_sample(l, now_us, took_us);
}

static uint64_t patience(const struct live *l, uint64_t now_us, uint64_t least_us)
{
	double mine = repute_decayed(l->answer_us, since(now_us, l->heard_us));
	double slowest = MAX(mine, repute_slowest(l->repute, now_us));
	if (slowest <= 0)
		return least_us + least_us / 2;
	return MAX(least_us, (uint64_t)(slowest * LIVE_PATIENCE));
}

/* The pending ones stand in the order in which they began: those that began since the last answer are at the end. */
static size_t silent_of(struct live *l, uint64_t now_us, uint64_t least_us, struct live_pending **out, size_t max)
{
	uint64_t wait = patience(l, now_us, least_us), heard = MAX(l->heard_us, REPUTE_READ(l->repute, heard_us));
	uint64_t oldest = 0;
	size_t n = 0;
	for (struct list *it = l->pending.prev; it != &l->pending; it = it->prev) {
		struct live_pending *p = CONTAINER_OF(it, struct live_pending, node);
		if (p->began_us < heard)
			break;
		oldest = p->began_us;
		if (p->found || since(now_us, p->began_us) < wait || n == max)
			continue;
		p->found = true;
		out[n++] = p;
	}
	if (oldest != 0)
		repute_hangs(l->repute, now_us, oldest);
	return n;
}

size_t lives_silent(struct lives *t, uint64_t now_us, uint64_t patience_us, struct live_pending **out, size_t max,
		    bool *ret_waiting)
{
	size_t n = 0;
	*ret_waiting = !list_empty(&t->shared->pending);
	map_for_each (node, &t->map) {
		struct live *l = CONTAINER_OF(node, struct live, node);
		if (list_empty(&l->pending))
			continue;
		*ret_waiting = true;
		n += silent_of(l, now_us, patience_us, out + n, max - n);
	}
	return n;
}

/* --- ejection --- */

void live_return(struct repute *r)
{
	char addr[ADDR_TEXT_MAX];
	repute_return(r);
	event(EV_ENDPOINT_BACK, "endpoint=\"%s\" identity=\"%s\"", addr_text(&r->addr, addr), r->key + KEY_HEAD);
}

static void arm(struct lives *t)
{
	uint64_t now = loop_now_ms(t->loop), first = UINT64_MAX;
	list_for_each (l, &t->out, struct live, out)
		first = MIN(first, REPUTE_READ(l->repute, until_ms));
	if (first != UINT64_MAX)
		timer_start(&t->back, since(first, now));
}

/* Another thread may have brought it back meanwhile, or ejected it since: then that one sees to it. */
static bool ours(const struct lives *t, const struct live *l)
{
	return REPUTE_READ(l->repute, by) == t;
}

static void on_back(struct timer *timer)
{
	struct lives *t = CONTAINER_OF(timer, struct lives, back);
	uint64_t now = loop_now_ms(t->loop);
	reputes_lock(t->reputes);
	list_for_each_safe (l, &t->out, struct live, out) {
		if (ours(t, l) && l->repute->until_ms > now)
			continue;
		if (ours(t, l))
			live_return(l->repute);
		list_remove(&l->out);
	}
	reputes_unlock(t->reputes);
	arm(t);
}

void live_eject(struct lives *t, struct live *l, uint64_t for_ms)
{
	MUST(!l->shared);
	repute_eject(l->repute, t, loop_now_ms(t->loop) + for_ms);
	list_remove(&l->out);
	list_push(&t->out, &l->out);
	arm(t);
}

size_t lives_ejected(const struct lives *t)
{
	size_t n = 0;
	list_for_each (l, &t->out, struct live, out)
		n += ours(t, l);
	return n;
}

size_t lives_len(const struct lives *t)
{
	return t->map.len;
}

/* --- the table --- */

static void drop(struct lives *t, struct live *l)
{
	MUST(l->refs == 0);
	reputes_lock(t->reputes);
	if (ours(t, l)) /* nobody else would see to it */
		repute_return(l->repute);
	reputes_unlock(t->reputes);
	list_remove(&l->out);
	list_remove(&l->idle);
	map_del(&t->map, &l->node);
	repute_unref(&l->repute);
	mem_free(l);
}

/* Takes the reference. */
static struct live *make(struct repute *r)
{
	struct live *l = NEW(struct live);
	l->repute = r;
	list_init(&l->idle);
	list_init(&l->out);
	list_init(&l->pending);
	l->refs = 1;
	return l;
}

static size_t key_of(const struct endpoint *ep, char *out, size_t cap)
{
	const char *identity = ep->meshed && ep->identity != NULL ? ep->identity : "";
	size_t n = MIN(strlen(identity), cap - KEY_HEAD);
	addr_key(&ep->addr, out);
	memcpy(out + KEY_HEAD, identity, n);
	return KEY_HEAD + n;
}

struct live *live_get(struct lives *t, const struct endpoint *ep)
{
	char key[KEY_HEAD + SPIFFE_ID_MAX];
	size_t len = key_of(ep, key, sizeof(key));
	struct map_node *n = map_get(&t->map, str_make(key, len));
	if (n != NULL) {
		struct live *l = CONTAINER_OF(n, struct live, node);
		list_remove(&l->idle);
		l->refs++;
		return l;
	}
	if (t->map.len >= LIVE_MAX && !list_empty(&t->idle))
		drop(t, list_first(&t->idle, struct live, idle));
	if (t->map.len >= LIVE_MAX) {
		t->shared->refs++;
		return t->shared;
	}
	struct live *l = make(repute_get(t->reputes, str_make(key, len), &ep->addr));
	map_put(&t->map, &l->node, str_make(l->repute->key, len));
	return l;
}

void live_put(struct lives *t, struct live **lp)
{
	struct live *l = *lp;
	if (l == NULL)
		return;
	*lp = NULL;
	MUST(l->refs > 0);
	if (--l->refs > 0 || l->shared)
		return;
	l->idle_since_ms = loop_now_ms(t->loop);
	list_push(&t->idle, &l->idle);
}

void lives_sweep(struct lives *t)
{
	uint64_t now = loop_now_ms(t->loop);
	struct live *l;
	while ((l = list_first(&t->idle, struct live, idle)) != NULL && now - l->idle_since_ms >= LIVE_KEEP_MS)
		drop(t, l);
}

struct lives *lives_new(struct loop *loop, struct reputes *reputes)
{
	struct lives *t = NEW(struct lives);
	t->loop = loop;
	t->reputes = reputes;
	map_init(&t->map);
	list_init(&t->idle);
	list_init(&t->out);
	timer_init(&t->back, loop, on_back);
	t->shared = make(repute_new(reputes, str_make("", 0)));
	t->shared->shared = true;
	return t;
}

void lives_free(struct lives **tp)
{
	struct lives *t = *tp;
	if (t == NULL)
		return;
	timer_stop(&t->back);
	while (!list_empty(&t->idle))
		drop(t, list_first(&t->idle, struct live, idle));
	MUST(t->map.len == 0);
	map_done(&t->map);
	repute_unref(&t->shared->repute);
	mem_free(t->shared);
	FREE(tp);
}

static json_t *dump_one(const struct live *l, uint64_t now_ms, uint64_t now_us)
{
	const struct repute *r = l->repute;
	bool ejected = REPUTE_READ(r, ejected);
	char addr[ADDR_TEXT_MAX];
	return json_pack("{s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:b}", "address",
			 addr_text(&r->addr, addr), "identity", r->key + KEY_HEAD, "ewmaMs",
			 live_estimate(l, now_us) / 1000, "inFlight", (json_int_t)l->in_flight, "failures",
			 (json_int_t)REPUTE_READ(r, failures), "ended", (json_int_t)l->ended, "failed",
			 (json_int_t)l->failed, "ejected", ejected, "ejections", (json_int_t)REPUTE_READ(r, ejections),
			 "ejectedForMs", (json_int_t)(ejected ? since(REPUTE_READ(r, until_ms), now_ms) : 0),
			 "lastChoice", REPUTE_READ(r, last_choice_ms) > now_ms);
}

json_t *lives_dump(const struct lives *t)
{
	json_t *out = json_array();
	uint64_t now_ms = loop_now_ms(t->loop), now_us = loop_now_us(t->loop);
	map_for_each (n, &t->map)
		json_array_append_new(out, dump_one(CONTAINER_OF(n, struct live, node), now_ms, now_us));
	return out;
}

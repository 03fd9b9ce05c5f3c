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
	struct map map;
	struct list idle, out;
	struct timer back; /* the first of those that come back */
	size_t n_out;
	unsigned epoch;
	struct live *shared; /* for those that find the table full; never ejected */
};

/* e^-(dt / decay), to 2 % where it matters, without a library of its own. */
static double decayed(double v, uint64_t dt_us)
{
	double x = 1 - (double)dt_us / LIVE_DECAY_US / 16;
	if (x <= 0)
		return 0;
	x *= x;
	x *= x;
	x *= x;
	x *= x;
	v *= x;
	return v < 1 ? 0 : v; /* less than a microsecond: forgotten */
}

static uint64_t since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
}

double live_estimate(const struct live *l, uint64_t now_us)
{
	return decayed(l->ewma_us, since(now_us, l->seen_us));
}

double live_cost(const struct live *l, uint64_t now_us)
{
	double ewma = live_estimate(l, now_us);
	struct live_pending *oldest = list_first(&l->pending, struct live_pending, node);
	if (ewma <= 0 && l->in_flight > 0)
		ewma = UNKNOWN_US;
	if (oldest != NULL)
		ewma = MAX(ewma, (double)since(now_us, oldest->began_us));
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
	l->answer_us = MAX(took_us, decayed(l->answer_us, since(now_us, l->heard_us)));
	l->heard_us = now_us;
	live_sample(l, now_us, took_us);
}

static uint64_t patience(const struct live *l, uint64_t now_us, uint64_t least_us)
{
	double slowest = decayed(l->answer_us, since(now_us, l->heard_us));
	if (slowest <= 0)
		return least_us + least_us / 2;
	return MAX(least_us, (uint64_t)(slowest * LIVE_PATIENCE));
}

/* The pending ones stand in the order in which they began: those that began since the last answer are at the end. */
static size_t silent_of(struct live *l, uint64_t now_us, uint64_t least_us, struct live_pending **out, size_t max)
{
	uint64_t wait = patience(l, now_us, least_us);
	size_t n = 0;
	for (struct list *it = l->pending.prev; it != &l->pending; it = it->prev) {
		struct live_pending *p = CONTAINER_OF(it, struct live_pending, node);
		if (p->began_us < l->heard_us)
			break;
		if (p->found || since(now_us, p->began_us) < wait || n == max)
			continue;
		p->found = true;
		out[n++] = p;
	}
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

static void come_back(struct lives *t, struct live *l)
{
	char addr[ADDR_TEXT_MAX];
	l->ejected = false;
	l->failures = 0;
	list_remove(&l->out);
	t->n_out--;
	t->epoch++;
	event(EV_ENDPOINT_BACK, "endpoint=\"%s\" identity=\"%s\"", addr_text(&l->addr, addr), l->key + KEY_HEAD);
}

static void arm(struct lives *t)
{
	uint64_t now = loop_now_ms(t->loop), first = UINT64_MAX;
	list_for_each (l, &t->out, struct live, out)
		first = MIN(first, l->until_ms);
	if (first != UINT64_MAX)
		timer_start(&t->back, since(first, now));
}

static void on_back(struct timer *timer)
{
	struct lives *t = CONTAINER_OF(timer, struct lives, back);
	uint64_t now = loop_now_ms(t->loop);
	list_for_each_safe (l, &t->out, struct live, out)
		if (l->until_ms <= now)
			come_back(t, l);
	arm(t);
}

void live_eject(struct lives *t, struct live *l, uint64_t for_ms)
{
	MUST(!l->ejected && !l->shared);
	l->ejected = true;
	l->ejections++;
	l->until_ms = loop_now_ms(t->loop) + for_ms;
	list_push(&t->out, &l->out);
	t->n_out++;
	t->epoch++;
	arm(t);
}

void live_return(struct lives *t, struct live *l)
{
	MUST(l->ejected);
	come_back(t, l);
	arm(t);
}

size_t lives_ejected(const struct lives *t)
{
	return t->n_out;
}

unsigned lives_epoch(const struct lives *t)
{
	return t->epoch;
}

size_t lives_len(const struct lives *t)
{
	return t->map.len;
}

/* --- the table --- */

static void drop(struct lives *t, struct live *l)
{
	MUST(l->refs == 0);
	if (l->ejected) {
		list_remove(&l->out);
		t->n_out--;
		t->epoch++;
	}
	list_remove(&l->idle);
	map_del(&t->map, &l->node);
	mem_free(l);
}

static struct live *make(const void *key, size_t len)
{
	struct live *l = mem_zalloc(sizeof(*l) + len + 1);
	memcpy(l->key, key, len);
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
	struct live *l = make(key, len);
	l->addr = ep->addr;
	map_put(&t->map, &l->node, str_make(l->key, len));
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

struct lives *lives_new(struct loop *loop)
{
	struct lives *t = NEW(struct lives);
	t->loop = loop;
	map_init(&t->map);
	list_init(&t->idle);
	list_init(&t->out);
	timer_init(&t->back, loop, on_back);
	t->shared = make("", 0);
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
	mem_free(t->shared);
	FREE(tp);
}

json_t *lives_dump(const struct lives *t)
{
	json_t *out = json_array();
	uint64_t now_ms = loop_now_ms(t->loop), now_us = loop_now_us(t->loop);
	map_for_each (n, &t->map) {
		const struct live *l = CONTAINER_OF(n, struct live, node);
		char addr[ADDR_TEXT_MAX];
		json_array_append_new(
		    out, json_pack("{s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:b}", "address",
				   addr_text(&l->addr, addr), "identity", l->key + KEY_HEAD, "ewmaMs",
				   live_estimate(l, now_us) / 1000, "inFlight", (json_int_t)l->in_flight, "failures",
				   (json_int_t)l->failures, "ended", (json_int_t)l->ended, "failed",
				   (json_int_t)l->failed, "ejected", l->ejected, "ejections", (json_int_t)l->ejections,
				   "ejectedForMs", (json_int_t)(l->ejected ? since(l->until_ms, now_ms) : 0),
				   "lastChoice", l->last_choice_ms > now_ms));
	}
	return out;
}

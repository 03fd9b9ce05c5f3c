/* SPDX-License-Identifier: Apache-2.0 */
/* crew.c: making and ending the threads, and what goes to them from the main one. Every way is a letter (lib/mailbox.h): embedded and
 * sent as often as needed where only the newest counts (identity, drain, stop), in memory of its own for each connection, of which there
 * are SESSIONS_MAX at most.
 *
 * Accepting is the main thread's: two event loops that watch one listening socket are woken in the kernel's order, which gives one of
 * them nearly everything (docs/decisions/2026-11-28-threads.md). */
#include "proxy/crew.h"

#include "lib/chunk.h"
#include "lib/event.h"
#include "lib/fdtable.h"
#include "lib/mem.h"
#include "proxy/options.h"
#include "proxy/session.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define IDLE_DOWNSTREAM_MS (3600 * 1000)
#define DESCRIPTORS        8192 /* beyond these opening one may wait */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_SIZE (4u << 20)
#else
#define STACK_SIZE (512u << 10) /* of address space; what is touched counts, some 20 KiB within a handshake */
#endif

struct thread {
	struct proxy proxy;
	struct crew *crew;
	struct loop *loop;         /* owned; NULL: the main loop is it */
	struct identity *identity; /* owned; NULL: the main thread's is it */
	struct credential *next;   /* atomic; the newest that was not taken, a reference; NULL: none */
	struct letter renewed, drain, stop;
	pthread_t id;
	bool started;
};

struct crew {
	struct loop *loop;
	struct circuits *circuits;
	struct reputes *reputes;
	struct stats *stats; /* of the main thread */
	size_t inquiries;
	unsigned n, turn;
	struct thread v[];
};

static bool alone(const struct thread *t)
{
	return t->loop == NULL;
}

static struct thread *thread_of(struct proxy *p)
{
	return CONTAINER_OF(p, struct thread, proxy);
}

/* --- connections --- */

struct parcel {
	struct letter letter;
	struct proxy *p;
	enum direction direction;
	int fd;
};

static void open_parcel(struct letter *l)
{
	struct parcel *x = CONTAINER_OF(l, struct parcel, letter);
	session_accept(x->p, x->direction, x->fd);
	mem_free(x);
}

static void send_parcel(struct proxy *p, enum direction d, int fd)
{
	struct parcel *x = NEW(struct parcel);
	letter_init(&x->letter, open_parcel);
	x->p = p;
	x->direction = d;
	x->fd = fd;
	loop_send(p->loop, &x->letter);
}

static size_t load_of(const struct thread *t)
{
	return __atomic_load_n(&t->proxy.n_sessions, __ATOMIC_ACQUIRE);
}

/* The one with the fewest sessions; of equal ones each in its turn. */
static struct thread *least(struct crew *c)
{
	struct thread *best = &c->v[c->turn % c->n];
	for (unsigned i = 1; i < c->n; i++) {
		struct thread *t = &c->v[(c->turn + i) % c->n];
		if (load_of(t) < load_of(best))
			best = t;
	}
	c->turn = best->proxy.thread + 1;
	return best;
}

size_t crew_sessions(const struct crew *c)
{
	size_t n = 0;
	for (unsigned i = 0; i < c->n; i++)
		n += load_of(&c->v[i]);
	return n;
}

void crew_accept(struct crew *c, enum direction d, int fd)
{
	if (crew_sessions(c) >= SESSIONS_MAX) { /* only we add to them */
		stats_open(c->stats, d);
		stats_close(c->stats, d, false, REASON_OVERFLOW);
		sock_reset_close(fd);
		return;
	}
	struct thread *t = least(c);
	__atomic_fetch_add(&t->proxy.n_sessions, 1, __ATOMIC_RELAXED);
	if (alone(t))
		session_accept(&t->proxy, d, fd);
	else
		send_parcel(&t->proxy, d, fd);
}

/* --- identity --- */

static void take_identity(struct thread *t)
{
	struct credential *c = __atomic_exchange_n(&t->next, NULL, __ATOMIC_ACQ_REL);
	struct err err;
	if (c == NULL)
		return;
	if (!identity_set(t->identity, c, &err)) /* the main thread could: it is for want of memory */
		event(EV_IDENTITY_FAILED, "why=\"thread %u: %s\"", t->proxy.thread, err.text);
	credential_unref(&c);
}

static void on_renewed(struct letter *l)
{
	take_identity(CONTAINER_OF(l, struct thread, renewed));
}

void crew_identity(struct crew *c, const struct credential *credential)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct thread *t = &c->v[i];
		if (alone(t))
			continue;
		struct credential *mine = credential_ref((struct credential *)(uintptr_t)credential);
		struct credential *skipped = __atomic_exchange_n(&t->next, mine, __ATOMIC_ACQ_REL);
		credential_unref(&skipped);
		if (t->started)
			loop_send(t->proxy.loop, &t->renewed);
		else
			take_identity(t);
	}
}

/* --- drain, stop --- */

static void on_drain(struct letter *l)
{
	session_drain_all(&CONTAINER_OF(l, struct thread, drain)->proxy);
}

void crew_drain(struct crew *c)
{
	for (unsigned i = 0; i < c->n; i++)
		if (alone(&c->v[i]))
			session_drain_all(&c->v[i].proxy);
		else
			loop_send(c->v[i].proxy.loop, &c->v[i].drain);
}

struct errand {
	struct proxy *p;
	void (*fn)(struct proxy *p, size_t arg);
	size_t arg;
};

static void on_errand(void *arg)
{
	struct errand *x = arg;
	x->fn(x->p, x->arg);
	mem_free(x);
}

void crew_each(struct crew *c, void (*fn)(struct proxy *p, size_t arg), size_t arg)
{
	for (unsigned i = 0; i < c->n; i++) {
		if (alone(&c->v[i])) {
			fn(&c->v[i].proxy, arg);
			continue;
		}
		struct errand *x = NEW(struct errand);
		*x = (struct errand){.p = &c->v[i].proxy, .fn = fn, .arg = arg};
		if (!loop_post(x->p->loop, on_errand, x))
			mem_free(x);
	}
}

unsigned crew_len(const struct crew *c)
{
	return c->n;
}

static void retire_one(struct proxy *p, size_t arg)
{
	(void)arg;
	session_retire_all(p);
	pool_drain(p->pool);
}

void crew_retire(struct crew *c)
{
	crew_each(c, retire_one, 0);
}

static void on_stop(struct letter *l)
{
	loop_stop(CONTAINER_OF(l, struct thread, stop)->proxy.loop);
}

/* --- what one thread has found out --- */

struct news {
	struct proxy *to;
	struct finding finding;
};

static void on_news(void *arg)
{
	struct news *x = arg;
	session_learn(x->to, &x->finding);
	mem_free(x);
}

/* On a worker thread. A full mailbox loses it: the other thread finds out by itself. */
static void tell_others(struct proxy *p, const struct finding *f)
{
	struct crew *c = thread_of(p)->crew;
	for (unsigned i = 0; i < c->n; i++) {
		if (&c->v[i].proxy == p)
			continue;
		struct news *x = NEW(struct news);
		x->to = &c->v[i].proxy;
		x->finding = *f;
		if (!loop_post(x->to->loop, on_news, x))
			mem_free(x);
	}
}

/* --- questions --- */

struct part { /* of an inquiry: one thread's */
	struct letter letter;
	struct crew_inquiry *of;
	struct thread *thread;
	void *answer;
};

struct crew_inquiry { /* freed when all have answered and nobody listens any more */
	struct crew *crew;
	const struct crew_question *q;
	void *ctx;
	bool over; /* done() was called, or is not wanted */
	unsigned answered;
	struct timer timer;
	struct task task;
	struct crew_answer *answers;
	struct part parts[];
};

static void settle(struct crew_inquiry *i)
{
	struct crew *c = i->crew;
	if (!i->over || i->answered < c->n)
		return;
	for (unsigned k = 0; k < c->n; k++)
		i->q->drop(i->answers[k].it);
	timer_stop(&i->timer);
	task_cancel(&i->task);
	c->inquiries--;
	mem_free(i->answers);
	mem_free(i);
}

static void finish(struct crew_inquiry *i)
{
	if (!i->over)
		i->q->done(i->ctx, i->answers, i->crew->n);
	i->over = true;
	settle(i);
}

static void on_all(struct task *t)
{
	finish(CONTAINER_OF(t, struct crew_inquiry, task));
}

static void on_late(struct timer *t)
{
	finish(CONTAINER_OF(t, struct crew_inquiry, timer));
}

static void take_answer(struct part *p)
{
	struct crew_inquiry *i = p->of;
	i->answers[p->thread->proxy.thread] = (struct crew_answer){.there = true, .it = p->answer};
	i->answered++;
	if (i->over)
		settle(i);
	else if (i->answered == i->crew->n)
		loop_at_turn_end(i->crew->loop, &i->task);
}

static void on_answer(struct letter *l)
{
	take_answer(CONTAINER_OF(l, struct part, letter));
}

/* On the thread that is asked. */
static void on_question(struct letter *l)
{
	struct part *p = CONTAINER_OF(l, struct part, letter);
	p->answer = p->of->q->look(&p->thread->proxy);
	letter_init(&p->letter, on_answer);
	loop_send(p->of->crew->loop, &p->letter);
}

struct crew_inquiry *crew_ask(struct crew *c, const struct crew_question *q, void *ctx)
{
	if (c->inquiries >= CREW_QUESTIONS_MAX)
		return NULL;
	struct crew_inquiry *i = mem_zalloc(sizeof(*i) + c->n * sizeof(struct part));
	c->inquiries++;
	i->crew = c;
	i->q = q;
	i->ctx = ctx;
	i->answers = mem_zalloc(c->n * sizeof(*i->answers));
	timer_init(&i->timer, c->loop, on_late);
	timer_start(&i->timer, CREW_ANSWER_MS);
	task_init(&i->task, on_all);
	for (unsigned k = 0; k < c->n; k++) {
		struct part *p = &i->parts[k];
		p->of = i;
		p->thread = &c->v[k];
		letter_init(&p->letter, on_question);
		if (!alone(p->thread)) {
			loop_send(p->thread->proxy.loop, &p->letter);
			continue;
		}
		p->answer = q->look(&p->thread->proxy);
		take_answer(p);
	}
	return i;
}

void crew_forget(struct crew_inquiry *i)
{
	timer_stop(&i->timer);
	task_cancel(&i->task);
	i->over = true;
	settle(i);
}

/* --- the main thread's own --- */

const char *crew_balancer(const struct crew *c)
{
	return balance_name(c->v[0].proxy.balancer);
}

json_t *crew_services(struct crew *c)
{
	return circuits_dump(c->circuits);
}

void crew_stats(const struct crew *c, struct stats *into)
{
	stats_sum(into, c->stats);
}

/* --- start --- */

static void set_limits(struct proxy *p, const struct proxy_options *o)
{
	p->limits = http_limits_default;
	/* An application's idle connection is ended by the application: closing it here would race with the request that it is about to
	 * send, which without a mesh it would only risk at its server's leisure. */
	p->limits.idle_timeout_ms = o->idle_downstream_ms != 0 ? o->idle_downstream_ms : IDLE_DOWNSTREAM_MS;
	if (o->head_timeout_ms != 0)
		p->limits.head_timeout_ms = o->head_timeout_ms;
	if (o->stream_idle_ms != 0)
		p->limits.stream_idle_ms = o->stream_idle_ms;
	p->own_limits = p->limits;
	p->hop_limits = pool_limits(o->idle_upstream_ms);
	p->hop_limits.stream_idle_ms = p->limits.stream_idle_ms;
	p->own_limits.resets_burst = p->hop_limits.resets_burst = OWN_RESETS_BURST;
	p->own_limits.resets_rate = p->hop_limits.resets_rate = OWN_RESETS_RATE;
	p->own_limits.heads_a_turn = p->hop_limits.heads_a_turn = OWN_HEADS_A_TURN;
	/* The requests of its workload come on the same connections: here all of them would wait for those that it has paced. */
	p->hop_limits.paces_itself = true;
}

/* Stations on t's loop, which does not run yet or is the caller's. */
static void make_stations(struct thread *t, const struct crew_cfg *cfg)
{
	struct proxy *p = &t->proxy;
	p->mark = cfg->mark;
	p->view = view_new(p->loop, cfg->config, cfg->loop);
	p->stats = stats_new();
	p->verdicts = verdicts_new();
	p->peers = verdicts_new();
	p->handshakes = handshakes_new(p->loop, t->crew->n);
	p->balancer = balancer_new(p->loop, balance_ops_find(cfg->options->balancer), p->stats, t->crew->circuits,
				   t->crew->reputes);
	balancer_hedge_after(p->balancer, cfg->options->hedge_after_ms);
	p->tell = t->crew->n > 1 ? tell_others : NULL;
	set_limits(p, cfg->options);
	list_init(&p->sessions);
	struct pool_cfg pool = {.loop = p->loop,
				.identity = p->identity,
				.mark = p->mark,
				.age_ms = cfg->options->connection_age_ms,
				.idle_ms = cfg->options->idle_upstream_ms,
				.wait_ms = cfg->options->queue_timeout_ms,
				.stream_idle_ms = cfg->options->stream_idle_ms};
	p->pool = pool_new(&pool);
}

static bool make(struct thread *t, const struct crew_cfg *cfg, struct err *err)
{
	letter_init(&t->renewed, on_renewed);
	letter_init(&t->drain, on_drain);
	letter_init(&t->stop, on_stop);
	if (cfg->threads > 1) {
		t->loop = loop_new(err);
		if (t->loop == NULL)
			return false;
		t->identity = identity_new();
	}
	t->proxy.loop = t->loop != NULL ? t->loop : cfg->loop;
	t->proxy.identity = t->identity != NULL ? t->identity : cfg->identity;
	make_stations(t, cfg);
	return true;
}

static void *run(void *arg)
{
	struct thread *t = arg;
	char name[16]; /* for `top -H` */
	snprintf(name, sizeof(name), "weft-worker-%u", t->proxy.thread % 100);
	prctl(PR_SET_NAME, name, 0, 0, 0);
	loop_run(t->proxy.loop);
	return NULL;
}

/* Signals are the main thread's. */
static bool start(struct thread *t, struct err *err)
{
	pthread_attr_t attr;
	sigset_t all, before;
	sigfillset(&all);
	MUST(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, STACK_SIZE) == 0);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int why = pthread_create(&t->id, &attr, run, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	t->started = why == 0;
	errno = why;
	return t->started || err_errno(err, "starting thread %u", t->proxy.thread);
}

struct crew *crew_new(const struct crew_cfg *cfg, struct err *err)
{
	MUST(cfg->threads >= 1 && cfg->threads <= OPTIONS_THREADS_MAX);
	struct crew *c = mem_zalloc(sizeof(*c) + cfg->threads * sizeof(struct thread));
	const struct credential *credential = identity_credential(cfg->identity);
	bool ok = true;
	c->loop = cfg->loop;
	c->n = cfg->threads;
	chunk_threads(c->n);
	c->circuits = circuits_new();
	c->reputes = reputes_new();
	c->stats = stats_new();
	for (unsigned i = 0; i < c->n; i++) {
		c->v[i].crew = c;
		c->v[i].proxy.thread = i;
	}
	for (unsigned i = 0; i < c->n && ok; i++)
		ok = make(&c->v[i], cfg, err);
	if (ok && credential != NULL)
		crew_identity(c, credential);
	if (c->n > 1)
		fdtable_reserve(DESCRIPTORS);
	for (unsigned i = 0; i < c->n && ok && c->n > 1; i++)
		ok = start(&c->v[i], err);
	if (!ok)
		crew_free(&c);
	return c;
}

/* --- the end --- */

/* All threads have ended: the caller's alone goes on. */
static void unmake(struct thread *t)
{
	struct proxy *p = &t->proxy;
	if (p->loop == NULL)
		return;
	session_abort_all(p);
	pool_free(&p->pool);
	balancer_free(&p->balancer);
	view_free(&p->view);
	stats_free(&p->stats);
	verdicts_free(&p->verdicts);
	verdicts_free(&p->peers);
	handshakes_free(&p->handshakes);
	identity_free(&t->identity);
	credential_unref(&t->next);
	loop_free(&t->loop);
}

void crew_free(struct crew **cp)
{
	struct crew *c = *cp;
	if (c == NULL)
		return;
	for (unsigned i = 0; i < c->n; i++)
		if (c->v[i].started)
			loop_send(c->v[i].proxy.loop, &c->v[i].stop);
	for (unsigned i = 0; i < c->n; i++)
		if (c->v[i].started)
			MUST(pthread_join(c->v[i].id, NULL) == 0);
	/* What they sent each other, and the main thread, at last. */
	for (unsigned i = 0; i < c->n; i++)
		if (!alone(&c->v[i]))
			loop_open_mail(c->v[i].proxy.loop);
	loop_open_mail(c->loop);
	MUST(c->inquiries == 0);
	for (unsigned i = 0; i < c->n; i++)
		unmake(&c->v[i]);
	circuits_free(&c->circuits);
	reputes_free(&c->reputes);
	stats_free(&c->stats);
	FREE(cp);
}

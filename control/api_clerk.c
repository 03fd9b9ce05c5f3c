/* SPDX-License-Identifier: Apache-2.0 */
/* api_clerk.c: the queue is the loop's; the thread has one call at a time, by a mutex and a condition, and sends a letter back. */
#include "control/api_clerk.h"

#include "lib/mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#define TELL_PIECE 200 /* changes a turn: about 1 ms */

struct queued {
	struct list node;
	struct call *call;
};

enum step {
	IDLE,
	RUNNING, /* by the thread */
	TELLING, /* what it changed, in pieces */
	TOLD,    /* compiled by others */
};

/* What the call that was run has committed; the strings are its own. */
struct told {
	uint64_t revision;
	struct store_change *changes;
	size_t n, at;
};

struct clerk {
	struct loop *loop;
	const struct api_cfg *cfg;
	struct clerk_events ev;
	struct list queue; /* struct queued; the first one is what `step` is about */
	enum step step;
	struct told told;
	struct task tell;
	struct letter done;
	/* the thread's */
	struct store *store;
	struct store_watch watch;
	pthread_t thread;
	/* between the two */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct call *next;
	bool stop;
};

/* --- the thread --- */

static void on_change(struct store_watch *w, uint64_t revision, const struct store_change *changes, size_t n)
{
	struct told *t = &CONTAINER_OF(w, struct clerk, watch)->told;

	t->revision = revision;
	t->n = n;
	t->changes = mem_dup(changes, MAX(n, 1) * sizeof(*changes));
	for (size_t i = 0; i < n; i++) { /* kinds are literals */
		t->changes[i].ns = mem_strdup(changes[i].ns);
		t->changes[i].name = mem_strdup(changes[i].name);
		t->changes[i].body = json_incref(changes[i].body);
	}
}

/* NULL: it is to stop, and there is none left. */
static struct call *next_call(struct clerk *k)
{
	pthread_mutex_lock(&k->lock);
	while (!k->next && !k->stop)
		pthread_cond_wait(&k->wake, &k->lock);
	struct call *c = k->next;
	k->next = NULL;
	pthread_mutex_unlock(&k->lock);
	return c;
}

static void *work(void *p)
{
	struct clerk *k = p;

	for (struct call *c; (c = next_call(k)) != NULL;) {
		call_run(c, k->cfg, k->store);
		loop_send(k->loop, &k->done);
	}
	return NULL;
}

static bool start_thread(struct clerk *k, struct err *err)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
	int rc = pthread_create(&k->thread, NULL, work, k);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = rc;
	return rc == 0 || err_errno(err, "starting the thread of the API");
}

/* --- the loop's side --- */

static void told_done(struct told *t)
{
	for (size_t i = 0; i < t->n; i++) {
		mem_free((char *)(uintptr_t)t->changes[i].ns);
		mem_free((char *)(uintptr_t)t->changes[i].name);
		json_decref(t->changes[i].body);
	}
	mem_free(t->changes);
	*t = (struct told){0};
}

static void run_next(struct clerk *k)
{
	struct queued *q = list_first(&k->queue, struct queued, node);

	if (!q || k->step != IDLE)
		return;
	k->step = RUNNING;
	pthread_mutex_lock(&k->lock);
	k->next = q->call;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
}

static struct call *take_first(struct clerk *k)
{
	struct queued *q = list_first(&k->queue, struct queued, node);
	struct call *c = q->call;

	list_remove(&q->node);
	mem_free(q);
	return c;
}

static void end_call(struct clerk *k)
{
	struct call *c = take_first(k);

	told_done(&k->told);
	k->step = IDLE;
	run_next(k);
	k->ev.on_run(k->ev.ctx, c);
}

static void tell_piece(struct clerk *k)
{
	struct told *t = &k->told;
	size_t n = MIN(t->n - t->at, (size_t)TELL_PIECE);

	if (n)
		store_tell(k->cfg->store, t->revision, t->changes + t->at, n);
	t->at += n;
	if (t->at < t->n) {
		loop_next_turn(k->loop, &k->tell);
		return;
	}
	if (t->n == 0 || !k->ev.on_told) {
		end_call(k);
		return;
	}
	k->step = TOLD;
	k->ev.on_told(k->ev.ctx);
}

static void on_tell(struct task *t)
{
	tell_piece(CONTAINER_OF(t, struct clerk, tell));
}

static void on_done(struct letter *l)
{
	struct clerk *k = CONTAINER_OF(l, struct clerk, done);

	if (k->stop)
		return;
	k->step = TELLING;
	tell_piece(k);
}

void clerk_take(struct clerk *k, struct call *c)
{
	struct queued *q = NEW(struct queued);

	q->call = c;
	list_push(&k->queue, &q->node);
	run_next(k);
}

bool clerk_drop(struct clerk *k, struct call *c)
{
	struct queued *first = list_first(&k->queue, struct queued, node);

	list_for_each_safe (q, &k->queue, struct queued, node)
		if (q->call == c && (q != first || k->step == IDLE)) {
			list_remove(&q->node);
			mem_free(q);
			return true;
		}
	return false;
}

bool clerk_telling(const struct clerk *k)
{
	return k->step == TELLING;
}

bool clerk_busy(const struct clerk *k)
{
	return !list_empty(&k->queue);
}

void clerk_settle(struct clerk *k)
{
	if (k->step == TOLD)
		end_call(k);
}

struct clerk *clerk_new(struct loop *loop, const struct api_cfg *cfg, const struct clerk_events *ev, struct err *err)
{
	struct store *store = store_open_beside(cfg->store, err);

	if (!store)
		return NULL;
	struct clerk *k = NEW(struct clerk);
	k->loop = loop;
	k->cfg = cfg;
	k->ev = *ev;
	k->store = store;
	list_init(&k->queue);
	task_init(&k->tell, on_tell);
	letter_init(&k->done, on_done);
	list_init(&k->watch.node);
	k->watch.on_change = on_change;
	store_watch(store, &k->watch);
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->wake, NULL);
	if (start_thread(k, err))
		return k;
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	store_free(&k->store);
	mem_free(k);
	return NULL;
}

void clerk_free(struct clerk **kp)
{
	struct clerk *k = *kp;

	*kp = NULL;
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	loop_open_mail(k->loop); /* its last letter */
	task_cancel(&k->tell);
	told_done(&k->told);
	if (!list_empty(&k->queue))
		k->ev.on_run(k->ev.ctx, take_first(k));
	MUST(list_empty(&k->queue));
	store_unwatch(&k->watch);
	store_free(&k->store);
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	mem_free(k);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* view.c: the snapshot comes through a slot of one pointer that holds the newest, so that a thread which is busy for a while skips the
 * older ones and nothing queues up; a letter says that something is there. What is asked goes the other way as posts (loop.h), at most
 * 4,096 at once: past them a waiter hears that its time ran out. */
#include "proxy/view.h"

#include "lib/mem.h"
#include "proxy/config.h"

#include <string.h>

#define TOUCHED 64 /* addresses that a view remembers having touched, by a hash; a power of two */

struct view {
	struct loop *loop, *home;
	struct config *config;
	struct config_watcher watcher; /* on home's thread */
	struct snapshot *snapshot;     /* in force; a reference */
	struct snapshot *next;         /* atomic; the newest that was not picked up, a reference; NULL: none */
	struct letter letter;          /* something is in `next` */
	struct task pick;
	struct list waiters; /* struct view_waiter, by deadline (all wait equally long) */
	struct timer deadline;
	struct {
		struct addr to;
		uint64_t at_ms;
	} touched[TOUCHED];
};

/* --- from the configuration --- */

static void pick_soon(struct view *v)
{
	loop_at_turn_end(v->loop, &v->pick);
}

static void open_letter(struct letter *l)
{
	pick_soon(CONTAINER_OF(l, struct view, letter));
}

static struct snapshot *exchange(struct view *v, struct snapshot *s)
{
	return __atomic_exchange_n(&v->next, s, __ATOMIC_ACQ_REL);
}

static void on_swap(struct config_watcher *w, struct snapshot *now)
{
	struct view *v = CONTAINER_OF(w, struct view, watcher);
	struct snapshot *skipped = exchange(v, snapshot_ref(now));
	snapshot_unref(&skipped);
	if (v->loop == v->home)
		pick_soon(v);
	else
		loop_send(v->loop, &v->letter);
}

/* --- waiters --- */

static enum target_kind kind_of(const struct view *v, const struct addr *to)
{
	struct target at;
	snapshot_find(v->snapshot, to, &at);
	return at.kind;
}

/* Those whose answer is there, or whose time is up, hear of it. They may wait or stop waiting from within. */
static void wake(struct view *v)
{
	struct list due;
	list_init(&due);
	while (!list_empty(&v->waiters)) {
		struct list *n = v->waiters.next;
		list_remove(n);
		list_push(&due, n);
	}
	while (!list_empty(&due)) {
		struct view_waiter *w = list_first(&due, struct view_waiter, node);
		list_remove(&w->node);
		bool known = kind_of(v, &w->to) != TARGET_ASK;
		if (known || w->deadline_ms <= loop_now_ms(v->loop))
			w->on_answer(w, known);
		else
			list_push(&v->waiters, &w->node);
	}
	struct view_waiter *next = list_first(&v->waiters, struct view_waiter, node);
	if (next)
		timer_start(&v->deadline, next->deadline_ms - MIN(next->deadline_ms, loop_now_ms(v->loop)) + 1);
	else
		timer_stop(&v->deadline);
}

static void on_pick(struct task *t)
{
	struct view *v = CONTAINER_OF(t, struct view, pick);
	struct snapshot *next = exchange(v, NULL);
	if (next) {
		snapshot_unref(&v->snapshot);
		v->snapshot = next;
	}
	wake(v);
}

static void on_deadline(struct timer *t)
{
	wake(CONTAINER_OF(t, struct view, deadline));
}

/* --- to the configuration --- */

struct question {
	void (*tell)(struct config *c, const struct addr *to);
	struct config *config;
	struct addr to;
};

static void on_question(void *arg)
{
	struct question *q = arg;
	q->tell(q->config, &q->to);
	mem_free(q);
}

static void tell(struct view *v, void (*fn)(struct config *c, const struct addr *to), const struct addr *to)
{
	if (v->loop == v->home) {
		fn(v->config, to);
		return;
	}
	struct question *q = NEW(struct question);
	*q = (struct question){.tell = fn, .config = v->config, .to = *to};
	if (!loop_post(v->home, on_question, q))
		mem_free(q);
}

void view_want(struct view *v, struct view_waiter *w, const struct addr *to)
{
	w->to = *to;
	w->deadline_ms = loop_now_ms(v->loop) + VIEW_WAIT_MS;
	list_push(&v->waiters, &w->node);
	tell(v, config_ask, to);
	if (kind_of(v, to) != TARGET_ASK)
		pick_soon(v);
	else if (!timer_running(&v->deadline))
		timer_start(&v->deadline, VIEW_WAIT_MS);
}

void view_unwant(struct view_waiter *w)
{
	if (w->node.next)
		list_remove(&w->node);
}

static size_t slot_of(const struct addr *to)
{
	size_t h = 0;
	for (size_t i = 0; i < to->ip.len; i++)
		h = h * 31 + to->ip.b[i];
	return h % TOUCHED;
}

void view_touch(struct view *v, const struct addr *to)
{
	uint64_t now = loop_now_ms(v->loop);
	size_t i = slot_of(to);
	if (v->touched[i].at_ms != 0 && now - v->touched[i].at_ms < VIEW_TOUCH_MS &&
	    ip_eq(&v->touched[i].to.ip, &to->ip))
		return;
	v->touched[i].to = *to;
	v->touched[i].at_ms = now;
	tell(v, config_touch, to);
}

/* --- the whole --- */

struct snapshot *view_snapshot(const struct view *v)
{
	return v->snapshot;
}

size_t view_waiting(const struct view *v)
{
	size_t n = 0;
	list_for_each (w, &v->waiters, struct view_waiter, node)
		n++;
	return n;
}

struct view *view_new(struct loop *loop, struct config *c, struct loop *home)
{
	struct view *v = NEW(struct view);
	v->loop = loop;
	v->home = home;
	v->config = c;
	v->snapshot = snapshot_ref(config_snapshot(c));
	list_init(&v->waiters);
	letter_init(&v->letter, open_letter);
	task_init(&v->pick, on_pick);
	timer_init(&v->deadline, loop, on_deadline);
	v->watcher.on_swap = on_swap;
	config_watch(c, &v->watcher);
	return v;
}

void view_free(struct view **vp)
{
	struct view *v = *vp;
	*vp = NULL;
	if (!v)
		return;
	config_unwatch(&v->watcher);
	list_for_each_safe (w, &v->waiters, struct view_waiter, node)
		list_remove(&w->node);
	timer_stop(&v->deadline);
	task_cancel(&v->pick);
	struct snapshot *next = exchange(v, NULL);
	snapshot_unref(&next);
	snapshot_unref(&v->snapshot);
	mem_free(v);
}

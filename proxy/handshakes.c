/* SPDX-License-Identifier: Apache-2.0 */
/* handshakes.c: see handshakes.h. Lists in order of time, so that the first of each is the oldest. */
#include "proxy/handshakes.h"

#include "lib/mem.h"

#define CHEAP_A_TURN  16  /* steps that took next to no time */
#define BEGIN_COST_US 300 /* a first step, about: the connection takes it by itself */

struct handshakes {
	struct loop *loop;
	struct list waiting, begun;
	struct list ready; /* of the begun, those with a step to take: nobody begins before them */
	size_t n_waiting, n_begun;
	size_t max_waiting, max_begun;
	struct task task;
	struct timer evict; /* the oldest one's time is up */
	/* After a dear step: whichever comes first ends the rest. */
	bool resting;
	struct timer rest;
	struct task idle;
};

/* Makes room when all places are taken and others wait: the oldest goes if its time is up. */
static bool have_place(struct handshakes *h)
{
	uint64_t now = loop_now_ms(h->loop);
	if (h->n_begun < h->max_begun)
		return true;
	struct handshake *oldest = list_first(&h->begun, struct handshake, node);
	if (oldest->since_ms + HANDSHAKE_SPARE_MS > now) {
		timer_start(&h->evict, oldest->since_ms + HANDSHAKE_SPARE_MS - now);
		return false;
	}
	list_remove(&oldest->node);
	h->n_begun--;
	oldest->on_evict(oldest);
	return true;
}

/* As long as the work took: the timer counts from the beginning of the turn, which the work is a part of. */
static void rest(struct handshakes *h, uint64_t worked_us)
{
	h->resting = true;
	timer_start(&h->rest, (2 * worked_us + 999) / 1000);
	loop_when_idle(h->loop, &h->idle);
}

static void begin(struct handshakes *h, struct handshake *one)
{
	list_remove(&one->node);
	h->n_waiting--;
	list_push(&h->begun, &one->node);
	h->n_begun++;
	one->begun = one->first = true;
	one->since_ms = loop_now_ms(h->loop);
	rest(h, BEGIN_COST_US);
	one->on_begin(one);
}

static void step(struct handshakes *h, struct handshake *one)
{
	uint64_t from = loop_clock_us();
	list_remove(&one->ready);
	one->on_step(one);
	uint64_t took = loop_clock_us() - from;
	if (took >= HANDSHAKE_DEAR_US)
		rest(h, took);
}

static void work(struct handshakes *h)
{
	for (unsigned i = 0; i < CHEAP_A_TURN && !h->resting; i++) {
		if (!list_empty(&h->ready))
			step(h, list_first(&h->ready, struct handshake, ready));
		else if (h->n_waiting > 0 && have_place(h))
			begin(h, list_first(&h->waiting, struct handshake, node));
		else
			return;
	}
	if (!h->resting)
		loop_next_turn(h->loop, &h->task);
}

static void work_soon(struct handshakes *h)
{
	if (!h->resting && !task_queued(&h->task))
		loop_at_turn_end(h->loop, &h->task);
}

static void on_task(struct task *t)
{
	work(CONTAINER_OF(t, struct handshakes, task));
}

static void on_timer(struct timer *t)
{
	work(CONTAINER_OF(t, struct handshakes, evict));
}

static void rested(struct handshakes *h)
{
	timer_stop(&h->rest);
	task_cancel(&h->idle);
	h->resting = false;
	work(h);
}

static void on_rested(struct timer *t)
{
	rested(CONTAINER_OF(t, struct handshakes, rest));
}

static void on_idle(struct task *t)
{
	rested(CONTAINER_OF(t, struct handshakes, idle));
}

void handshake_init(struct handshake *one)
{
	*one = (struct handshake){0};
	list_init(&one->node);
	list_init(&one->ready);
}

struct handshakes *handshakes_new(struct loop *loop, unsigned threads)
{
	MUST(threads > 0 && threads <= HANDSHAKES_MAX);
	struct handshakes *h = NEW(struct handshakes);
	h->loop = loop;
	h->max_begun = HANDSHAKES_MAX / threads;
	h->max_waiting = HANDSHAKES_WAITING / threads;
	list_init(&h->waiting);
	list_init(&h->begun);
	list_init(&h->ready);
	task_init(&h->task, on_task);
	task_init(&h->idle, on_idle);
	timer_init(&h->evict, loop, on_timer);
	timer_init(&h->rest, loop, on_rested);
	return h;
}

void handshakes_free(struct handshakes **ret_h)
{
	struct handshakes *h = *ret_h;
	if (h == NULL)
		return;
	MUST(h->n_waiting == 0 && h->n_begun == 0);
	task_cancel(&h->task);
	task_cancel(&h->idle);
	timer_stop(&h->evict);
	timer_stop(&h->rest);
	FREE(ret_h);
}

bool handshakes_enter(struct handshakes *h, struct handshake *one)
{
	MUST(list_empty(&one->node));
	if (h->n_waiting >= h->max_waiting)
		return false;
	one->begun = false;
	list_push(&h->waiting, &one->node);
	h->n_waiting++;
	work_soon(h);
	return true;
}

bool handshakes_step(struct handshakes *h, struct handshake *one)
{
	MUST(one->begun && !list_empty(&one->node));
	if (one->first) {
		one->first = false;
		return true;
	}
	if (list_empty(&one->ready))
		list_push(&h->ready, &one->ready);
	work_soon(h);
	return false;
}

void handshakes_leave(struct handshakes *h, struct handshake *one)
{
	list_remove(&one->ready);
	if (list_empty(&one->node))
		return;
	list_remove(&one->node);
	if (one->begun)
		h->n_begun--;
	else
		h->n_waiting--;
	if (h->n_waiting > 0 && !h->resting && !task_queued(&h->task))
		loop_next_turn(h->loop, &h->task);
}

size_t handshakes_begun(const struct handshakes *h)
{
	return h->n_begun;
}

size_t handshakes_waiting(const struct handshakes *h)
{
	return h->n_waiting;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* handshakes.c: see handshakes.h. Two lists in order of time, so that the first of each is the oldest. */
#include "proxy/handshakes.h"

#include "lib/mem.h"

struct handshakes {
	struct loop *loop;
	struct list waiting, begun;
	size_t n_waiting, n_begun;
	size_t max_waiting, max_begun;
	struct task task;
	struct timer evict; /* the oldest one's time is up */
	uint64_t turn_us;   /* the turn in which n_turn have begun */
	unsigned n_turn;
};

/* May another begin in this turn? */
static bool turn_has_room(struct handshakes *h)
{
	uint64_t now = loop_now_us(h->loop);
	if (h->turn_us != now) {
		h->turn_us = now;
		h->n_turn = 0;
	}
	return h->n_turn < HANDSHAKES_A_TURN;
}

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

static void begin(struct handshakes *h, struct handshake *one)
{
	list_remove(&one->node);
	h->n_waiting--;
	list_push(&h->begun, &one->node);
	h->n_begun++;
	h->n_turn++;
	one->begun = true;
	one->since_ms = loop_now_ms(h->loop);
	one->on_begin(one);
}

static void work(struct handshakes *h)
{
	while (h->n_waiting > 0) {
		if (!turn_has_room(h)) {
			loop_next_turn(h->loop, &h->task);
			return;
		}
		if (!have_place(h))
			return;
		begin(h, list_first(&h->waiting, struct handshake, node));
	}
}

static void on_task(struct task *t)
{
	work(CONTAINER_OF(t, struct handshakes, task));
}

static void on_timer(struct timer *t)
{
	work(CONTAINER_OF(t, struct handshakes, evict));
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
	task_init(&h->task, on_task);
	timer_init(&h->evict, loop, on_timer);
	return h;
}

void handshakes_free(struct handshakes **ret_h)
{
	struct handshakes *h = *ret_h;
	if (h == NULL)
		return;
	MUST(h->n_waiting == 0 && h->n_begun == 0);
	task_cancel(&h->task);
	timer_stop(&h->evict);
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
	if (!task_queued(&h->task))
		loop_at_turn_end(h->loop, &h->task);
	return true;
}

void handshakes_leave(struct handshakes *h, struct handshake *one)
{
	if (list_empty(&one->node))
		return;
	list_remove(&one->node);
	if (one->begun)
		h->n_begun--;
	else
		h->n_waiting--;
	if (h->n_waiting > 0 && !task_queued(&h->task))
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

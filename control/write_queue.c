/* SPDX-License-Identifier: Apache-2.0 */
/* write_queue.c: a list, and a task that looks every LOOP_SOON_MS whether the store is free, while somebody waits. */
#include "control/write_queue.h"

#include "lib/mem.h"

struct write_queue {
	struct loop *loop;
	struct store *store;
	struct list waiting; /* struct writer */
	struct task look;
	uint64_t turn_us; /* the turn in which `written` wrote */
	unsigned written;
	uint64_t wrote_ms; /* the last one */
};

static bool turn_is_full(struct write_queue *q)
{
	uint64_t now = loop_now_us(q->loop);

	if (now != q->turn_us)
		q->written = 0;
	q->turn_us = now;
	return q->written >= WRITE_TURN;
}

/* False: not now. */
static bool let_write(struct write_queue *q, struct writer *w)
{
	if (turn_is_full(q))
		return false;
	bool alone = store_try_turn(q->store);
	if (!alone && loop_now_ms(q->loop) - MAX(w->asked_ms, q->wrote_ms) < WRITE_WAIT_MS)
		return false;
	q->written++;
	q->wrote_ms = loop_now_ms(q->loop);
	list_remove(&w->node);
	w->on_turn(w);
	if (alone)
		store_end_turn(q->store);
	return true;
}

static void look_again(struct write_queue *q)
{
	if (store_busy(q->store))
		loop_soon(q->loop, &q->look);
	else
		loop_next_turn(q->loop, &q->look);
}

static void on_look(struct task *t)
{
	struct write_queue *q = CONTAINER_OF(t, struct write_queue, look);
	struct writer *w;

	while ((w = list_first(&q->waiting, struct writer, node)) != NULL && let_write(q, w))
		;
	if (w)
		look_again(q);
}

void writer_init(struct writer *w, void (*on_turn)(struct writer *w))
{
	*w = (struct writer){.on_turn = on_turn};
	list_init(&w->node);
}

void writer_take(struct write_queue *q, struct writer *w)
{
	MUST(!writer_waits(w));
	if (!q) {
		w->on_turn(w);
		return;
	}
	w->asked_ms = loop_now_ms(q->loop);
	if (list_empty(&q->waiting) && let_write(q, w))
		return;
	if (w->first)
		list_push_front(&q->waiting, &w->node);
	else
		list_push(&q->waiting, &w->node);
	if (!task_queued(&q->look))
		look_again(q);
}

void writer_leave(struct writer *w)
{
	list_remove(&w->node);
}

struct write_queue *write_queue_new(struct loop *loop, struct store *store)
{
	struct write_queue *q = NEW(struct write_queue);

	q->loop = loop;
	q->store = store;
	list_init(&q->waiting);
	task_init(&q->look, on_look);
	return q;
}

void write_queue_free(struct write_queue **qp)
{
	struct write_queue *q = *qp;

	*qp = NULL;
	if (!q)
		return;
	MUST(list_empty(&q->waiting));
	task_cancel(&q->look);
	mem_free(q);
}

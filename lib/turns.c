/* SPDX-License-Identifier: Apache-2.0 */
/* turns.c: see turns.h. Deficit round robin without the deficit: pieces are of one size, and a share cut short by the end of a turn is
 * small against a round. The queue holds takers, which others bound (connections). */
#include "lib/turns.h"

#include "lib/mem.h"

struct turns {
	struct loop *loop;
	struct list now, after; /* takers that wait: still in this round; for the next one */
	uint64_t round;
	uint64_t turn_us; /* the turn in which the round was last looked at */
	struct task task, free;
};

void taker_init(struct taker *k, void (*go)(struct taker *k))
{
	*k = (struct taker){.share = 1, .cost = 1, .go = go};
	list_init(&k->node);
}

static bool nobody_waits(const struct turns *t)
{
	return list_empty(&t->now) && list_empty(&t->after);
}

static void next_round(struct turns *t)
{
	t->round++;
	while (!list_empty(&t->after)) {
		struct list *n = t->after.next;
		list_remove(n);
		list_push(&t->now, n);
	}
}

/* A share, or what the turn's points are still good for. Returns the points it took: at least one, so that a turn ends. */
static uint32_t serve(struct turns *t, struct taker *k, uint32_t points)
{
	uint32_t given = MIN(k->share, MAX(points / k->cost, 1u)), cost = k->cost;
	list_remove(&k->node);
	k->round = t->round;
	k->left = given;
	k->go(k);
	return MAX((given - k->left) * cost, 1u);
}

static void on_task(struct task *task)
{
	struct turns *t = CONTAINER_OF(task, struct turns, task);
	uint32_t points = TURNS_POINTS;
	while (points > 0 && !nobody_waits(t)) {
		if (list_empty(&t->now))
			next_round(t);
		uint32_t took = serve(t, list_first(&t->now, struct taker, node), points);
		points -= MIN(points, took);
	}
	if (!nobody_waits(t))
		loop_next_turn(t->loop, &t->task);
}

static void on_free(struct task *task)
{
	struct turns *t = CONTAINER_OF(task, struct turns, free);
	task_cancel(&t->task);
	next_round(t);
	while (!list_empty(&t->now)) /* they wait in vain, and may leave later */
		list_remove(t->now.next);
	*loop_turns_place(t->loop) = NULL;
	mem_free(t);
}

struct turns *loop_turns(struct loop *loop)
{
	struct turns **place = loop_turns_place(loop);
	if (*place != NULL)
		return *place;
	struct turns *t = *place = NEW(struct turns);
	t->loop = loop;
	t->round = 1;
	list_init(&t->now);
	list_init(&t->after);
	task_init(&t->task, on_task);
	task_init(&t->free, on_free);
	loop_at_free(loop, &t->free);
	return t;
}

void turns_enter(struct turns *t, struct taker *k)
{
	uint64_t turn = loop_now_us(t->loop);
	if (t->turn_us != turn && nobody_waits(t))
		next_round(t);
	t->turn_us = turn;
	if (turns_waits(k)) {
		k->left = 0;
	} else if (k->round != t->round) {
		k->round = t->round;
		k->left = k->share;
	}
}

void turns_wait(struct turns *t, struct taker *k)
{
	if (turns_waits(k))
		return;
	list_push(k->round == t->round ? &t->after : &t->now, &k->node);
	loop_next_turn(t->loop, &t->task);
}

void turns_leave(struct taker *k)
{
	list_remove(&k->node);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* turns.c: see turns.h. Round robin; a deficit is the turn's, not the taker's: a share cut short by the end of a turn is small against a
 * round, and what was dearer than it looked shortens the next turns for all who wait. The queue holds takers, which others bound (connections). */
#include "lib/turns.h"

#include "lib/mem.h"

struct turns {
	struct loop *loop;
	struct list now, after; /* takers that wait: still in this round; for the next one */
	uint64_t round;
	uint64_t turn_us; /* the turn of which `points` are */
	int32_t points;   /* left in it; beneath 0: owed by those to come */
	struct task task, free;
};

void taker_init(struct taker *k, void (*go)(struct taker *k))
{
	*k = (struct taker){.share = 1, .go = go};
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

/* The clock stands still for a turn, so another time is another turn. */
static void look_at_turn(struct turns *t)
{
	uint64_t turn = loop_now_us(t->loop);
	if (t->turn_us == turn)
		return;
	t->turn_us = turn;
	t->points = MIN(t->points, 0) + TURNS_POINTS;
	if (nobody_waits(t))
		next_round(t);
}

static void spend(struct turns *t, int32_t points)
{
	t->points = MAX(t->points - points, -TURNS_DEBT_MAX);
}

/* What it has spent since turns.c last looked. */
static int32_t spent(struct taker *k)
{
	int32_t n = k->had - k->left;
	k->had = k->left;
	return n;
}

static void give(struct taker *k, uint64_t round, int32_t points)
{
	k->round = round;
	k->left = k->had = points;
}

/* A share, or what the turn's points are still good for. It costs at least one, so that a turn ends. */
static void serve(struct turns *t, struct taker *k)
{
	list_remove(&k->node);
	give(k, t->round, MIN(k->share, t->points));
	k->go(k);
	int32_t points = spent(k);
	spend(t, MAX(points, 1));
}

static void on_task(struct task *task)
{
	struct turns *t = CONTAINER_OF(task, struct turns, task);
	look_at_turn(t);
	while (t->points > 0 && !nobody_waits(t)) {
		if (list_empty(&t->now))
			next_round(t);
		serve(t, list_first(&t->now, struct taker, node));
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
	look_at_turn(t);
	if (turns_waits(k))
		k->left = k->had = 0;
	else if (k->stranger && t->points <= 0)
		k->left = k->had = MIN(k->left, 0);
	else if (k->round != t->round)
		give(k, t->round, k->stranger ? MIN(k->share, t->points) : k->share);
}

void turns_spent(struct turns *t, struct taker *k)
{
	int32_t beyond = k->left < 0 ? MIN(-k->left, k->had - k->left) : 0, all = spent(k);
	spend(t, k->stranger ? all : beyond);
}

void turns_owe(struct turns *t, uint32_t points)
{
	look_at_turn(t);
	spend(t, (int32_t)MIN(points, (uint32_t)TURNS_DEBT_MAX));
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

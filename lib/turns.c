/* SPDX-License-Identifier: Apache-2.0 */
/* turns.c: see turns.h. Round robin; a deficit is the turn's, not the taker's: a share cut short by the end of a turn is small against a
 * round, and what was dearer than it looked shortens the next turns for all who wait. The queue holds takers, which others bound (connections). */
#include "lib/turns.h"

#include "lib/mem.h"

struct turns {
	struct loop *loop;
	struct list now, after; /* takers that wait: still in this round; for the next one */
	struct list paced;      /* those whose turn it was, but for the clock */
	uint64_t round;
	uint64_t turn_us;   /* the turn of which `points` are */
	int32_t points;     /* left in it; beneath 0: owed by those to come */
	int64_t pace_milli; /* thousandths of points that paced strangers may spend; beneath 0: owed */
	struct timer clock; /* runs while `paced` has any */
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

/* A point in a ms is a thousandth in a microsecond. */
static void look_at_clock(struct turns *t, uint64_t passed_us)
{
	int64_t more = (int64_t)MIN(passed_us, 1000000u) * TURNS_PACE;
	t->pace_milli = MIN(t->pace_milli + more, TURNS_PACE_MAX * 1000);
}

/* The clock stands still for a turn, so another time is another turn. */
static void look_at_turn(struct turns *t)
{
	uint64_t turn = loop_now_us(t->loop);
	if (t->turn_us == turn)
		return;
	look_at_clock(t, turn - t->turn_us);
	t->turn_us = turn;
	t->points = MIN(t->points, 0) + TURNS_POINTS;
	if (nobody_waits(t))
		next_round(t);
}

static void spend(struct turns *t, int32_t points)
{
	t->points = MAX(t->points - points, -TURNS_DEBT_MAX);
}

static bool is_paced(const struct taker *k)
{
	return k->stranger && k->paced;
}

static void pace(struct turns *t, int32_t points)
{
	t->pace_milli = MAX(t->pace_milli - (int64_t)points * 1000, -TURNS_DEBT_MAX * 1000);
}

/* What the turn is still good for, for this one. */
static int32_t points_for(const struct turns *t, const struct taker *k)
{
	return is_paced(k) ? MIN(t->points, (int32_t)(t->pace_milli / 1000)) : t->points;
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

static void wait_for_clock(struct turns *t, struct taker *k)
{
	list_push(&t->paced, &k->node);
	if (!timer_running(&t->clock))
		timer_start(&t->clock, 1);
}

/* In their order, behind those that wait by now. */
static void on_clock(struct timer *timer)
{
	struct turns *t = CONTAINER_OF(timer, struct turns, clock);
	while (!list_empty(&t->paced)) {
		struct list *n = t->paced.next;
		list_remove(n);
		list_push(&t->after, n);
	}
	loop_next_turn(t->loop, &t->task);
}

/* The clock has a whole share for it: less each time for who comes last would add up. */
static bool clock_allows(const struct turns *t, const struct taker *k)
{
	return !is_paced(k) || t->pace_milli >= MIN(k->share, TURNS_PACE_MAX) * (int64_t)1000;
}

/* A share, or what the turn's points are still good for. It costs at least one, so that a turn ends. */
static void serve(struct turns *t, struct taker *k)
{
	list_remove(&k->node);
	if (!clock_allows(t, k)) {
		wait_for_clock(t, k);
		return;
	}
	bool paced = is_paced(k);
	give(k, t->round, MIN(k->share, t->points));
	k->go(k);
	int32_t points = spent(k);
	points = MAX(points, 1);
	spend(t, points);
	if (paced)
		pace(t, points);
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
	timer_stop(&t->clock);
	next_round(t);
	while (!list_empty(&t->now)) /* they wait in vain, and may leave later */
		list_remove(t->now.next);
	while (!list_empty(&t->paced))
		list_remove(t->paced.next);
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
	list_init(&t->paced);
	t->pace_milli = TURNS_PACE_MAX * 1000;
	timer_init(&t->clock, loop, on_clock);
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
	else if (k->stranger && points_for(t, k) <= 0)
		k->left = k->had = MIN(k->left, 0);
	else if (k->round != t->round)
		give(k, t->round, k->stranger ? MIN(k->share, points_for(t, k)) : k->share);
}

void turns_spent(struct turns *t, struct taker *k)
{
	int32_t beyond = k->left < 0 ? MIN(-k->left, k->had - k->left) : 0, all = spent(k);
	spend(t, k->stranger ? all : beyond);
	if (is_paced(k))
		pace(t, all);
}

void turns_owe(struct turns *t, const struct taker *k, uint32_t points)
{
	int32_t owed = (int32_t)MIN(points, (uint32_t)TURNS_DEBT_MAX);
	look_at_turn(t);
	spend(t, owed);
	if (is_paced(k))
		pace(t, owed);
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

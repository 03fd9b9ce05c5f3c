/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c: libev with an end to each turn.
 *
 * libev's own order in a turn is: prepare watchers, poll, check watchers, then the callbacks of what happened. The end of
 * a turn is therefore its prepare watcher: the tasks run there, then the deferred frees, then the poll sleeps. It polls
 * without sleeping (an idle watcher is active) as long as anything is queued. */
#include "lib/loop.h"

#include "lib/mem.h"

#include <signal.h>
#include <time.h>

#define LOOP_MAGIC 0x6c6f6f70u
#define ROUNDS_MAX 64
#define POSTS_MAX  4096

struct deferred {
	void *p;
	void (*fn)(void *);
};

struct post {
	struct letter letter;
	struct loop *loop;
	void (*fn)(void *arg);
	void *arg;
};

struct signal_watch {
	ev_signal ev;
	struct signal_watch *next;
	void (*fn)(void *arg, int signum);
	void *arg;
};

struct loop {
	uint32_t magic;
	bool running;
	struct ev_loop *ev;
	uint64_t now_us;
	ev_prepare prepare;
	ev_check check;
	ev_idle idle;
	ev_async async;
	struct list turn_end, next_turn, when_idle, soon, at_free;
	ev_timer soon_timer;
	bool had_tasks;            /* this turn began with some of next_turn */
	struct turns *turns;       /* turns.c's */
	struct loop_warm warm;     /* conn_tls.c's */
	struct deferred *deferred; /* grows, is kept */
	size_t deferred_len, deferred_cap;
	struct signal_watch *signals;
	struct mailbox mail;
	unsigned posts; /* atomic: struct post in the mailbox */
};

uint64_t loop_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void take_time(struct loop *loop)
{
	loop->now_us = loop_clock_us();
}

/* Moves every node of `from` to the empty list `to`. */
static void take_all(struct list *to, struct list *from)
{
	list_init(to);
	if (list_empty(from))
		return;
	to->next = from->next;
	to->prev = from->prev;
	to->next->prev = to->prev->next = to;
	list_init(from);
}

/* Runs what is queued now; what is queued meanwhile stays. A task may cancel any other one. */
static void run_tasks(struct list *queue)
{
	struct list now;

	take_all(&now, queue);
	while (!list_empty(&now)) {
		struct task *t = list_first(&now, struct task, node);
		list_remove(&t->node);
		t->cb(t);
	}
}

static void run_deferred(struct loop *loop)
{
	for (size_t i = 0; i < loop->deferred_len; i++) { /* a free may defer another: it is appended */
		struct deferred d = loop->deferred[i];
		d.fn(d.p);
	}
	loop->deferred_len = 0;
}

static void end_turn(struct loop *loop)
{
	for (int i = 0; i < ROUNDS_MAX && !list_empty(&loop->turn_end); i++)
		run_tasks(&loop->turn_end);
	run_deferred(loop);
	if (list_empty(&loop->turn_end) && list_empty(&loop->next_turn) && list_empty(&loop->when_idle))
		ev_idle_stop(loop->ev, &loop->idle);
	else
		ev_idle_start(loop->ev, &loop->idle);
}

static struct loop *loop_of(struct ev_loop *ev)
{
	struct loop *loop = ev_userdata(ev);

	MUST_BE(loop, LOOP_MAGIC);
	return loop;
}

static void on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
	end_turn(loop_of(ev));
}

static void on_check(struct ev_loop *ev, ev_check *w, int revents)
{
	struct loop *loop = loop_of(ev);

	take_time(loop);
	loop->had_tasks = !list_empty(&loop->next_turn);
	run_tasks(&loop->next_turn);
}

static void on_soon(struct ev_loop *ev, ev_timer *w, int revents)
{
	run_tasks(&loop_of(ev)->soon);
}

/* That it is active keeps the poll from sleeping. libev calls it when the poll and the timers brought nothing. */
static void on_idle(struct ev_loop *ev, ev_idle *w, int revents)
{
	struct loop *loop = loop_of(ev);

	if (!loop->had_tasks)
		run_tasks(&loop->when_idle);
}

static void on_async(struct ev_loop *ev, ev_async *w, int revents)
{
	struct loop *loop = loop_of(ev);

	mailbox_open(&loop->mail);
}

struct loop *loop_new(struct err *err)
{
	struct ev_loop *ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);

	if (!ev) {
		err_errno(err, "cannot make an event loop (epoll)");
		return NULL;
	}
	struct loop *loop = NEW(struct loop);
	loop->magic = LOOP_MAGIC;
	loop->ev = ev;
	ev_set_userdata(ev, loop);
	list_init(&loop->turn_end);
	list_init(&loop->next_turn);
	list_init(&loop->when_idle);
	list_init(&loop->soon);
	ev_timer_init(&loop->soon_timer, on_soon, 0, 0);
	list_init(&loop->at_free);
	list_init(&loop->warm.conns);
	ev_prepare_init(&loop->prepare, on_prepare);
	ev_prepare_start(ev, &loop->prepare);
	ev_check_init(&loop->check, on_check);
	ev_set_priority(&loop->check, EV_MAXPRI); /* the time first */
	ev_check_start(ev, &loop->check);
	ev_idle_init(&loop->idle, on_idle);
	ev_async_init(&loop->async, on_async);
	ev_async_start(ev, &loop->async);
	take_time(loop);
	return loop;
}

void loop_free(struct loop **ret_loop)
{
	struct loop *loop = *ret_loop;

	if (!loop)
		return;
	MUST_BE(loop, LOOP_MAGIC);
	MUST(!loop->running && loop->mail.last == NULL);
	run_tasks(&loop->at_free);
	run_deferred(loop);
	for (struct signal_watch *s = loop->signals, *next; s; s = next) {
		next = s->next;
		ev_signal_stop(loop->ev, &s->ev);
		mem_free(s);
	}
	ev_loop_destroy(loop->ev);
	mem_free(loop->deferred);
	loop->magic = 0;
	FREE(ret_loop);
}

void loop_run(struct loop *loop)
{
	MUST_BE(loop, LOOP_MAGIC);
	MUST(!loop->running);
	loop->running = true;
	ev_now_update(loop->ev);
	take_time(loop);
	ev_run(loop->ev, 0);
	loop->running = false;
	end_turn(loop); /* that of the turn that stopped it */
}

void loop_stop(struct loop *loop)
{
	MUST_BE(loop, LOOP_MAGIC);
	ev_break(loop->ev, EVBREAK_ALL);
}

uint64_t loop_now_ms(const struct loop *loop)
{
	return loop->now_us / 1000;
}

uint64_t loop_now_us(const struct loop *loop)
{
	return loop->now_us;
}

/* --- descriptors --- */

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
	struct io *io = CONTAINER_OF(w, struct io, ev);
	bool broken = revents & EV_ERROR; /* libev could not watch it: reading or writing will say why */

	io->cb(io, broken || revents & EV_READ, broken || revents & EV_WRITE);
}

void io_init(struct io *io, struct loop *loop, int fd, void (*cb)(struct io *, bool readable, bool writable))
{
	MUST_BE(loop, LOOP_MAGIC);
	MUST(fd >= 0);
	io->loop = loop;
	io->cb = cb;
	ev_io_init(&io->ev, on_io, fd, 0);
}

void io_want(struct io *io, bool read, bool write)
{
	struct ev_loop *ev = io->loop->ev;
	int events = (read ? EV_READ : 0) | (write ? EV_WRITE : 0);

	if (events == (ev_is_active(&io->ev) ? io->ev.events & (EV_READ | EV_WRITE) : 0))
		return;
	ev_io_stop(ev, &io->ev);
	if (!events)
		return;
	ev_io_modify(&io->ev, events);
	ev_io_start(ev, &io->ev);
}

void io_stop(struct io *io)
{
	ev_io_stop(io->loop->ev, &io->ev);
}

/* --- timers --- */

static void on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct timer *t = CONTAINER_OF(w, struct timer, ev);

	t->cb(t);
}

void timer_init(struct timer *t, struct loop *loop, void (*cb)(struct timer *))
{
	MUST_BE(loop, LOOP_MAGIC);
	t->loop = loop;
	t->cb = cb;
	ev_timer_init(&t->ev, on_timer, 0, 0);
}

void timer_start(struct timer *t, uint64_t after_ms)
{
	struct ev_loop *ev = t->loop->ev;

	ev_timer_stop(ev, &t->ev);
	if (!t->loop->running)
		ev_now_update(ev); /* else it would count from the last turn, long ago */
	ev_timer_set(&t->ev, (double)after_ms / 1000, 0);
	ev_timer_start(ev, &t->ev);
}

void timer_stop(struct timer *t)
{
	ev_timer_stop(t->loop->ev, &t->ev);
}

/* --- tasks, frees --- */

void task_init(struct task *t, void (*cb)(struct task *))
{
	list_init(&t->node);
	t->cb = cb;
}

void loop_at_turn_end(struct loop *loop, struct task *t)
{
	if (list_empty(&t->node))
		list_push(&loop->turn_end, &t->node);
}

void loop_next_turn(struct loop *loop, struct task *t)
{
	if (list_empty(&t->node))
		list_push(&loop->next_turn, &t->node);
}

void loop_when_idle(struct loop *loop, struct task *t)
{
	if (list_empty(&t->node))
		list_push(&loop->when_idle, &t->node);
}

void loop_soon(struct loop *loop, struct task *t)
{
	if (!list_empty(&t->node))
		return;
	list_push(&loop->soon, &t->node);
	if (ev_is_active(&loop->soon_timer))
		return;
	ev_timer_set(&loop->soon_timer, LOOP_SOON_MS / 1000.0, 0);
	ev_timer_start(loop->ev, &loop->soon_timer);
}

struct turns **loop_turns_place(struct loop *loop)
{
	return &loop->turns;
}

struct loop_warm *loop_warm(struct loop *loop)
{
	return &loop->warm;
}

void loop_at_free(struct loop *loop, struct task *t)
{
	if (list_empty(&t->node))
		list_push(&loop->at_free, &t->node);
}

void task_cancel(struct task *t)
{
	list_remove(&t->node);
}

void loop_defer_free(struct loop *loop, void *p, void (*fn)(void *))
{
	if (loop->deferred_len == loop->deferred_cap) {
		loop->deferred_cap = MAX(64, loop->deferred_cap * 2);
		loop->deferred = mem_realloc(loop->deferred, loop->deferred_cap * sizeof(struct deferred));
	}
	loop->deferred[loop->deferred_len++] = (struct deferred){.p = p, .fn = fn};
}

/* --- from other threads, from signals --- */

void loop_send(struct loop *loop, struct letter *l)
{
	if (mailbox_put(&loop->mail, l))
		ev_async_send(loop->ev, &loop->async);
}

static void open_post(struct letter *l)
{
	struct post *p = CONTAINER_OF(l, struct post, letter);
	void (*fn)(void *arg) = p->fn;
	void *arg = p->arg;

	__atomic_fetch_sub(&p->loop->posts, 1, __ATOMIC_RELAXED);
	mem_free(p);
	fn(arg);
}

bool loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	if (__atomic_fetch_add(&loop->posts, 1, __ATOMIC_RELAXED) >= POSTS_MAX) {
		__atomic_fetch_sub(&loop->posts, 1, __ATOMIC_RELAXED);
		return false;
	}
	struct post *p = NEW(struct post);
	letter_init(&p->letter, open_post);
	p->loop = loop;
	p->fn = fn;
	p->arg = arg;
	loop_send(loop, &p->letter);
	return true;
}

void loop_open_mail(struct loop *loop)
{
	MUST(!loop->running);
	mailbox_open(&loop->mail);
}

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
	struct signal_watch *s = CONTAINER_OF(w, struct signal_watch, ev);

	s->fn(s->arg, w->signum);
}

void loop_on_signal(struct loop *loop, int signum, void (*fn)(void *arg, int signum), void *arg)
{
	struct signal_watch *s = NEW(struct signal_watch);

	MUST_BE(loop, LOOP_MAGIC);
	s->fn = fn;
	s->arg = arg;
	ev_signal_init(&s->ev, on_signal, signum);
	ev_signal_start(loop->ev, &s->ev);
	s->next = loop->signals;
	loop->signals = s;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* shed.c: a look at /proc/self/statm every 250 ms (past the first mark every 50 ms, without a
 * limit every second), and at once when buffers have taken a 64th of the limit (near it:
 * a quarter of what is left) since the last look: until it is over nothing more is read from peers (chunk_tripped), so that between two looks no burst gets further than that.
 * What malloc keeps for itself is given back before a level is believed.
 *
 * A look goes in steps, since each worker thread gives up its own: trim, measure, ask what is held, shed, trim, measure. A step is a question to
 * all threads (crew_ask), the next one begins when all have done it, or the slowest has had its second; with one thread all is done within a turn or two. */
#include "proxy/shed.h"

#include "lib/chunk.h"
#include "lib/conn.h"
#include "lib/event.h"
#include "lib/http/h2_window.h"
#include "lib/mem.h"
#include "lib/pressure.h"
#include "proxy/cgroup.h"
#include "proxy/session.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS       250
#define LOOK_SHORT_MS 50   /* past the first mark */
#define LOOK_IDLE_MS  1000 /* without a limit: only for what idleness gives back, and the budget of windows */
#define TRIM_EVERY_MS 100
#define STILL_MIN_MS  200  /* who moved nothing for so long stands still */
#define STILL_MAX_MS  1500 /* a note older than this says nothing */
#define TRIP_PART     64
#define SHED_MIN      ((size_t)16 << 10) /* who holds less is not worth a reset */
#define QUIET_US      50000 /* less CPU than this in a second is idleness, more than this since the last trim is worth one */

struct shed {
	struct loop *loop;
	struct crew *crew;
	struct timer timer;
	int statm;
	size_t page;
	uint64_t trimmed_ms, noted_ms; /* noted: session_look_all() */
	uint64_t looked_ms, looked_cpu_us, trimmed_cpu_us;
	struct task after; /* what was reset is freed when its turn ends */
	/* The step that runs; NULL: no look does. */
	struct crew_inquiry *step;
	/* Atomic, since a thread that is late may still be at the step before. */
	size_t left, least; /* bytes to free; of who holds at least */
	size_t held[2];     /* what the greediest of all threads holds: whoever it is, who stands still */
	bool shed, stalled; /* somebody is to go; only who stands still */
	bool note, gave_up; /* note who moves from now on; something was reset */
};

#define READ(field)     __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define WRITE(field, v) __atomic_store_n(&(field), (v), __ATOMIC_RELAXED)

static _Atomic(struct shed *) the_shed; /* for on_trip(), which comes from any thread */

/* --- measuring --- */

/* What the process alone holds: resident pages less those of files and shared memory. Kept open: proc_pid_statm(5) is written anew for each read. */
static size_t measure(const struct shed *s)
{
	char text[128];
	unsigned long long resident, shared;
	ssize_t n = pread(s->statm, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return pressure_used();
	text[n] = '\0';
	if (sscanf(text, "%*u %llu %llu", &resident, &shared) != 2 || resident < shared)
		return pressure_used();
	return (size_t)(resident - shared) * s->page;
}

static uint64_t cpu_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* --- steps --- */

static void look_over(struct shed *s);

static void nothing(void *answer)
{
	MUST(answer == NULL);
}

/* One look at a time. */
static bool looks(const struct shed *s)
{
	return s->step != NULL || task_queued(&s->after);
}

/* When too many questions are open the look ends here; the next one tries again. */
static void step(struct shed *s, const struct crew_question *q)
{
	s->step = crew_ask(s->crew, q, s);
	if (s->step == NULL)
		look_over(s);
}

/* --- giving back --- */

static void *trim_one(struct proxy *p)
{
	pool_rest(p->pool);
	session_rest_all(p);
	conn_rest_all(p->loop);
	chunk_trim();
	return NULL;
}

/* After the threads. */
static void trim(struct shed *s)
{
	chunk_trim();
	malloc_trim(0);
	s->trimmed_ms = loop_now_ms(s->loop);
	s->trimmed_cpu_us = cpu_us();
}

static void on_idle_trimmed(void *ctx, const struct crew_answer *answers, unsigned n)
{
	(void)answers, (void)n;
	trim(ctx);
	look_over(ctx);
}

static const struct crew_question trim_idle = {.look = trim_one, .drop = nothing, .done = on_idle_trimmed};

/* A load is over: nearly nothing was done since the last look, but something since the last trim. */
static void trim_when_idle(struct shed *s)
{
	uint64_t now = loop_now_ms(s->loop), cpu = cpu_us();
	if (now - s->looked_ms < 1000)
		return;
	if (cpu - s->looked_cpu_us < QUIET_US && cpu - s->trimmed_cpu_us > QUIET_US && !looks(s))
		step(s, &trim_idle);
	s->looked_ms = now;
	s->looked_cpu_us = cpu_us();
}

/* --- shedding --- */

static void say(enum pressure from, enum pressure to)
{
	event(to > from ? EV_MEMORY_PRESSURE : EV_MEMORY_RELIEF, "from=%s to=%s used=%zu limit=%zu",
	      pressure_name(from), pressure_name(to), pressure_used(), pressure_limit());
}

static void believe(size_t used)
{
	enum pressure from;
	if (pressure_measured(used, &from))
		say(from, pressure_level());
}

static void set_most(size_t *most, size_t n)
{
	size_t was = READ(*most);
	while (n > was && !__atomic_compare_exchange_n(most, &was, n, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* The cheap things first: connections that nobody uses. */
static void *count_one(struct proxy *p)
{
	struct shed *s = atomic_load(&the_shed);
	if (s == NULL)
		return NULL;
	if (pressure_level() != PRESSURE_NONE) {
		stats_shed(p->stats, "pooled", pool_shed(p->pool));
		stats_shed(p->stats, "idle_session", session_shed_idle(p));
	}
	set_most(&s->held[false], session_held(p, false));
	set_most(&s->held[true], session_held(p, true));
	return NULL;
}

static void *shed_one(struct proxy *p)
{
	struct shed *s = atomic_load(&the_shed);
	if (s == NULL)
		return NULL;
	if (READ(s->shed)) {
		struct shed_want want = {.stalled = READ(s->stalled), .least = READ(s->least), .left = &s->left};
		struct shed_count n = session_shed(p, &want);
		stats_shed(p->stats, "stream", n.streams);
		stats_shed(p->stats, "connection", n.connections);
		if (n.streams + n.connections > 0)
			WRITE(s->gave_up, true);
	}
	if (READ(s->note))
		session_look_all(p);
	return NULL;
}

static void on_trimmed_again(void *ctx, const struct crew_answer *answers, unsigned n)
{
	struct shed *s = ctx;
	(void)answers, (void)n;
	trim(s);
	believe(measure(s));
	look_over(s);
}

static const struct crew_question trim_again = {.look = trim_one, .drop = nothing, .done = on_trimmed_again};

static void after(struct task *t)
{
	step(CONTAINER_OF(t, struct shed, after), &trim_again);
}

/* What went is another thread's to use only when malloc has given it back: each has a heap of its own. */
static void on_shed(void *ctx, const struct crew_answer *answers, unsigned n)
{
	struct shed *s = ctx;
	(void)answers, (void)n;
	s->step = NULL;
	if (READ(s->gave_up))
		loop_next_turn(s->loop, &s->after);
	else
		look_over(s);
}

static const struct crew_question shed_them = {.look = shed_one, .drop = nothing, .done = on_shed};

/* Those that hold the most and stand still, and where nobody does, those that hold the most: at least half of what the greediest of all threads
 * holds. Who stands still is known from the second look on; past the last mark there is no waiting for it. */
static void on_counted(void *ctx, const struct crew_answer *answers, unsigned n)
{
	struct shed *s = ctx;
	uint64_t age = loop_now_ms(s->loop) - s->noted_ms;
	bool known = age >= STILL_MIN_MS && age <= STILL_MAX_MS;
	bool stalled = known && READ(s->held[true]) >= SHED_MIN;
	bool any = !stalled && (known || pressure_level() == PRESSURE_REFUSE) && READ(s->held[false]) >= SHED_MIN;
	(void)answers, (void)n;
	WRITE(s->shed, stalled || any);
	WRITE(s->stalled, stalled);
	WRITE(s->least, MAX(READ(s->held[stalled]) / 2, SHED_MIN));
	WRITE(s->note, age >= STILL_MIN_MS);
	WRITE(s->gave_up, false);
	if (age >= STILL_MIN_MS)
		s->noted_ms = loop_now_ms(s->loop);
	if (stalled || any || age >= STILL_MIN_MS)
		step(s, &shed_them);
	else
		look_over(s);
}

static const struct crew_question count_them = {.look = count_one, .drop = nothing, .done = on_counted};

static void give_up(struct shed *s, size_t excess)
{
	WRITE(s->left, excess);
	WRITE(s->held[false], 0);
	WRITE(s->held[true], 0);
	step(s, &count_them);
}

/* --- looking --- */

static void on_trip(void);

/* How much buffers may take until the next look: less and less towards the limit, but always something, or nothing would move. */
static size_t allowance(void)
{
	size_t limit = pressure_limit(), used = pressure_used();
	size_t room = used < limit ? (limit - used) / 4 : 0;
	return MAX(MIN(limit / TRIP_PART, room), limit / (16 * TRIP_PART));
}

static void look_over(struct shed *s)
{
	s->step = NULL;
	if (pressure_limit() != 0)
		chunk_trip(allowance(), on_trip);
}

static void act(struct shed *s, size_t used)
{
	believe(used);
	size_t excess = MAX(pressure_excess(), h2_budget_excess());
	if (excess > 0)
		give_up(s, excess);
	else
		look_over(s);
}

static void on_trimmed(void *ctx, const struct crew_answer *answers, unsigned n)
{
	struct shed *s = ctx;
	(void)answers, (void)n;
	trim(s);
	act(s, measure(s));
}

static const struct crew_question trim_first = {.look = trim_one, .drop = nothing, .done = on_trimmed};

static void look(struct shed *s)
{
	if (looks(s))
		return;
	size_t used = measure(s);
	if (pressure_limit() != 0) /* not before it is over, whatever a step gives back */
		chunk_hold();
	if (pressure_near(used) && loop_now_ms(s->loop) - s->trimmed_ms >= TRIM_EVERY_MS)
		step(s, &trim_first);
	else
		act(s, used);
}

static void on_timer(struct timer *t)
{
	struct shed *s = CONTAINER_OF(t, struct shed, timer);
	look(s);
	trim_when_idle(s);
	timer_start(t, pressure_limit() == 0               ? LOOK_IDLE_MS
		       : pressure_level() != PRESSURE_NONE ? LOOK_SHORT_MS
							   : LOOK_MS);
}

static void look_now(void *arg)
{
	(void)arg;
	struct shed *s = atomic_load(&the_shed);
	if (s != NULL)
		look(s);
}

/* From within an allocation, of whichever thread: the loop does it. A full queue leaves it to the timer. */
static void on_trip(void)
{
	struct shed *s = atomic_load(&the_shed);
	if (s != NULL && !loop_post(s->loop, look_now, NULL))
		chunk_trip(SIZE_MAX, NULL);
}

/* --- the whole --- */

void shed_gauges(struct stats *s)
{
	stats_gauge(s, "weft_memory_limit_bytes", (int64_t)pressure_limit());
	stats_gauge(s, "weft_memory_used_bytes", (int64_t)pressure_used());
	stats_gauge(s, "weft_memory_level", (int64_t)pressure_level());
	stats_gauge(s, "weft_memory_buffers_bytes", (int64_t)chunk_total());
	stats_gauge(s, "weft_memory_windows_bytes", (int64_t)h2_budget_used());
}

struct shed *shed_new(struct loop *loop, struct crew *crew, size_t memory_max, struct err *err)
{
	struct rlimit files;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		err_errno(err, "/proc/self/statm");
		return NULL;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY)
		pressure_set_descriptors(files.rlim_cur);
	pressure_set_limit(memory_max == 0 ? cgroup_memory_limit("") : memory_max == SIZE_MAX ? 0 : memory_max);
	struct shed *s = NEW(struct shed);
	s->loop = loop;
	s->crew = crew;
	s->statm = fd;
	s->page = (size_t)sysconf(_SC_PAGESIZE);
	task_init(&s->after, after);
	timer_init(&s->timer, loop, on_timer);
	timer_start(&s->timer, LOOK_MS);
	atomic_store(&the_shed, s);
	return s;
}

void shed_stop(struct shed *s)
{
	if (s == NULL)
		return;
	chunk_trip(SIZE_MAX, NULL);
	atomic_store(&the_shed, NULL);
	if (s->step != NULL)
		crew_forget(s->step);
	s->step = NULL;
	task_cancel(&s->after);
	timer_stop(&s->timer);
}

void shed_free(struct shed **ret_s)
{
	struct shed *s = *ret_s;
	if (s == NULL)
		return;
	shed_stop(s);
	close(s->statm);
	FREE(ret_s);
}

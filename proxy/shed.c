/* SPDX-License-Identifier: Apache-2.0 */
/* shed.c: a look at /proc/self/statm every 250 ms (past the first mark every 50 ms, without a
 * limit every second), and at once when buffers have taken a 64th of the limit (near it:
 * a quarter of what is left) since the last look: until then nothing more is read from peers (chunk_tripped), so that between two looks no burst gets further than that. What
 * malloc keeps for itself is given back before a level is believed. */
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
#define QUIET_US      50000 /* less CPU than this in a second is idleness, more than this since the last trim is worth one */

struct shed {
	struct loop *loop;
	struct crew *crew;
	struct timer timer;
	int statm;
	size_t page;
	uint64_t trimmed_ms, noted_ms; /* noted: session_look_all() */
	uint64_t looked_ms, looked_cpu_us, trimmed_cpu_us;
};

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

/* --- giving back --- */

static void trim_one(struct proxy *p, size_t arg)
{
	(void)arg;
	pool_rest(p->pool);
	session_rest_all(p);
	conn_rest_all(p->loop);
	chunk_trim();
}

/* What the other threads give back shows at the next look. */
static void trim(struct shed *s)
{
	crew_each(s->crew, trim_one, 0);
	chunk_trim();
	malloc_trim(0);
	s->trimmed_ms = loop_now_ms(s->loop);
	s->trimmed_cpu_us = cpu_us();
}

/* A load is over: nearly nothing was done since the last look, but something since the last trim. */
static void trim_when_idle(struct shed *s)
{
	uint64_t now = loop_now_ms(s->loop), cpu = cpu_us();
	if (now - s->looked_ms < 1000)
		return;
	if (cpu - s->looked_cpu_us < QUIET_US && cpu - s->trimmed_cpu_us > QUIET_US)
		trim(s);
	s->looked_ms = now;
	s->looked_cpu_us = cpu_us();
}

/* --- shedding --- */

static void say(enum pressure from, enum pressure to)
{
	event(to > from ? EV_MEMORY_PRESSURE : EV_MEMORY_RELIEF, "from=%s to=%s used=%zu limit=%zu",
	      pressure_name(from), pressure_name(to), pressure_used(), pressure_limit());
}

/* The cheap things first: connections that nobody uses. Then those that hold the most and stand still, and where nobody does, those that hold
 * the most. Who stands still is known from the second look on; past the last mark there is no waiting for it. */
static void give_up_one(struct proxy *p, size_t excess, bool known)
{
	struct shed_count n = {0, 0, 0};
	if (pressure_level() != PRESSURE_NONE) {
		stats_shed(p->stats, "pooled", pool_shed(p->pool));
		stats_shed(p->stats, "idle_session", session_shed_idle(p));
	}
	if (known)
		n = session_shed(p, true, excess);
	if (n.bytes == 0 && (known || pressure_level() == PRESSURE_REFUSE))
		n = session_shed(p, false, excess);
	stats_shed(p->stats, "stream", n.streams);
	stats_shed(p->stats, "connection", n.connections);
}

static void give_up_known(struct proxy *p, size_t excess)
{
	give_up_one(p, excess, true);
}

static void give_up_unknown(struct proxy *p, size_t excess)
{
	give_up_one(p, excess, false);
}

static void look_one(struct proxy *p, size_t arg)
{
	(void)arg;
	session_look_all(p);
}

/* Each thread its share. */
static void give_up(struct shed *s, size_t excess)
{
	uint64_t age = loop_now_ms(s->loop) - s->noted_ms;
	bool known = age >= STILL_MIN_MS && age <= STILL_MAX_MS;
	crew_each(s->crew, known ? give_up_known : give_up_unknown, excess / crew_len(s->crew) + 1);
	if (age < STILL_MIN_MS)
		return;
	crew_each(s->crew, look_one, 0);
	s->noted_ms = loop_now_ms(s->loop);
}

static void on_trip(void);

/* How much buffers may take until the next look: less and less towards the limit, but always something, or nothing would move. */
static size_t allowance(void)
{
	size_t limit = pressure_limit(), used = pressure_used();
	size_t room = used < limit ? (limit - used) / 4 : 0;
	return MAX(MIN(limit / TRIP_PART, room), limit / (16 * TRIP_PART));
}

static void look(struct shed *s)
{
	enum pressure from;
	size_t used = measure(s);
	if (pressure_near(used) && loop_now_ms(s->loop) - s->trimmed_ms >= TRIM_EVERY_MS) {
		trim(s);
		used = measure(s);
	}
	if (pressure_measured(used, &from))
		say(from, pressure_level());
	size_t excess = MAX(pressure_excess(), h2_budget_excess());
	if (excess > 0)
		give_up(s, excess);
	if (pressure_limit() != 0)
		chunk_trip(chunk_total() + allowance(), on_trip);
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
	timer_init(&s->timer, loop, on_timer);
	timer_start(&s->timer, LOOK_MS);
	atomic_store(&the_shed, s);
	return s;
}

void shed_free(struct shed **ret_s)
{
	struct shed *s = *ret_s;
	if (s == NULL)
		return;
	chunk_trip(SIZE_MAX, NULL);
	atomic_store(&the_shed, NULL);
	timer_stop(&s->timer);
	close(s->statm);
	FREE(ret_s);
}

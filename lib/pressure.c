/* SPDX-License-Identifier: Apache-2.0 */
/* pressure.c: a few numbers of the whole process; see pressure.h. */
#include "lib/pressure.h"

#include "lib/chunk.h"

#include <stdatomic.h>

/* A fresh connection with its TLS handshake, both sides, until it is measured: generous, it counts until the next look only. */
#define ADMIT_BYTES ((size_t)128 << 10)

static const struct mark {
	const char *label;
	unsigned enter, leave; /* percent */
} marks[PRESSURE_COUNT] = {
    [PRESSURE_NONE] = {"none", 0, 0},
#define PRESSURE(name, label, enter, leave, what) [PRESSURE_##name] = {label, enter, leave},
#include "lib/pressure.tbl.h"
#undef PRESSURE
};

#define OWN_DESCRIPTORS 16u

/* Kept beneath the limit: closing a few hundred connections at once, a page of metrics, an answer that refuses take memory themselves, and
 * more comes between two looks. At the least limit the marks lie a sixteenth lower. */
#define RESERVE_MAX     ((size_t)512 << 10)
#define RESERVE_PART    16

static atomic_size_t descriptors = SIZE_MAX; /* that connections may use */
static atomic_size_t limit, used, chunks_then, footprint_then, admitted;
static atomic_uint level; /* enum pressure, as of the last measurement */

static size_t get(const atomic_size_t *v)
{
	return atomic_load_explicit((atomic_size_t *)v, memory_order_relaxed);
}

static void set(atomic_size_t *v, size_t n)
{
	atomic_store_explicit(v, n, memory_order_relaxed);
}

const char *pressure_name(enum pressure p)
{
	MUST(p < PRESSURE_COUNT);
	return marks[p].label;
}

void pressure_set_limit(size_t bytes)
{
	set(&limit, bytes);
}

size_t pressure_limit(void)
{
	return get(&limit);
}

static size_t percent(size_t of, unsigned n)
{
	return of / 100 * n;
}

/* What the marks are percents of. */
static size_t usable(void)
{
	size_t all = get(&limit);
	return all - MIN(all / RESERVE_PART, RESERVE_MAX);
}

/* The highest mark that `n` bytes reach, and not less than the one that holds until it is left. */
static enum pressure judge(size_t n, enum pressure held)
{
	size_t max = usable();
	enum pressure p = PRESSURE_COUNT - 1;
	if (max == 0)
		return PRESSURE_NONE;
	while (p > PRESSURE_NONE && n < percent(max, p <= held ? marks[p].leave : marks[p].enter))
		p--;
	return p;
}

bool pressure_measured(size_t n, enum pressure *ret_from)
{
	set(&chunks_then, chunk_total());
	set(&footprint_then, chunk_footprint());
	set(&admitted, 0);
	set(&used, n);
	enum pressure from = atomic_load(&level), to = judge(n, from);
	if (to == from || !atomic_compare_exchange_strong(&level, &(unsigned){from}, to))
		return false;
	if (ret_from != NULL)
		*ret_from = from;
	return true;
}

void pressure_admit(void)
{
	if (get(&limit) != 0)
		atomic_fetch_add_explicit(&admitted, ADMIT_BYTES, memory_order_relaxed);
}

static size_t grown(size_t now, const atomic_size_t *then)
{
	size_t before = get(then);
	return now > before ? now - before : 0;
}

enum pressure pressure_level(void)
{
	enum pressure p = atomic_load_explicit(&level, memory_order_relaxed);
	if (get(&limit) == 0)
		return PRESSURE_NONE;
	size_t taken = MAX(grown(chunk_total(), &chunks_then), grown(chunk_footprint(), &footprint_then));
	return MAX(p, judge(get(&used) + get(&admitted) + taken, p));
}

size_t pressure_used(void)
{
	return get(&used);
}

bool pressure_near(size_t n)
{
	return judge(n, atomic_load_explicit(&level, memory_order_relaxed)) != PRESSURE_NONE;
}

size_t pressure_excess(void)
{
	size_t until = percent(usable(), marks[PRESSURE_SHED].leave), n = get(&used);
	return pressure_level() != PRESSURE_NONE && n > until ? n - until : 0;
}

void pressure_set_descriptors(size_t most)
{
	size_t own = MAX(OWN_DESCRIPTORS, most / 16);
	set(&descriptors, most == 0 ? SIZE_MAX : most > own ? most - own : 0);
}

bool pressure_may_use(int fd)
{
	return fd >= 0 && (size_t)fd < get(&descriptors);
}

size_t pressure_share(size_t n, size_t max)
{
	size_t all = get(&limit);
	return all == 0 ? max : MIN(max, percent(all, (unsigned)n));
}

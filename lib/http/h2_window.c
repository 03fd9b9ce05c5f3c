/* SPDX-License-Identifier: Apache-2.0 */
/* h2_window.c: see h2_window.h. */
#include "lib/http/h2_window.h"

#include "lib/pressure.h"

#include <stdatomic.h>

#define RTT_MIN_US 1000 /* the clock of a turn is coarser than a loopback round trip */

static atomic_size_t budget_used; /* of the whole process: all threads' loops */

static size_t budget_max(void)
{
	return pressure_share(25, H2_BUDGET_MAX);
}

bool h2_budget_spent(void)
{
	return h2_budget_used() >= budget_max();
}

size_t h2_budget_used(void)
{
	return atomic_load_explicit(&budget_used, memory_order_relaxed);
}

size_t h2_budget_excess(void)
{
	size_t max = budget_max(), n = h2_budget_used();
	return n >= max / 100 * 85 ? n - max / 100 * 80 : 0;
}

static void budget_add(size_t n)
{
	atomic_fetch_add_explicit(&budget_used, n, memory_order_relaxed);
}

static void budget_sub(size_t n)
{
	size_t before = atomic_fetch_sub_explicit(&budget_used, n, memory_order_relaxed);
	MUST(before >= n);
}

static bool budget_take(size_t n)
{
	if (pressure_level() != PRESSURE_NONE)
		return false;
	if (atomic_fetch_add_explicit(&budget_used, n, memory_order_relaxed) + n <= budget_max() / 100 * 85)
		return true;
	budget_sub(n);
	return false;
}

void h2_window_init(struct h2_window *w, uint32_t first, uint32_t max)
{
	*w = (struct h2_window){.size = first, .first = first, .max = MAX(first, max)};
}

void h2_window_done(struct h2_window *w)
{
	budget_sub(w->unconsumed + (w->size - w->first));
	w->unconsumed = 0;
	w->size = w->first;
}

void h2_window_received(struct h2_window *w, size_t n, uint64_t now_us)
{
	if (w->run_us == 0)
		w->run_us = now_us;
	w->unconsumed += n;
	budget_add(n);
}

bool h2_window_consumed(struct h2_window *w, size_t n, uint64_t now_us, uint64_t rtt_us)
{
	MUST(n <= w->unconsumed);
	w->unconsumed -= n;
	budget_sub(n);
	w->run_bytes += n;
	if (w->run_bytes < w->size)
		return false;
	bool fast = now_us - w->run_us <= 2 * MAX(rtt_us, RTT_MIN_US);
	w->run_bytes = 0;
	w->run_us = now_us;
	uint32_t grown = w->size > w->max / 2 ? w->max : w->size * 2;
	if (!fast || grown == w->size || !budget_take(grown - w->size))
		return false;
	w->size = grown;
	return true;
}

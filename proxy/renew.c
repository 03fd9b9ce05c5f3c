/* SPDX-License-Identifier: Apache-2.0 */
/* renew.c: the moment of renewal. Timers run on the monotonic clock, which stops while a machine sleeps: the due time is kept
 * on CLOCK_BOOTTIME and looked at again at least every 5 s: who slept past it is soon well again. */
#include "proxy/renew.h"

#include "proxy/uplink.h"

#include <time.h>

#define LOOK_MS          5000
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS   60000
#define BACKDATED_S      60 /* issuers date certificates back by this, for clocks that are behind */

static uint64_t boot_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int64_t wall_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec;
}

uint64_t renew_delay_ms(int64_t not_before_s, int64_t not_after_s, int64_t now_s, unsigned jitter)
{
	MUST(jitter <= 1000);
	int64_t life_s = not_after_s - not_before_s;
	if (life_s > BACKDATED_S) {
		life_s -= BACKDATED_S;
		not_before_s += BACKDATED_S;
	}
	if (life_s <= 0)
		return 0;
	int64_t at_ms = life_s * 500 + life_s * 200 * ((int64_t)jitter - 500) / 1000; /* 40 % to 60 % of the life */
	int64_t left_ms = not_before_s * 1000 + at_ms - now_s * 1000;
	/* A clock that is behind must not put it off beyond the life itself. */
	return left_ms <= 0 ? 0 : (uint64_t)MIN(left_ms, life_s * 600);
}

bool renew_expired(const struct credential *c)
{
	return wall_s() >= credential_not_after(c);
}

static void look(struct timer *t)
{
	struct renew *r = CONTAINER_OF(t, struct renew, timer);
	uint64_t now = boot_ms();
	if (now < r->due_ms) {
		timer_start(&r->timer, MIN(r->due_ms - now, LOOK_MS));
		return;
	}
	r->due_ms = 0;
	r->on_due(r);
}

static void due_in(struct renew *r, uint64_t ms)
{
	r->due_ms = boot_ms() + ms;
	timer_start(&r->timer, MIN(ms, LOOK_MS));
}

void renew_init(struct renew *r, struct loop *loop, void (*on_due)(struct renew *))
{
	*r = (struct renew){.on_due = on_due, .backoff_ms = BACKOFF_FIRST_MS};
	timer_init(&r->timer, loop, look);
}

void renew_set(struct renew *r, const struct credential *c)
{
	r->backoff_ms = BACKOFF_FIRST_MS;
	due_in(r, renew_delay_ms(credential_not_before(c), credential_not_after(c), wall_s(),
				 (unsigned)uplink_jitter(1000)));
}

void renew_later(struct renew *r)
{
	due_in(r, r->backoff_ms / 2 + uplink_jitter(r->backoff_ms / 2));
	r->backoff_ms = MIN(2 * r->backoff_ms, BACKOFF_MAX_MS);
}

void renew_stop(struct renew *r)
{
	timer_stop(&r->timer);
	r->due_ms = 0;
}

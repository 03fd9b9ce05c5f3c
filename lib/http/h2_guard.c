/* SPDX-License-Identifier: Apache-2.0 */
/* h2_guard.c: see h2_guard.h. Buckets refill by the clock; the two budgets of PRIORITY and WINDOW_UPDATE grow with what the
 * connection really carries. */
#include "lib/http/h2_guard.h"

/* Capacity and refill of each bucket: events, and thousandths of an event a second. */
#define PING_BURST   100
#define PING_RATE    10000
#define RESET_BURST  200
#define RESET_RATE   20
#define GLITCH_BURST 100
#define GLITCH_RATE  100

#define RESET_MANY   50 /* beyond it a peer is no longer taken for one that is merely busy */
#define GOODS        16 /* and without so many not yet */

#define MILLI        1000u
#define RESETS_MAX   1000000u /* of what one may be allowed: thousandths of them fit in 32 bits */

static void bucket_fill(struct h2_bucket *b, uint32_t burst, uint64_t now_ms)
{
	b->left_milli = burst * MILLI;
	b->at_ms = now_ms;
}

static bool bucket_take(struct h2_bucket *b, uint32_t n, uint32_t burst, uint32_t rate_milli, uint64_t now_ms)
{
	uint64_t gone = now_ms > b->at_ms ? now_ms - b->at_ms : 0;
	uint64_t left = b->left_milli + MIN(gone, 3600000u) * rate_milli / 1000;
	/* Only whole refills move the clock on, so that many small steps lose nothing. */
	if (left > b->left_milli)
		b->at_ms = now_ms;
	left = MIN(left, (uint64_t)burst * MILLI);
	if (left < (uint64_t)n * MILLI) {
		b->left_milli = 0;
		return false;
	}
	b->left_milli = (uint32_t)(left - (uint64_t)n * MILLI);
	return true;
}

void h2_guard_init(struct h2_guard *g, uint32_t resets_burst, uint32_t resets_rate, uint64_t now_ms)
{
	*g = (struct h2_guard){
	    .resets_burst = resets_burst != 0 ? resets_burst : RESET_BURST,
	    .resets_rate = resets_rate != 0 ? resets_rate : RESET_RATE,
	};
	MUST(g->resets_burst <= RESETS_MAX && g->resets_rate <= RESETS_MAX);
	bucket_fill(&g->ping, PING_BURST, now_ms);
	bucket_fill(&g->settings, PING_BURST, now_ms);
	bucket_fill(&g->reset, g->resets_burst, now_ms);
	bucket_fill(&g->glitch, GLITCH_BURST, now_ms);
}

void h2_guard_good(struct h2_guard *g)
{
	g->goods += g->goods < GOODS;
	g->reset.left_milli = MIN(g->reset.left_milli + MILLI, g->resets_burst * MILLI);
}

bool h2_guard_known(const struct h2_guard *g)
{
	return g->goods >= GOODS && g->reset.left_milli + RESET_MANY * MILLI >= g->resets_burst * MILLI;
}

void h2_guard_gave_up(struct h2_guard *g, uint64_t now_ms)
{
	(void)!bucket_take(&g->reset, 1, g->resets_burst, g->resets_rate * MILLI, now_ms);
}

uint64_t h2_guard_rest_ms(const struct h2_guard *g)
{
	uint64_t whole = g->resets_burst * MILLI;
	if (g->reset.left_milli >= whole / 2)
		return 0;
	return (whole * 3 / 4 - g->reset.left_milli) / g->resets_rate +
	       1; /* a thousandth of an event a ms, times the rate */
}

static bool glitch(struct h2_guard *g, uint32_t points, uint64_t now_ms)
{
	return bucket_take(&g->glitch, points, GLITCH_BURST, GLITCH_RATE, now_ms);
}

bool h2_guard_odd(struct h2_guard *g, enum h2_odd what, uint64_t now_ms)
{
	switch (what) {
	case H2_ODD_PING:
		g->pings++;
		return g->pings <= g->data_sent || bucket_take(&g->ping, 1, PING_BURST, PING_RATE, now_ms);
	case H2_ODD_SETTINGS:
		return bucket_take(&g->settings, 1, PING_BURST, PING_RATE, now_ms);
	case H2_ODD_RESET:
	case H2_ODD_MADE_RESET:
		return bucket_take(&g->reset, 1, g->resets_burst, g->resets_rate * MILLI, now_ms);
	case H2_ODD_EMPTY_DATA:
		if (!g->empty_data_seen) {
			g->empty_data_seen = true;
			return true;
		}
		return glitch(g, 10, now_ms);
	case H2_ODD_EMPTY_HEADERS:
	case H2_ODD_BOMB:
		return glitch(g, 10, now_ms);
	case H2_ODD_UNKNOWN:
		g->unknowns++;
		return g->unknowns <= 10 + 2 * g->streams || glitch(g, 1, now_ms);
	case H2_ODD_GOAWAY:
		g->goaways++;
		return g->goaways <= 2 || glitch(g, 1, now_ms);
	case H2_ODD_PRIORITY:
		g->priorities++;
		return g->priorities <= 100 * (1 + g->streams) || glitch(g, 1, now_ms);
	case H2_ODD_WINDOW:
		g->window_updates++;
		return g->window_updates <= 5 + 2 * (g->streams + 10 * g->data_sent) || glitch(g, 1, now_ms);
	case H2_ODD_COUNT:
		break;
	}
	return true;
}

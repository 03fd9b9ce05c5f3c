/* SPDX-License-Identifier: Apache-2.0 */
/* h2_guard.h: how much odd-but-legal HTTP/2 one peer may send. libnghttp2 1.52 limits CONTINUATION, queued ACKs and the size
 * of a header field, but no PING, SETTINGS, PRIORITY, WINDOW_UPDATE or empty-frame floods and no resets that it had to send
 * itself (MadeYouReset). Pure accounting: knows neither nghttp2 nor the connection; when it says false, the connection ends
 * with ENHANCE_YOUR_CALM. */
#ifndef WEFT_LIB_HTTP_H2_GUARD_H
#define WEFT_LIB_HTTP_H2_GUARD_H

#include "lib/base.h"

enum h2_odd {
	H2_ODD_PING,     /* beyond one for each DATA frame sent (gRPC measures with them): bucket of 100, 10 a second */
	H2_ODD_SETTINGS, /* bucket of 100, 10 a second */
	H2_ODD_RESET,    /* reset received: by default 200, 20 a second */
	H2_ODD_MADE_RESET, /* one that the peer made us send: the same bucket */
	H2_ODD_EMPTY_DATA, /* DATA without bytes (padding is none) and without END_STREAM: 10 glitches, the first is free */
	H2_ODD_EMPTY_HEADERS, /* HEADERS or CONTINUATION without a byte: 10 glitches */
	H2_ODD_UNKNOWN,       /* unknown frame type, more than 10 + 2 x streams (PRIORITY_UPDATE is one): 1 glitch */
	H2_ODD_GOAWAY,        /* more than the two of an orderly end: 1 glitch */
	H2_ODD_BOMB,          /* a head that decodes to more than 64 KiB: 10 glitches */
	H2_ODD_PRIORITY,      /* more than 100 x (1 + streams): 1 glitch */
	H2_ODD_WINDOW,        /* WINDOW_UPDATE more than 5 + 2 x (streams + 10 x DATA frames sent): 1 glitch */
	H2_ODD_COUNT
};

struct h2_bucket {
	uint32_t left_milli; /* thousandths of an event */
	uint64_t at_ms;
};

struct h2_guard {
	struct h2_bucket ping, settings, reset;
	struct h2_bucket glitch; /* 100 points, one back every 10 s: a long-lived honest connection never runs dry */
	uint64_t streams;        /* opened so far, either side */
	uint64_t data_sent;      /* DATA frames sent */
	uint64_t priorities, window_updates, pings, unknowns, goaways;
	uint32_t resets_burst, resets_rate;
	uint32_t goods; /* streams that ended in order; counted as far as anybody asks */
	bool empty_data_seen;
};

/* resets: how many at once and in each second; 0: 200 and 20. */
void h2_guard_init(struct h2_guard *g, uint32_t resets_burst, uint32_t resets_rate, uint64_t now_ms);
/* A stream ended in order: a peer whose calls are served may give up as many others. */
void h2_guard_good(struct h2_guard *g);
/* It has been served, sixteen streams at least, and has not given up more than fifty lately that neither a refill nor a stream in order has
 * made good. Who is not known shall let others go first. */
bool h2_guard_known(const struct h2_guard *g);
/* A client gave up a stream: its peer counts that, perhaps by this very rule. */
void h2_guard_gave_up(struct h2_guard *g, uint64_t now_ms);
/* Client: 0, or, where less than half of what it may give up is left, the ms until three quarters are there again. Who opens nothing till
 * then never asks too much: what is open is less than the other half, and so is what the network may delay and deliver at once. */
uint64_t h2_guard_rest_ms(const struct h2_guard *g);
/* One such event. False: the peer is over its allowance. */
bool h2_guard_odd(struct h2_guard *g, enum h2_odd what, uint64_t now_ms) MUST_USE;

#endif

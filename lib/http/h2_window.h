/* SPDX-License-Identifier: Apache-2.0 */
/* h2_window.h: how much one HTTP/2 stream may send us unread, and how much all streams of the process together may.
 *
 * A stream's window begins small and doubles when its owner consumed a whole window within two round trips: then the window,
 * not the reader, was what limited it (bandwidth-delay product). The process-wide budget counts what is really at stake: bytes
 * handed to owners and not consumed, and the credit granted beyond the first window. It is 64 MiB, or a quarter of the memory limit where
 * that is less. Past 85 % of it, or while the process sheds (lib/pressure.h), nothing grows, and the proxy resets the greediest streams
 * (proxy/shed.c); beyond it new streams are refused unprocessed. */
#ifndef WEFT_LIB_HTTP_H2_WINDOW_H
#define WEFT_LIB_HTTP_H2_WINDOW_H

#include "lib/base.h"

#define H2_BUDGET_MAX (64u << 20)

struct h2_window {
	uint32_t size, first, max; /* bytes */
	size_t unconsumed;         /* with the owner */
	uint64_t run_bytes;        /* consumed since run_us */
	uint64_t run_us;
};

void h2_window_init(struct h2_window *w, uint32_t first, uint32_t max);
void h2_window_done(struct h2_window *w); /* gives back to the budget */
void h2_window_received(struct h2_window *w, size_t n, uint64_t now_us);
/* The owner consumed n <= unconsumed bytes. True when the window has grown: announce w->size. */
bool h2_window_consumed(struct h2_window *w, size_t n, uint64_t now_us, uint64_t rtt_us);
bool h2_budget_spent(void);
size_t h2_budget_used(void);
size_t h2_budget_excess(void); /* bytes above 80 % of the budget, once 85 % of it are in use; else 0 */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* conn_end.h: two connections on one loop, plain and TLS, over loopback TCP: the ground of the suites conn, conn_dial and
 * conn_flow. Every loop run has a deadline. end_setup() and end_teardown() are the fixture. */
#ifndef WEFT_TESTS_CONN_END_H
#define WEFT_TESTS_CONN_END_H

#include "lib/conn.h"
#include "lib/listener.h"
#include "tests/unit/lib/tls_pair.h"

#include <check.h>

#define DEADLINE_MS 5000

/* One end: counts what it hears of, checks what it receives against a stream of known bytes. */
struct end {
	struct conn *c;
	struct loop *loop;
	unsigned opens, rxs, rooms, fails;
	struct err err;
	uint64_t got, to_send, sent;
	size_t rx_max, tx_max; /* most bytes seen in the buffers */
	bool keep;             /* does not drain */
	bool echo;
	bool end_when_sent;
	bool eof;
	uint64_t stop_at; /* stops the loop when so many bytes are in */
	bool stop_on_open, stop_on_eof, stop_on_fail;
};

extern struct tls_pair end_tls;
extern struct loop *end_loop;
extern struct timer end_deadline;
extern struct end end_a, end_b; /* a dials, b accepts */
extern struct listener *end_listener;
extern struct addr end_at;      /* where it listens */
extern SSL_CTX *end_accept_tls; /* of what b accepts; NULL: plain */
extern const struct conn_events end_events;

void end_setup(void);
void end_teardown(void);

/* NULL contexts: plain. end_dial_kind: 0 plain, 1 TLS. Neither runs the loop. */
void end_dial(SSL_CTX *client, SSL_CTX *server);
void end_dial_kind(int kind);
/* Dials and runs the loop until both ends are open. */
void end_open_both(int kind);
void end_run_for(uint64_t ms);
void end_pump(struct end *e); /* writes what it has to send, as far as there is room */

/* Two of end_events, for tests that change the others. */
void end_on_rx(void *end);
void end_on_fail(void *end, const struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* succession.h: a worker's side of an upgrade: what it and its supervisor tell each other. A successor says when it is ready, the worker
 * that serves is told to retire; either can ask for an upgrade in an operator's name. */
#ifndef WEFT_PROXY_SUCCESSION_H
#define WEFT_PROXY_SUCCESSION_H

#include "lib/loop.h"

struct succession_cfg {
	struct loop *loop;
	int sock;       /* to the supervisor, borrowed */
	bool successor; /* another worker serves until this one is ready */
	/* Successor only: ready? False: why not. Asked until it is true; then on_ready, once: what it listens on is opened before the
	 * supervisor learns of it. */
	bool (*ready)(void *ctx, struct err *why);
	void (*on_ready)(void *ctx);
	void (*on_retire)(void *ctx,
			  const char *successor); /* once: another one serves; successor: its pid and version */
	void *ctx;
};

struct succession;
struct succession *succession_new(const struct succession_cfg *cfg);
void succession_free(struct succession **s);

/* Asks for an upgrade. done(arg, ok, text) comes once, later, unless cancelled: with the successor's pid and version, or why there is none.
 * False: one is asked for already, or the supervisor is gone. */
bool succession_ask(struct succession *s, void (*done)(void *arg, bool ok, const char *text), void *arg);
void succession_forget(struct succession *s);                  /* done() is not wanted any more */
const char *succession_supervisor(const struct succession *s); /* its version; "unknown" before it has said so */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* child.h: one process under the supervisor: how it is started, what it says, what it is told. Which of them serves is the
 * supervisor's business. */
#ifndef WEFT_PROXY_CHILD_H
#define WEFT_PROXY_CHILD_H

#include "proxy/handover.h"

#include <sys/types.h>

struct child {
	pid_t pid;               /* 0: there is none */
	int sock;                /* to it; -1: none */
	int64_t started_ms;      /* CLOCK_MONOTONIC */
	int64_t until_ms;        /* when the supervisor loses its patience with it; 0: never */
	char version[32];        /* as it says; "unknown" before */
	char why[NOTE_TEXT_MAX]; /* that it is not ready yet, or could not be started; "" */
};

extern const struct child child_none;

struct child_program {
	int fd;      /* O_PATH of the file: what is started is this one, whatever stands at its path by now */
	char **argv; /* NULL-terminated */
};

/* Starts it with the descriptors of the handover and a socket to us, and tells it our version. False and err, *ret untouched. A program
 * that cannot be executed starts, says NOTE_EXEC and ends with 127. */
bool child_start(struct child *ret, const struct child_program *program, const struct handover *h, struct err *err);
/* One note of its, with `version` and `why` filled on the way. A descriptor that is not a credential's is closed. */
enum heard child_hear(struct child *c, struct note *ret);
/* False: there is none, or it does not listen. */
bool child_say(struct child *c, enum note_kind kind, const char *text);
/* It has ended: closes the socket. */
void child_done(struct child *c);
int64_t child_now_ms(void);

#endif

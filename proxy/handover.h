/* SPDX-License-Identifier: Apache-2.0 */
/* handover.h: the descriptors that a process of weft-proxy is started with (WEFT_FDS, bpf/abi.h): by weft-capture for the supervisor,
 * by the supervisor for its worker (the same, and "super" and "credential"); and what the two tell each other later. */
#ifndef WEFT_PROXY_HANDOVER_H
#define WEFT_PROXY_HANDOVER_H

#include "bpf/abi.h"
#include "lib/err.h"

#define HANDOVER_OUT_MAX (2 * WEFT_OUT_PORTS)
#define HANDOVER_IN_MAX  2

struct handover {
	int out[HANDOVER_OUT_MAX]; /* outbound listeners; n_out of them */
	int in[HANDOVER_IN_MAX];   /* inbound listeners */
	unsigned n_out, n_in;
	int status, admin;     /* listeners; -1: none */
	int token, join;       /* memfds; -1: none */
	int super, credential; /* worker: socket to the supervisor, memfd of the last credential; -1: none */
};

/* From the environment variable; absent: all -1 and 0. A descriptor that is not open, or a name that is not known, is an error. */
bool handover_take(struct handover *ret, struct err *err);
/* "name:fd,name:fd" for the next process. */
void handover_text(const struct handover *h, char *out, size_t out_size);
/* Reads a memfd from its start. False when it is longer than max or unreadable. */
bool handover_read(int fd, void *out, size_t max, size_t *ret_len, struct err *err);
/* A sealed memfd with these bytes (no write, grow, shrink), CLOEXEC. -1 and err. */
int handover_seal(const char *name, const void *bytes, size_t len, struct err *err);

/* What supervisor and worker tell each other over "super", one packet each: the kind, then text. The kinds are for ever: after an upgrade
 * the two are of different versions. One that is not known is passed over. */
enum note_kind {
	NOTE_VERSION = 'v',    /* both, first: what each is */
	NOTE_CREDENTIAL = 'c', /* worker: the memfd of a new credential */
	NOTE_WAITING = 'w',    /* successor: why it is not ready yet */
	NOTE_READY = 'r',      /* successor: it serves */
	NOTE_UPGRADE = 'u',    /* worker: an operator asks for an upgrade */
	NOTE_RETIRE = 'd',     /* supervisor: another worker serves; text: which */
	NOTE_FAILED = 'f',     /* supervisor: an upgrade came to nothing; text: why */
	NOTE_EXEC = 'x',       /* a child: the program could not be started; text: why */
};

#define NOTE_TEXT_MAX 400

struct note {
	char kind;
	char text[NOTE_TEXT_MAX]; /* printable, without quotes, whoever sent it */
	int fd;                   /* of NOTE_CREDENTIAL, CLOEXEC, the receiver's; else -1 */
};

/* Never blocks. fd -1: none. False and err: the other side is gone, or does not listen. */
bool handover_say(int sock, enum note_kind kind, const char *text, int fd, struct err *err);
enum heard { HEARD_NOTE, HEARD_NOTHING, HEARD_GONE };
enum heard handover_hear(int sock, struct note *ret); /* HEARD_NOTHING: there is none now */

#endif

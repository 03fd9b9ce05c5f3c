/* SPDX-License-Identifier: Apache-2.0 */
/* handover.h: the descriptors that a process of weft-proxy is started with (WEFT_FDS, bpf/abi.h): by weft-capture for the supervisor,
 * by the supervisor for its worker (the same, and "super" and "credential"). */
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
/* One descriptor over the socket between worker and supervisor, with one byte. */
bool handover_send(int sock, int fd, struct err *err);
int handover_receive(int sock); /* the descriptor, CLOEXEC; -1: the other side is gone or sent something else */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* listener.h: accepts on a listening descriptor, at most 64 a turn. Out of descriptors (EMFILE, ENFILE, ENOBUFS) it
 * pauses for 100 ms instead of spinning and says so once (event accept_paused). */
#ifndef WEFT_LIB_LISTENER_H
#define WEFT_LIB_LISTENER_H

#include "lib/loop.h"

struct listener;

/* on_accept owns the descriptor that it is given (non-blocking, CLOEXEC, tuned: sock.h). The listener
 * owns `fd` from here on. */
struct listener *listener_new(struct loop *loop, int fd, void (*on_accept)(void *ctx, int fd), void *ctx);
void listener_pause(struct listener *l, bool pause);
void listener_free(struct listener **l); /* closes the descriptor */

#endif

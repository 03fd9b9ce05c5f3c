/* SPDX-License-Identifier: Apache-2.0 */
/* listener.c: accepting. It owns the listening descriptor; what it accepts belongs to on_accept. */
#include "lib/listener.h"

#include "lib/event.h"
#include "lib/mem.h"
#include "lib/sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTENER_MAGIC 0x6c73746eu
#define PER_TURN       64
#define PAUSE_MS       100

struct listener {
	uint32_t magic;
	bool paused;  /* by the user */
	bool starved; /* of descriptors or memory; said once, until an accept succeeds again */
	struct loop *loop;
	struct io io;
	struct timer retry;
	void (*on_accept)(void *ctx, int fd);
	void *ctx;
};

static void watch(struct listener *l)
{
	io_want(&l->io, !l->paused && !timer_running(&l->retry), false);
}

static void starve(struct listener *l, int why)
{
	if (!l->starved)
		event(EV_ACCEPT_PAUSED, "pause_ms=%d reason=\"%s\"", PAUSE_MS, strerror(why));
	l->starved = true;
	timer_start(&l->retry, PAUSE_MS);
	watch(l);
}

/* Errors of the connection that was in the queue, not of ours: accept(2), "Error handling". */
static bool of_the_connection(int why)
{
	static const int those[] = {ECONNABORTED, EINTR,        EPROTO,     ENETDOWN,    ENOPROTOOPT, EHOSTDOWN,
				    ENONET,       EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, EPERM,       ETIMEDOUT};

	for (size_t i = 0; i < ARRAY_LEN(those); i++)
		if (why == those[i])
			return true;
	return false;
}

static void on_io(struct io *io, bool readable, bool writable)
{
	struct listener *l = CONTAINER_OF(io, struct listener, io);

	MUST_BE(l, LISTENER_MAGIC);
	/* on_accept may pause or free us: the memory stays until the turn has ended */
	for (int i = 0; i < PER_TURN && l->magic == LISTENER_MAGIC && !l->paused; i++) {
		int fd = accept4(l->io.ev.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			l->starved = false;
			l->on_accept(l->ctx, fd);
		} else if (errno == EAGAIN) {
			return;
		} else if (!of_the_connection(errno)) {
			starve(l, errno);
			return;
		}
	}
}

static void on_retry(struct timer *t)
{
	watch(CONTAINER_OF(t, struct listener, retry));
}

struct listener *listener_new(struct loop *loop, int fd, void (*on_accept)(void *ctx, int fd), void *ctx)
{
	struct listener *l = NEW(struct listener);

	l->magic = LISTENER_MAGIC;
	l->loop = loop;
	l->on_accept = on_accept;
	l->ctx = ctx;
	io_init(&l->io, loop, fd, on_io);
	sock_tune(fd); /* what is accepted inherits it: five system calls less each */
	timer_init(&l->retry, loop, on_retry);
	watch(l);
	return l;
}

void listener_pause(struct listener *l, bool pause)
{
	MUST_BE(l, LISTENER_MAGIC);
	l->paused = pause;
	watch(l);
}

void listener_free(struct listener **ret_l)
{
	struct listener *l = *ret_l;

	if (!l)
		return;
	MUST_BE(l, LISTENER_MAGIC);
	timer_stop(&l->retry);
	io_stop(&l->io);
	close(l->io.ev.fd);
	l->magic = 0;
	loop_defer_free(l->loop, l, mem_free);
	*ret_l = NULL;
}

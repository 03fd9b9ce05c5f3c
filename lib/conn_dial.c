/* SPDX-License-Identifier: Apache-2.0 */
/* conn_dial.c: a connection that we open: its socket, its source address, and connect(). */
#include "lib/conn_impl.h"

#include "lib/mem.h"

#include <errno.h>
#include <sys/un.h>

static socklen_t target(const struct conn_dial *d, struct sockaddr_storage *ret)
{
	struct sockaddr_un *un = (struct sockaddr_un *)ret;

	if (!d->unix_path)
		return addr_to_sockaddr(&d->to, ret);
	*ret = (struct sockaddr_storage){.ss_family = AF_UNIX};
	memcpy(un->sun_path, d->unix_path, MIN(strlen(d->unix_path), sizeof(un->sun_path) - 1));
	return sizeof(*un);
}

static bool bind_source(int fd, const struct addr *from, struct err *err)
{
	char text[ADDR_TEXT_MAX];
	struct sockaddr_storage sa;
	int on = 1;

	if (from->ip.len == 0)
		return true;
	socklen_t len = addr_to_sockaddr(from, &sa);
	/* the port is chosen by connect(), by the whole four-tuple: else 28,232 connections a source would be the end */
	if (from->port == 0)
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&sa, len) != 0)
		return err_errno(err, "cannot bind the source address %s", addr_text(from, text));
	return true;
}

/* From a loopback address, or to the address that is the source: both ends are of this kernel. */
static bool on_own_host(const struct conn_dial *d)
{
	return d->from.ip.len != 0 && (ip_is_loopback(&d->from.ip) || ip_eq(&d->from.ip, &d->to.ip));
}

/* connect() says EINPROGRESS on loopback, too, though the peer's SYN-ACK is handled before it returns: who asks at once for the peer's
 * address need not wait for the descriptor to become writable. A refusal is left to be told by that. */
static bool connected_meanwhile(int fd)
{
	struct addr peer;

	return sock_peer(fd, &peer);
}

static bool dial(struct conn *c, const struct conn_dial *d, struct err *err)
{
	struct sockaddr_storage sa;
	char peer[ADDR_TEXT_MAX];
	const char *name = d->unix_path ? d->unix_path : addr_text(&d->to, peer);

	if (d->unix_path && strlen(d->unix_path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_set(err, ERR_INVALID, "%s: too long for the path of a unix socket", name);
	if (!d->unix_path && d->to.ip.len == 0)
		return err_set(err, ERR_INVALID, "cannot connect: no address is given");
	socklen_t len = target(d, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		err_errno(err, "cannot make a socket to connect to %s", name);
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			err->code = ERR_LIMIT;
		return false;
	}
	conn_take_fd(c, fd);
	if (d->prepare && !d->prepare(d->prepare_arg, fd, err))
		return false;
	if (!d->unix_path) {
		if (on_own_host(d))
			sock_tune_own_host(fd);
		else
			sock_tune(fd);
		if (!bind_source(fd, &d->from, err))
			return false;
	}
	if (connect(fd, (struct sockaddr *)&sa, len) == 0)
		c->connected_at_once = true;
	else if (errno != EINPROGRESS)
		return err_errno(err, "cannot connect to %s", name);
	else
		c->connected_at_once = on_own_host(d) && connected_meanwhile(fd);
	return !d->tls || conn_tls_client(c, d, err);
}

struct conn *conn_open(struct loop *loop, const struct conn_dial *d, const struct conn_events *ev, void *ctx)
{
	struct conn *c = conn_make(loop, CONN_CONNECTING, ev, ctx);
	struct err err = {0};

	if (!d->unix_path)
		c->peer = d->to;
	conn_start_timer(c, d->timeout_ms);
	if (!dial(c, d, &err))
		c->failure = mem_dup(&err, sizeof(err));
	return c;
}

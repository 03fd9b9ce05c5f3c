/* SPDX-License-Identifier: Apache-2.0 */
/* listeners.c: see listeners.h. */
#include "bpf/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BACKLOG 4096 /* capped by net.core.somaxconn; what waits while a worker is replaced */

void handed_add(struct handed *h, const char *name, int fd)
{
	MUST(h->n < HANDED_MAX);
	h->item[h->n].name = name;
	h->item[h->n++].fd = fd;
}

int handed_find(const struct handed *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++) {
		if (!strcmp(h->item[i].name, name))
			return h->item[i].fd;
	}
	return -1;
}

const char *handed_text(const struct handed *h, char ret[static HANDED_TEXT])
{
	size_t at = 0;

	for (size_t i = 0; i < h->n; i++)
		at += (size_t)snprintf(ret + at, HANDED_TEXT - at, "%s%s:%d", i ? "," : "", h->item[i].name,
				       h->item[i].fd);
	MUST(at < HANDED_TEXT);
	return ret;
}

bool handed_keep(const struct handed *h, struct err *err)
{
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC))
		return err_errno(err, "close_range");
	for (size_t i = 0; i < h->n; i++) {
		if (fcntl(h->item[i].fd, F_SETFD, 0))
			return err_errno(err, "%s: fcntl", h->item[i].name);
	}
	return true;
}

static int bind_tcp(const char *ip, uint16_t port, struct err *err)
{
	struct sockaddr_storage sa;
	struct addr a = {.port = port};
	int fd, one = 1, off = 0;

	MUST(ip_parse(str_of(ip), &a.ip));
	fd = socket(a.ip.len == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		err_errno(err, "socket for %s port %u", ip, port);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (a.ip.len == 16)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&a, &sa)) == 0)
		return fd;
	if (errno == EADDRINUSE)
		err_set(err, ERR_EXISTS,
			"%s port %u is taken in this network namespace: a proxy runs here already, or an "
			"application has the port",
			ip, port);
	else
		err_errno(err, "%s port %u (is lo up?)", ip, port);
	close(fd);
	return -1;
}

static bool add_tcp(struct handed *h, const char *name, const char *ip, uint16_t port, struct err *err)
{
	int fd = bind_tcp(ip, port, err);

	if (fd < 0)
		return false;
	handed_add(h, name, fd);
	return true;
}

static bool has_v6_sockets(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

bool listeners_bind(struct handed *h, const struct netns *ns, struct err *err)
{
	const char *any = has_v6_sockets() ? "::" : "0.0.0.0";
	bool ok = true;

	for (uint16_t i = 0; ok && i < WEFT_OUT_PORTS; i++) {
		ok = add_tcp(h, "out", "127.0.0.1", WEFT_PORT_OUT + i, err) &&
		     (!ns->ipv6 || add_tcp(h, "out", "::1", WEFT_PORT_OUT + i, err));
	}
	return ok && add_tcp(h, "in", any, WEFT_PORT_INBOUND, err) && add_tcp(h, "status", any, WEFT_PORT_STATUS, err);
}

bool listeners_open(const struct handed *h, struct err *err)
{
	for (size_t i = 0; i < h->n; i++) {
		const char *name = h->item[i].name;

		if (strcmp(name, "out") && strcmp(name, "in") && strcmp(name, "status"))
			continue;
		if (listen(h->item[i].fd, BACKLOG))
			return err_errno(err, "listener %s", name);
	}
	return true;
}

bool listeners_admin(struct handed *h, const char *path, struct err *err)
{
	int fd = sock_listen_unix(path, err);

	if (fd < 0)
		return false;
	if (lchown(path, WEFT_UID, WEFT_UID)) {
		close(fd);
		return err_errno(err, "%s: chown", path);
	}
	handed_add(h, "admin", fd);
	return true;
}

bool listeners_memfd(struct handed *h, const char *name, const void *bytes, size_t n, struct err *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_errno(err, "memfd %s", name);
	if (write(fd, bytes, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)) {
		close(fd);
		return err_errno(err, "memfd %s", name);
	}
	handed_add(h, name, fd);
	return true;
}

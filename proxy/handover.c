/* SPDX-License-Identifier: Apache-2.0 */
/* handover.c: descriptors by inheritance, and one at a time over a socket. */
#include "proxy/handover.h"

#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static bool put(struct handover *h, struct str name, int fd)
{
	if (str_is(name, "out") && h->n_out < HANDOVER_OUT_MAX)
		h->out[h->n_out++] = fd;
	else if (str_is(name, "in") && h->n_in < HANDOVER_IN_MAX)
		h->in[h->n_in++] = fd;
	else if (str_is(name, "status"))
		h->status = fd;
	else if (str_is(name, "admin"))
		h->admin = fd;
	else if (str_is(name, "token"))
		h->token = fd;
	else if (str_is(name, "join"))
		h->join = fd;
	else if (str_is(name, "super"))
		h->super = fd;
	else if (str_is(name, "credential"))
		h->credential = fd;
	else
		return false;
	return true;
}

bool handover_take(struct handover *ret, struct err *err)
{
	struct handover h = {.status = -1, .admin = -1, .token = -1, .join = -1, .super = -1, .credential = -1};
	struct str rest = str_of(getenv(WEFT_ENV_FDS)), one, name, number;
	while (rest.len > 0) {
		uint64_t fd;
		str_cut(rest, ',', &one, &rest);
		if (!str_cut(one, ':', &name, &number) || !str_to_u64(number, 1 << 20, &fd))
			return err_set(err, ERR_INVALID, "%s: \"" STR_FMT "\" is not name:number", WEFT_ENV_FDS,
				       STR_ARG(one));
		if (fcntl((int)fd, F_GETFD) < 0)
			return err_set(err, ERR_INVALID,
				       "%s: descriptor %d (" STR_FMT ") is not open: start the proxy through "
				       "weft-capture exec",
				       WEFT_ENV_FDS, (int)fd, STR_ARG(name));
		if (!put(&h, name, (int)fd))
			return err_set(err, ERR_INVALID,
				       "%s: \"" STR_FMT "\" is not a descriptor that this version knows, or there "
				       "are too many",
				       WEFT_ENV_FDS, STR_ARG(name));
	}
	*ret = h;
	return true;
}

void handover_text(const struct handover *h, char *out, size_t out_size)
{
	const struct {
		const char *name;
		int fd;
	} single[] = {{"status", h->status}, {"admin", h->admin}, {"token", h->token},
		      {"join", h->join},     {"super", h->super}, {"credential", h->credential}};
	size_t n = 0;
	out[0] = '\0';
	for (unsigned i = 0; i < h->n_out; i++)
		n += (size_t)snprintf(out + n, out_size - n, "%sout:%d", n ? "," : "", h->out[i]);
	for (unsigned i = 0; i < h->n_in; i++)
		n += (size_t)snprintf(out + n, out_size - n, "%sin:%d", n ? "," : "", h->in[i]);
	for (size_t i = 0; i < ARRAY_LEN(single); i++)
		if (single[i].fd >= 0)
			n += (size_t)snprintf(out + n, out_size - n, "%s%s:%d", n ? "," : "", single[i].name,
					      single[i].fd);
	MUST(n < out_size);
}

bool handover_read(int fd, void *out, size_t max, size_t *ret_len, struct err *err)
{
	size_t have = 0;
	for (;;) {
		char extra;
		ssize_t n = have < max ? pread(fd, (char *)out + have, max - have, (off_t)have)
				       : pread(fd, &extra, 1, (off_t)have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, "reading a descriptor of the handover");
		if (n == 0)
			break;
		if (have >= max)
			return err_set(err, ERR_LIMIT, "a descriptor of the handover holds more than %zu bytes", max);
		have += (size_t)n;
	}
	*ret_len = have;
	return true;
}

int handover_seal(const char *name, const void *bytes, size_t len, struct err *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_errno(err, "memfd_create %s", name), -1;
	if (write(fd, bytes, len) != (ssize_t)len ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
		err_errno(err, "filling memfd %s", name);
		close(fd);
		return -1;
	}
	return fd;
}

bool handover_say(int sock, enum note_kind kind, const char *text, int fd, struct err *err)
{
	char byte = (char)kind;
	struct iovec iov[] = {{&byte, 1}, {(char *)(uintptr_t)text, strnlen(text, NOTE_TEXT_MAX - 1)}};
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {.b = {0}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = ARRAY_LEN(iov)};
	if (fd >= 0) {
		msg.msg_control = control.b;
		msg.msg_controllen = sizeof(control.b);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		*c = (struct cmsghdr){
		    .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		return true;
	return err_errno(err, "between supervisor and worker");
}

/* The descriptor of a packet; -1: it has none. */
static int descriptor_of(struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd;
	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

enum heard handover_hear(int sock, struct note *ret)
{
	struct iovec iov[] = {{&ret->kind, 1}, {ret->text, sizeof(ret->text) - 1}};
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {.b = {0}};
	/* CMSG_LEN: with CMSG_SPACE a second descriptor would find room, and stay open. */
	struct msghdr msg = {.msg_iov = iov,
			     .msg_iovlen = ARRAY_LEN(iov),
			     .msg_control = control.b,
			     .msg_controllen = CMSG_LEN(sizeof(int))};
	ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0 &&
	    errno == ECONNRESET) /* the other side ended without having read all: said once, before its last words */
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? HEARD_NOTHING : HEARD_GONE;
	ret->fd = descriptor_of(&msg);
	ret->text[n - 1] = '\0';
	for (char *p = ret->text; *p != '\0'; p++)
		if (*p < ' ' || *p > '~' || *p == '"')
			*p = '?';
	return HEARD_NOTE;
}

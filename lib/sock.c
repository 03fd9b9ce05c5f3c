/* SPDX-License-Identifier: Apache-2.0 */
/* sock.c: addresses as text and as sockaddr; making listening sockets. */
#include "lib/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void ip_set(struct ip *ip, const void *b, size_t len)
{
	*ip = (struct ip){0};
	if (len == 16 && memcmp(b, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		b = (const uint8_t *)b + 12;
		len = 4;
	}
	ip->len = (uint8_t)len;
	memcpy(ip->b, b, len);
}

bool ip_parse(struct str s, struct ip *ret)
{
	char z[IP_TEXT_MAX];
	uint8_t b[16];

	if (s.len == 0 || s.len >= sizeof(z) || memchr(s.p, 0, s.len))
		return false;
	memcpy(z, s.p, s.len);
	z[s.len] = 0;
	if (inet_pton(AF_INET, z, b) == 1) /* refuses leading zeros, octal and short forms */
		ip_set(ret, b, 4);
	else if (inet_pton(AF_INET6, z, b) == 1)
		ip_set(ret, b, 16);
	else
		return false;
	return true;
}

bool addr_parse(struct str s, struct addr *ret)
{
	struct str host, port;
	struct addr a;
	uint64_t v;
	size_t at;

	if (s.len > 0 && s.p[0] == '[') {
		if (!str_find(s, ']', &at) || at + 1 >= s.len || s.p[at + 1] != ':')
			return false;
		host = str_make(s.p + 1, at - 1);
		port = str_make(s.p + at + 2, s.len - at - 2);
		if (!str_find(host, ':', &at))
			return false;
	} else if (!str_cut(s, ':', &host, &port)) {
		return false;
	}
	if (!ip_parse(host, &a.ip) || !str_to_u64(port, UINT16_MAX, &v))
		return false;
	a.port = (uint16_t)v;
	*ret = a;
	return true;
}

/* Are all bits of ip behind the first `bits` zero? */
static bool host_bits_zero(const struct ip *ip, unsigned bits)
{
	for (unsigned i = bits; i < ip->len * 8u; i++)
		if (ip->b[i / 8] & (0x80u >> (i % 8)))
			return false;
	return true;
}

bool cidr_parse(struct str s, struct cidr *ret)
{
	struct str net, bits;
	struct cidr c;
	uint64_t v;

	if (!str_cut(s, '/', &net, &bits) || !ip_parse(net, &c.ip))
		return false;
	bool mapped = c.ip.len == 4 && memchr(net.p, ':', net.len);
	if (!str_to_u64(bits, mapped ? 128 : c.ip.len * 8u, &v) || (mapped && v < 96))
		return false;
	c.bits = (uint8_t)(mapped ? v - 96 : v);
	if (!host_bits_zero(&c.ip, c.bits))
		return false;
	*ret = c;
	return true;
}

/* inet_ntop() goes through sprintf(), and this stands in each request's way. */
static void v4_text(const uint8_t b[static 4], char *out)
{
	char digits[STR_U64_MAX];
	for (size_t i = 0; i < 4; i++) {
		struct str s = str_from_u64(b[i], digits);
		memcpy(out, s.p, s.len);
		out += s.len;
		*out++ = i < 3 ? '.' : '\0';
	}
}

const char *ip_text(const struct ip *ip, char out[static IP_TEXT_MAX])
{
	if (ip->len == 4)
		v4_text(ip->b, out);
	else if (ip->len == 0 || !inet_ntop(AF_INET6, ip->b, out, IP_TEXT_MAX))
		snprintf(out, IP_TEXT_MAX, "-");
	return out;
}

const char *addr_text(const struct addr *a, char out[static ADDR_TEXT_MAX])
{
	char ip[IP_TEXT_MAX];

	if (a->ip.len == 0)
		snprintf(out, ADDR_TEXT_MAX, "-");
	else
		snprintf(out, ADDR_TEXT_MAX, a->ip.len == 4 ? "%s:%u" : "[%s]:%u", ip_text(&a->ip, ip), a->port);
	return out;
}

bool ip_eq(const struct ip *a, const struct ip *b)
{
	return a->len == b->len && memcmp(a->b, b->b, a->len) == 0;
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
	return a->port == b->port && ip_eq(&a->ip, &b->ip);
}

void addr_key(const struct addr *a, char out[static ADDR_KEY_LEN])
{
	memset(out, 0, sizeof(a->ip.b));
	memcpy(out, a->ip.b, a->ip.len);
	out[16] = (char)a->ip.len;
	out[17] = (char)(a->port >> 8);
	out[18] = (char)a->port;
}

bool cidr_has(const struct cidr *c, const struct ip *ip)
{
	unsigned whole = c->bits / 8, rest = c->bits % 8;

	if (c->ip.len != ip->len || ip->len == 0 || memcmp(c->ip.b, ip->b, whole) != 0)
		return false;
	return rest == 0 || (c->ip.b[whole] ^ ip->b[whole]) >> (8 - rest) == 0;
}

bool ip_is_loopback(const struct ip *ip)
{
	static const uint8_t one[16] = {[15] = 1};

	if (ip->len == 4)
		return ip->b[0] == 127;
	return ip->len == 16 && memcmp(ip->b, one, 16) == 0;
}

void addr_from_sockaddr(const struct sockaddr *sa, struct addr *ret)
{
	*ret = (struct addr){0};
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
		ip_set(&ret->ip, &in->sin_addr, 4);
		ret->port = ntohs(in->sin_port);
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
		ip_set(&ret->ip, &in6->sin6_addr, 16);
		ret->port = ntohs(in6->sin6_port);
	}
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (a->ip.len == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip.b, 4);
		return sizeof(*in);
	}
	MUST(a->ip.len == 16);
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip.b, 16);
	return sizeof(*in6);
}

bool sock_local(int fd, struct addr *ret)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
		return false;
	addr_from_sockaddr((struct sockaddr *)&sa, ret);
	return true;
}

bool sock_peer(int fd, struct addr *ret)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	if (getpeername(fd, (struct sockaddr *)&sa, &len) != 0)
		return false;
	addr_from_sockaddr((struct sockaddr *)&sa, ret);
	return true;
}

/* Closes fd keeping errno, says what failed. */
static int failed(int fd, struct err *err, const char *what, const char *where)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	err_errno(err, "%s %s", what, where);
	return -1;
}

int sock_listen_tcp(const struct addr *a, bool dual, int backlog, struct err *err)
{
	char where[ADDR_TEXT_MAX];
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(a, &sa);
	int on = 1, v6only = !dual;

	addr_text(a, where);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return failed(fd, err, "cannot make a socket for", where);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
		return failed(fd, err, "cannot set SO_REUSEADDR for", where);
	if (sa.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) != 0)
		return failed(fd, err, "cannot set IPV6_V6ONLY for", where);
	if (bind(fd, (struct sockaddr *)&sa, len) != 0)
		return failed(fd, err, "cannot bind", where);
	if (listen(fd, backlog) != 0)
		return failed(fd, err, "cannot listen on", where);
	return fd;
}

/* A socket that nobody serves any more is left over from a run that was killed. */
static bool remove_stale(const char *path, const struct sockaddr_un *sa, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT || err_errno(err, "cannot look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, ERR_EXISTS, "%s exists and is not a socket: remove it or choose another path",
			       path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, "cannot make a socket for %s", path);
	bool used = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno != ECONNREFUSED;
	close(fd);
	if (used)
		return err_set(err, ERR_EXISTS, "%s is in use: another process listens on it", path);
	if (unlink(path) != 0 && errno != ENOENT)
		return err_errno(err, "cannot remove the stale socket %s", path);
	return true;
}

int sock_listen_unix(const char *path, struct err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(sa.sun_path)) {
		err_set(err, ERR_INVALID, "%s: longer than the %zu bytes of a unix socket's path", path,
			sizeof(sa.sun_path) - 1);
		return -1;
	}
	memcpy(sa.sun_path, path, strlen(path) + 1);
	if (!remove_stale(path, &sa, err))
		return -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return failed(fd, err, "cannot make a socket for", path);
	if (fchmod(fd, 0600) != 0) /* before bind: the file is made with this mode, there is no moment without it */
		return failed(fd, err, "cannot set the mode of", path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0)
		return failed(fd, err, "cannot bind", path);
	if (listen(fd, 128) != 0)
		return failed(fd, err, "cannot listen on", path);
	return fd;
}

static bool no_delay(int fd)
{
	const int on = 1;

	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0;
}

void sock_tune_own_host(int fd)
{
	no_delay(fd);
}

void sock_tune(int fd)
{
	const int on = 1, idle_s = 20, interval_s = 5, probes = 3;

	_Static_assert(SOCK_DEAD_S == 20 + 3 * 5, "silence, and unanswered probes");
	if (!no_delay(fd))
		return; /* not TCP */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

void sock_reset_close(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sock.h: addresses and non-blocking sockets. */
#ifndef WEFT_LIB_SOCK_H
#define WEFT_LIB_SOCK_H

#include "lib/err.h"
#include "lib/str.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* An IP address, 4 or 16 bytes in network order. A v4-mapped IPv6 address is always kept as IPv4 (len 4). */
struct ip {
	uint8_t len; /* 4, 16, or 0 for "none" */
	uint8_t b[16];
};
struct addr {
	struct ip ip;
	uint16_t port; /* host order */
};
struct cidr {
	struct ip ip;
	uint8_t bits;
};

#define IP_TEXT_MAX   46 /* INET6_ADDRSTRLEN */
#define ADDR_TEXT_MAX 56 /* "[v6]:65535" and a NUL */

bool ip_parse(struct str s, struct ip *ret);     /* no zone, no leading zeros */
bool addr_parse(struct str s, struct addr *ret); /* "1.2.3.4:80", "[::1]:80" */
bool cidr_parse(struct str s, struct cidr *ret); /* host bits must be zero */
const char *ip_text(const struct ip *ip, char out[static IP_TEXT_MAX]);
const char *addr_text(const struct addr *a, char out[static ADDR_TEXT_MAX]);
bool ip_eq(const struct ip *a, const struct ip *b);
bool addr_eq(const struct addr *a, const struct addr *b);
/* The address as bytes of one length, to be (part of) a key: equal exactly when addr_eq. */
#define ADDR_KEY_LEN (16 + 1 + 2)
void addr_key(const struct addr *a, char out[static ADDR_KEY_LEN]);
bool cidr_has(const struct cidr *c, const struct ip *ip);
bool ip_is_loopback(const struct ip *ip);

void addr_from_sockaddr(const struct sockaddr *sa, struct addr *ret); /* unmaps ::ffff:a.b.c.d; unknown family: len 0 */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ret);
bool sock_local(int fd, struct addr *ret);
bool sock_peer(int fd, struct addr *ret);

/* A listening TCP socket, non-blocking, CLOEXEC, SO_REUSEADDR; v6 sockets are V6ONLY unless `dual`. -1 and err. */
int sock_listen_tcp(const struct addr *a, bool dual, int backlog, struct err *err);
/* A listening unix stream socket with mode 0600; a stale path is replaced, one in use is an error. -1 and err. */
int sock_listen_unix(const char *path, struct err *err);
/* What every TCP connection of ours has: no Nagle, and probes after 20 s of silence, so that a peer that vanished is found within
 * SOCK_DEAD_S. Nothing on a unix socket. TCP_USER_TIMEOUT is not set: it kills living slow readers. What a tuned
 * socket accepts has it too. tcp(7) */
#define SOCK_DEAD_S 35
void sock_tune(int fd);
/* The same for a peer on this host, which cannot vanish without the kernel's saying so: no Nagle, no probes. */
void sock_tune_own_host(int fd);
/* SO_LINGER 0 and close: the peer sees RST. */
void sock_reset_close(int fd);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* listeners.h: the proxy's sockets, made while we may, and inherited by it under names (WEFT_FDS, see abi.h). */
#ifndef WEFT_BPF_LISTENERS_H
#define WEFT_BPF_LISTENERS_H

#include "bpf/node.h"

#define HANDED_MAX  24 /* 16 outbound, inbound, status, admin, two memfds */
#define HANDED_TEXT 512

struct handed {
	struct {
		const char *name;
		int fd;
	} item[HANDED_MAX];
	size_t n;
};

void handed_add(struct handed *h, const char *name, int fd);
int handed_find(const struct handed *h, const char *name); /* -1: none of that name */
/* Value of WEFT_FDS. */
const char *handed_text(const struct handed *h, char ret[static HANDED_TEXT]);
bool handed_keep(const struct handed *h,
		 struct err *err); /* every other descriptor above 2 closes at exec, these do not */

/* Binds, and does not listen yet: a second proxy in this namespace is found out before anything is changed, and until
 * listeners_open() a captured connection is refused. */
bool listeners_bind(struct handed *h, const struct netns *ns, struct err *err);
bool listeners_open(const struct handed *h, struct err *err);
bool listeners_admin(struct handed *h, const char *path, struct err *err);
/* Bytes in memory that nobody can change any more. */
bool listeners_memfd(struct handed *h, const char *name, const void *bytes, size_t n, struct err *err);

#endif

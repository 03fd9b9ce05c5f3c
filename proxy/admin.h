/* SPDX-License-Identifier: Apache-2.0 */
/* admin.h: what operators ask a proxy: /live, /ready and /metrics on the status port; configuration, connections, pool, log level, versions, drain and upgrade
 * on the admin socket (unix, 0600, HTTP/1.1). Secrets are in none of the answers. On the main loop. */
#ifndef WEFT_PROXY_ADMIN_H
#define WEFT_PROXY_ADMIN_H

#include "proxy/config.h"
#include "proxy/crew.h"

struct admin;
struct succession;
struct link;

struct admin_cfg {
	struct loop *loop;
	struct crew *crew;
	const struct config *config;
	const struct identity *identity;
	const struct link *link;     /* NULL with -f */
	int status_fd, admin_fd;     /* listening; owned; -1: none */
	void (*on_drain)(void *ctx); /* an operator asked for it */
	void *ctx;
};
struct admin *admin_new(const struct admin_cfg *cfg);
void admin_free(struct admin **a); /* before the crew */
/* Where /upgrade and /version ask; before the first request. */
void admin_set_succession(struct admin *a, struct succession *s);
/* Another worker answers on the descriptors from now on: who keeps a connection is to ask that one. */
void admin_retire(struct admin *a);
/* Readiness is off from now on, whatever the configuration says: the proxy drains. */
void admin_not_ready(struct admin *a);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* admin.h: what operators ask a proxy: /live, /ready and /metrics on the status port; configuration, connections, pool, log level, versions, drain and upgrade
 * on the admin socket (unix, 0600, HTTP/1.1). Secrets are in none of the answers. */
#ifndef WEFT_PROXY_ADMIN_H
#define WEFT_PROXY_ADMIN_H

#include "proxy/proxy.h"

struct admin;
struct succession;

/* `on_drain`: an operator asked for it. Listens on the descriptors (owned; -1: none). */
struct admin *admin_new(struct proxy *p, int status_fd, int admin_fd, void (*on_drain)(void *ctx), void *ctx);
void admin_free(struct admin **a);
/* Where /upgrade and /version ask; before the first request. */
void admin_set_succession(struct admin *a, struct succession *s);
/* Another worker answers on the descriptors from now on: who keeps a connection is to ask that one. */
void admin_retire(struct admin *a);
/* Readiness is off from now on, whatever the configuration says: the proxy drains. */
void admin_not_ready(struct admin *a);

#endif

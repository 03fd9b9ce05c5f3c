/* SPDX-License-Identifier: Apache-2.0 */
/* api.h: weftd's API for people and machines: HTTP/2 (or 1.1) + JSON + TLS on port 4811, described by the rows of api.tbl.h.
 * Calls run on a thread of their own (api_clerk.h). Who asks shows a client certificate of the mesh's CA with the administrator's identity, or a bearer token. Bodies are
 * capped; what waits is capped in number and time (watch, wait); nothing else is kept for a client. */
#ifndef WEFT_CONTROL_API_H
#define WEFT_CONTROL_API_H

#include "control/store.h"
#include "lib/loop.h"

#include <openssl/ssl.h>

#define API_PORT       4811
#define API_BODY_MAX   (32 * 1024 * 1024)         /* an apply of many objects */
#define API_BODIES_MAX (8 * (size_t)API_BODY_MAX) /* of calls that are not answered yet, in all */
#define ADMIN_SA       "admin"                    /* spiffe://TD/ns/weft-system/sa/admin */

struct api_cfg {
	struct store *store;
	SSL_CTX *tls; /* tlsctx_server_optional() with ALPN h2, http/1.1; a reference is taken */
	/* What stands in `weft status` beside the store's own: a new reference, an object {"proxies": [...], ...}. */
	json_t *(*status)(void *ctx);
	/* How far the resources of these services ("namespace/name" as keys; NULL: everything) are: {"waiting": proxies that will
	 * still answer, "resources": [...], "behind": [...]}. NULL: no proxies are served. */
	json_t *(*progress)(void *ctx, const json_t *services);
	/* {"endpoints": [...], "resources": [...]} of these services. */
	json_t *(*reach)(void *ctx, const json_t *services);
	/* Everything that a call changed in the store has been told to those who watch it: api_settle() when it is compiled, so that who
	 * applied is answered no sooner. NULL: at once. */
	void (*told)(void *ctx);
	/* SHA-256 of the root certificate's DER, for join tokens. */
	uint8_t root_hash[32];
	void *ctx;
};
struct api;
struct api *api_new(struct loop *loop, const struct api_cfg *cfg, struct err *err);
void api_accept(struct api *a, int fd);        /* owns fd: the listener's callback */
void api_set_tls(struct api *a, SSL_CTX *tls); /* after weftd renewed its own certificate; takes a reference */
/* A call has committed, and not all of what it changed has been told yet: half of it is not to be pushed. */
bool api_telling(const struct api *a);
/* A call is run or waits for its turn; those that wait for something to happen do not count. */
bool api_busy(const struct api *a);
void api_settle(struct api *a); /* see cfg.told; nothing to do when nobody waits */
void api_free(struct api **a);  /* waits for the call that is run */

#endif

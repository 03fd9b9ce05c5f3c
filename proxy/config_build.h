/* SPDX-License-Identifier: Apache-2.0 */
/* config_build.h: how the configuration is fed: by subscribe.c (weftd), keep.c (the copy on disk) and file.c (-f). The data
 * path uses config.h and nothing of this. What is fed takes effect at the end of the turn, whole. */
#ifndef WEFT_PROXY_CONFIG_BUILD_H
#define WEFT_PROXY_CONFIG_BUILD_H

#include "proxy/config.h"
#include "proxy/resource.h"

struct config *config_new(struct loop *loop);
void config_free(struct config **c); /* watchers hear nothing more */

/* What is known before the first MeshConfig: from the join token, the certificate, the issuer's answer. A pushed MeshConfig
 * must be of this trust domain. n_cidrs 0: not known. */
void config_hint_mesh(struct config *c, const char *trust_domain, const struct cidr *cidrs, size_t n_cidrs);

/* Takes one resource. True also for one that nobody asked for (it is not held). False and err when it is not valid: the last
 * good one stays. */
bool config_apply(struct config *c, const struct resource_from *from, struct err *err);
/* A name of removed_resources: a resource's own, or "addr:IP": there is nothing of this type there. */
void config_remove(struct config *c, enum resource_type t, struct str name);
/* Makes what was fed visible now instead of at the end of the turn. */
void config_commit(struct config *c);

/* Who can be asked about addresses. Without a source nothing is waited for. Called from within config calls and timers. */
struct config_source {
	void (*follow)(void *ctx, const struct ip *ip);
	void (*unfollow)(void *ctx, const struct ip *ip);
	/* One resource by its name, because a manifest lists it. */
	void (*follow_name)(void *ctx, enum resource_type t, const char *name);
	void (*unfollow_name)(void *ctx, enum resource_type t, const char *name);
};
void config_set_source(struct config *c, const struct config_source *s, void *ctx); /* NULL: none */
/* While the source cannot be reached nothing that is held is let go for being idle. */
void config_set_linked(struct config *c, bool linked);
/* Lets go every address that was not touched for idle_ms, and what is held for those alone. Runs by itself every 15 s with 5 min. */
void config_let_go(struct config *c, uint64_t idle_ms);
/* Follows an address as if something had connected there (what the copy on disk followed). */
void config_follow(struct config *c, const struct ip *ip);

/* Addresses followed, longest unused first; those answered "nothing there" only when `all`. */
void config_each_address(const struct config *c, bool all, void (*fn)(void *ctx, const struct ip *ip), void *ctx);
void config_each_name(const struct config *c, void (*fn)(void *ctx, enum resource_type t, const char *name), void *ctx);
void config_each_resource(const struct config *c, void (*fn)(void *ctx, const struct resource *r), void *ctx);
void config_each_in_force(const struct config *c, void (*fn)(void *ctx, const struct resource *r), void *ctx);

#endif

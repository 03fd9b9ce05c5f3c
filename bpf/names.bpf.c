// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* names.bpf.c: an application sees the addresses that it would see without a mesh. cgroup/getpeername{4,6} (which also answer accept())
 * and cgroup/getsockname{4,6} at the cgroup2 root. */
#include "bpf/maps.bpf.h"

static __always_inline struct weft_sock *remembered(struct bpf_sock_addr *ctx)
{
	return ctx->sk ? bpf_sk_storage_get(&socks, ctx->sk, NULL, 0) : NULL;
}

static __always_inline bool shows_peer(const struct weft_sock *s)
{
	return s && (s->kind == WEFT_KIND_DIALLED || s->kind == WEFT_KIND_CLIENT);
}

SEC("cgroup/getpeername4")
int weft_getpeername4(struct bpf_sock_addr *ctx)
{
	struct weft_sock *s = remembered(ctx);

	if (shows_peer(s) && addr_is_v4(s->addr)) {
		ctx->user_ip4 = s->addr[3];
		ctx->user_port = s->port;
	}
	return ALLOW;
}

SEC("cgroup/getpeername6")
int weft_getpeername6(struct bpf_sock_addr *ctx)
{
	struct weft_sock *s = remembered(ctx);

	if (shows_peer(s)) {
		ctx->user_ip6[0] = s->addr[0];
		ctx->user_ip6[1] = s->addr[1];
		ctx->user_ip6[2] = s->addr[2];
		ctx->user_ip6[3] = s->addr[3];
		ctx->user_port = s->port;
	}
	return ALLOW;
}

/* A captured socket that was not bound has a loopback address; without a mesh it would have the workload's. */
static __always_inline struct weft_workload *hides_loopback(struct bpf_sock_addr *ctx, const __u32 own[4])
{
	struct weft_sock *s;

	if (!addr_is_loopback(own))
		return NULL;
	s = remembered(ctx);
	return s && s->kind == WEFT_KIND_DIALLED ? workload_row(bpf_get_netns_cookie(ctx)) : NULL;
}

SEC("cgroup/getsockname4")
int weft_getsockname4(struct bpf_sock_addr *ctx)
{
	struct weft_workload *w;
	__u32 own[4];

	addr_map4(own, ctx->user_ip4);
	w = hides_loopback(ctx, own);
	if (w && w->addr4[3])
		ctx->user_ip4 = w->addr4[3];
	return ALLOW;
}

SEC("cgroup/getsockname6")
int weft_getsockname6(struct bpf_sock_addr *ctx)
{
	__u32 own[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
	struct weft_workload *w = hides_loopback(ctx, own);
	bool v4 = addr_is_v4(own);
	__u32 *shown;

	if (!w)
		return ALLOW;
	shown = v4 ? w->addr4 : w->addr6;
	if (!shown[3])
		return ALLOW;
	ctx->user_ip6[0] = shown[0];
	ctx->user_ip6[1] = shown[1];
	ctx->user_ip6[2] = shown[2];
	ctx->user_ip6[3] = shown[3];
	return ALLOW;
}

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* sockopt.bpf.c: how the proxy talks to the capture without any privilege: it marks its own sockets by setsockopt() with a token, and
 * reads original destinations by getsockopt(). Attached to the proxy's cgroup alone: the hooks double the cost of those calls. */
#include "bpf/maps.bpf.h"

/* A length of -1 tells the kernel that the option was dealt with here. */
#define DEALT_WITH (-1)

static __always_inline bool token_right(__u64 cookie, const __u64 *given)
{
	struct weft_token *t = bpf_map_lookup_elem(&tokens, &cookie);

	return t && ((t->half[0] ^ given[0]) | (t->half[1] ^ given[1])) == 0;
}

static __always_inline bool introduce(struct weft_sock *s, const struct weft_opt_client *c)
{
	const __u32 *a = (const __u32 *)c->addr;

	if (c->family == AF_INET)
		addr_map4(s->addr, a[0]);
	else if (c->family == AF_INET6)
		addr_copy(s->addr, a);
	else
		return false;
	s->port = c->port;
	s->kind = WEFT_KIND_INTRODUCE;
	return true;
}

SEC("cgroup/setsockopt")
int weft_setsockopt(struct bpf_sockopt *ctx)
{
	struct weft_sock *s, fresh = {};
	void *value = ctx->optval, *end = ctx->optval_end;
	__u64 cookie;
	bool ok = true;

	if (ctx->level != WEFT_SOL)
		return ALLOW;
	cookie = bpf_get_netns_cookie(ctx);
	/* The kernel lends at least 16 bytes of buffer: optlen is what the caller gave. */
	if (value + sizeof(struct weft_opt_exempt) > end || ctx->optlen < (int)sizeof(struct weft_opt_exempt))
		return REFUSE;
	if (!token_right(cookie, value)) {
		struct weft_workload *w = bpf_map_lookup_elem(&workloads, &cookie);

		if (w)
			count(w, WEFT_COUNT_TOKEN_WRONG);
		return REFUSE;
	}
	s = ctx->sk ? bpf_sk_storage_get(&socks, ctx->sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (!s)
		return REFUSE;
	switch (ctx->optname) {
	case WEFT_OPT_EXEMPT:
		s->exempt = 1;
		break;
	case WEFT_OPT_CLIENT:
		ok = value + sizeof(struct weft_opt_client) <= end &&
		     ctx->optlen >= (int)sizeof(struct weft_opt_client) && introduce(s, value);
		break;
	default:
		ok = false;
	}
	if (!ok)
		return REFUSE;
	ctx->optlen = DEALT_WITH;
	return ALLOW;
}

static __always_inline int no_original(void)
{
	/* Also over what connection tracking might have answered: to it the listener itself is the original destination. */
	bpf_set_retval(-ENOENT);
	return REFUSE;
}

/* Nothing here is a secret of the workload: its own proxy asks. */
static __always_inline int tell_state(struct bpf_sockopt *ctx)
{
	struct weft_workload *w = workload_row(bpf_get_netns_cookie(ctx));
	struct weft_opt_state *state = ctx->optval;
	void *end = ctx->optval_end;

	if ((void *)(state + 1) > end)
		return ALLOW; /* the kernel's own answer: ENOPROTOOPT */
	state->deadline_ns = w ? w->deadline_ns : 0;
	state->meshed = w != NULL;
	state->listed = w && (w->flags & WEFT_LISTED);
	ctx->optlen = sizeof(*state);
	barrier(); /* one store to both fields at once is refused */
	ctx->retval = 0;
	return ALLOW;
}

SEC("cgroup/getsockopt")
int weft_getsockopt(struct bpf_sockopt *ctx)
{
	struct weft_sock *s;
	__u8 *v = ctx->optval, *end = ctx->optval_end;
	bool v4 = ctx->level == SOL_IP;

	if (ctx->level == WEFT_SOL && ctx->optname == WEFT_OPT_STATE)
		return tell_state(ctx);
	if (ctx->optname != WEFT_SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6))
		return ALLOW;
	s = ctx->sk ? bpf_sk_storage_get(&socks, ctx->sk, NULL, 0) : NULL;
	if (!s || s->kind != WEFT_KIND_ORIGINAL || v4 != addr_is_v4(s->addr))
		return no_original();
	if (v4) { /* struct sockaddr_in */
		if (v + 16 > end)
			return no_original();
		__builtin_memset(v, 0, 16);
		*(__u16 *)v = AF_INET;
		*(__u16 *)(v + 2) = s->port;
		*(__u32 *)(v + 4) = s->addr[3];
		ctx->optlen = 16;
	} else { /* struct sockaddr_in6 */
		if (v + 28 > end)
			return no_original();
		*(__u16 *)v = AF_INET6;
		*(__u16 *)(v + 2) = s->port;
		*(__u32 *)(v + 4) = 0;
		addr_copy((__u32 *)(v + 8), s->addr);
		*(__u32 *)(v + 24) = 0;
		ctx->optlen = 28;
	}
	ctx->retval = 0;
	return ALLOW;
}

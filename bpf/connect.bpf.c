// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* connect.bpf.c: outbound. An application's connect() in a meshed namespace goes to the proxy on loopback instead; what it dialled is
 * remembered on the socket. cgroup/connect4, connect6 at the cgroup2 root. Also counts UDP, which passes. */
#include "bpf/maps.bpf.h"

#define IPPROTO_MPTCP_NR 262

/* Destinations that are dialled as they are. */
static __always_inline bool excluded(const struct weft_workload *w, __u64 cookie, const __u32 addr[4], __u16 port)
{
	if (port_has(w, cookie, bpf_ntohs(port), WEFT_PORT_EXCLUDE_OUT))
		return true;
	if ((w->flags & WEFT_HAS_OUT_CIDRS) && cidr_has(cookie, WEFT_DIR_OUT, addr))
		return true;
	if (w->flags & WEFT_HAS_DIRECT) {
		struct weft_direct_key key = {.cookie = cookie, .port = port};

		addr_copy(key.addr, addr);
		return bpf_map_lookup_elem(&direct, &key) != NULL;
	}
	return false;
}

/* Outside the list that the machine's own namespace has: by its port, or by its address where addresses are listed too. */
static __always_inline bool unlisted(const struct weft_workload *w, __u64 cookie, const __u32 addr[4], __u16 port)
{
	return port_unlisted(w, cookie, bpf_ntohs(port), WEFT_PORT_LIST_OUT) ||
	       ((w->flags & WEFT_HAS_LIST_CIDRS) && !cidr_has(cookie, WEFT_DIR_LIST_OUT, addr));
}

/* A socket may be dialled again after a failure: what was remembered of the first attempt must not describe the second. */
static __always_inline bool forget(struct weft_sock *s)
{
	if (s && s->kind == WEFT_KIND_DIALLED)
		s->kind = WEFT_KIND_NONE;
	return false;
}

/* Whether this connect() must go to the proxy; then the socket knows `addr`. *ret_refuse: it must, and cannot. */
static __always_inline bool divert(struct bpf_sock_addr *ctx, const __u32 addr[4], bool *ret_refuse)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct weft_workload *w = workload_row(cookie);
	struct bpf_sock *sk = ctx->sk;
	struct weft_sock *s, dialled = {.port = ctx->user_port, .kind = WEFT_KIND_DIALLED};
	int none = 0;

	if (!w)
		return false;
	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_MPTCP_NR) {
		if (ctx->protocol == IPPROTO_UDP)
			count(w, WEFT_COUNT_UDP);
		return false;
	}
	s = sk ? bpf_sk_storage_get(&socks, sk, NULL, 0) : NULL;
	if (workload_expired(w))
		return forget(s);
	if (unlisted(w, cookie, addr, ctx->user_port)) {
		count(w, WEFT_COUNT_UNLISTED);
		return forget(s);
	}
	if (!sk) {
		*ret_refuse = true;
		return false;
	}
	if (s && s->exempt) {
		count(w, WEFT_COUNT_EXEMPT);
		return false;
	}
	if (addr_is_loopback(addr) || addr_is_unspecified(addr))
		return forget(s);
	if (excluded(w, cookie, addr, ctx->user_port)) {
		count(w, WEFT_COUNT_EXCLUDED_OUT);
		return forget(s);
	}
	addr_copy(dialled.addr, addr);
	/* On a device other than lo the diverted SYN would wait for ever. */
	if ((sk->bound_dev_if && bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, &none, sizeof(none))) ||
	    !(s = bpf_sk_storage_get(&socks, sk, &dialled, BPF_SK_STORAGE_GET_F_CREATE))) {
		count(w, WEFT_COUNT_UNDIVERTED);
		*ret_refuse = true;
		return false;
	}
	*s = dialled;
	count(w, WEFT_COUNT_CAPTURED);
	return true;
}

/* Eight listeners, since one destination allows only as many connections as there are ephemeral ports. */
static __always_inline __u32 out_port(void)
{
#ifdef WEFT_TEST_ONE_PORT
	return bpf_htons(WEFT_PORT_OUT); /* to have another program for tests of replacement */
#endif
	return bpf_htons(WEFT_PORT_OUT + bpf_get_prandom_u32() % WEFT_OUT_PORTS);
}

SEC("cgroup/connect4")
int weft_connect4(struct bpf_sock_addr *ctx)
{
	bool refuse = false;
	__u32 addr[4];

	addr_map4(addr, ctx->user_ip4);
	if (divert(ctx, addr, &refuse)) {
		ctx->user_ip4 = bpf_htonl(0x7f000001);
		ctx->user_port = out_port();
	}
	return refuse ? REFUSE : ALLOW;
}

SEC("cgroup/connect6")
int weft_connect6(struct bpf_sock_addr *ctx)
{
	__u32 addr[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
	bool refuse = false;

	if (divert(ctx, addr, &refuse)) {
		bool v4 = addr_is_v4(addr); /* ::ffff:a.b.c.d leaves as IPv4 and can only go to an IPv4 listener */

		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = v4 ? bpf_htonl(0xffff) : 0;
		ctx->user_ip6[3] = v4 ? bpf_htonl(0x7f000001) : bpf_htonl(1);
		ctx->user_port = out_port();
	}
	return refuse ? REFUSE : ALLOW;
}

static __always_inline int count_udp(struct bpf_sock_addr *ctx)
{
	struct weft_workload *w = workload_of(bpf_get_netns_cookie(ctx));

	if (w)
		count(w, WEFT_COUNT_UDP);
	return ALLOW;
}

SEC("cgroup/sendmsg4")
int weft_sendmsg4(struct bpf_sock_addr *ctx)
{
	return count_udp(ctx);
}

SEC("cgroup/sendmsg6")
int weft_sendmsg6(struct bpf_sock_addr *ctx)
{
	return count_udp(ctx);
}

char LICENSE[] SEC("license") __weak = "GPL";

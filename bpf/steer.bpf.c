// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* steer.bpf.c: inbound. Every new TCP connection from outside goes to the proxy's inbound listener, whatever port it is for (in the
 * machine's own namespace: if the port is listed). sk_lookup, one
 * instance a network namespace, with that namespace's cookie and its own socket map. No listener means refused, never plaintext. */
#include "bpf/maps.bpf.h"

#define LOOPBACK_IFINDEX 1 /* in every network namespace */

/* Of the namespace that this instance is attached to; set before loading. */
const volatile __u64 weft_netns_cookie = 0;

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} inbound SEC(".maps");

/* What a connection meets when the proxy is gone. The other answer exists to prove that the tests would notice it. */
#ifdef WEFT_TEST_SK_PASS
#define NO_PROXY SK_PASS
#else
#define NO_PROXY SK_DROP
#endif

static __always_inline void ends(struct bpf_sk_lookup *ctx, __u32 local[4], __u32 remote[4])
{
	if (ctx->family == AF_INET) {
		addr_map4(local, ctx->local_ip4);
		addr_map4(remote, ctx->remote_ip4);
		return;
	}
	local[0] = ctx->local_ip6[0];
	local[1] = ctx->local_ip6[1];
	local[2] = ctx->local_ip6[2];
	local[3] = ctx->local_ip6[3];
	remote[0] = ctx->remote_ip6[0];
	remote[1] = ctx->remote_ip6[1];
	remote[2] = ctx->remote_ip6[2];
	remote[3] = ctx->remote_ip6[3];
}

/* The proxy's leg to the application may come from the very address that it goes to (to ::1 the kernel sends no RST when nothing listens
 * on a global address). Then the note for the application tells it from a workload that calls itself, which is steered. */
static __always_inline bool is_introduced(struct bpf_sk_lookup *ctx, __u64 cookie, const __u32 local[4],
					  const __u32 remote[4])
{
	struct weft_tuple key = {.cookie = cookie, .sport = bpf_ntohs(ctx->remote_port), .dport = ctx->local_port};
	struct weft_sock *note;

	if (!addr_same(local, remote))
		return false;
	addr_copy(key.src, remote);
	addr_copy(key.dst, local);
	note = bpf_map_lookup_elem(&pending, &key);
	return note && note->kind == WEFT_KIND_CLIENT;
}

/* Between processes of this namespace. A destination on loopback must also have come in there: with route_localnet a neighbour can send to
 * 127/8 from outside. (A source on loopback is not answered to the outside, so no connection comes of it.) */
static __always_inline bool is_local(struct bpf_sk_lookup *ctx, const __u32 local[4], const __u32 remote[4])
{
	if (addr_is_loopback(local))
		return ctx->ingress_ifindex == LOOPBACK_IFINDEX;
	return addr_is_loopback(remote);
}

SEC("sk_lookup")
int weft_steer(struct bpf_sk_lookup *ctx)
{
	__u64 cookie = weft_netns_cookie;
	struct weft_workload *w;
	struct bpf_sock *listener;
	__u32 local[4], remote[4], first = 0;
	long rc;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	w = workload_of(cookie);
	if (!w)
		return SK_PASS;
	if (port_unlisted(w, cookie, ctx->local_port, WEFT_PORT_DECLARED)) {
		count(w, WEFT_COUNT_UNLISTED);
		return SK_PASS;
	}
	ends(ctx, local, remote);
	/* The proxy's own leg to the application, its outbound listeners, and what talks over loopback anyway. */
	if (is_local(ctx, local, remote) || ctx->local_port == WEFT_PORT_STATUS ||
	    is_introduced(ctx, cookie, local, remote))
		return SK_PASS;
	if (port_has(w, cookie, ctx->local_port, WEFT_PORT_EXCLUDE_IN) ||
	    ((w->flags & WEFT_HAS_IN_CIDRS) && cidr_has(cookie, WEFT_DIR_IN, remote))) {
		count(w, WEFT_COUNT_EXCLUDED_IN);
		return SK_PASS;
	}
	listener = bpf_map_lookup_elem(&inbound, &first);
	if (!listener) {
		count(w, WEFT_COUNT_DROPPED);
		return NO_PROXY;
	}
	rc = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	if (rc) {
		count(w, WEFT_COUNT_DROPPED);
		return NO_PROXY;
	}
	count(w, WEFT_COUNT_STEERED);
	return SK_PASS;
}

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* handover.bpf.c: what the connecting socket knows goes to the accepted socket of the same connection: the original destination to the
 * proxy's, the real client to the application's. sockops at the cgroup2 root: the connecting end is established first (it then sends the
 * ACK that makes the other one) and leaves a note under the full 4-tuple; the accepting end takes it away. */
#include "bpf/maps.bpf.h"

static __always_inline void ends(struct bpf_sock_ops *ops, __u32 local[4], __u32 remote[4])
{
	if (ops->family == AF_INET) {
		addr_map4(local, ops->local_ip4);
		addr_map4(remote, ops->remote_ip4);
		return;
	}
	local[0] = ops->local_ip6[0];
	local[1] = ops->local_ip6[1];
	local[2] = ops->local_ip6[2];
	local[3] = ops->local_ip6[3];
	remote[0] = ops->remote_ip6[0];
	remote[1] = ops->remote_ip6[1];
	remote[2] = ops->remote_ip6[2];
	remote[3] = ops->remote_ip6[3];
}

static __always_inline void leave_note(struct bpf_sock_ops *ops, struct weft_workload *w, const struct weft_tuple *key)
{
	struct weft_sock *s = ops->sk ? bpf_sk_storage_get(&socks, ops->sk, NULL, 0) : NULL;
	struct weft_sock note = {};

	if (!s || (s->kind != WEFT_KIND_DIALLED && s->kind != WEFT_KIND_INTRODUCE)) {
		/* A plain local connection may reuse the 4-tuple of one that was never accepted. */
		bpf_map_delete_elem(&pending, key);
		return;
	}
	addr_copy(note.addr, s->addr);
	note.port = s->port;
	note.kind = s->kind == WEFT_KIND_DIALLED ? WEFT_KIND_ORIGINAL : WEFT_KIND_CLIENT;
	if (bpf_map_update_elem(&pending, key, &note, BPF_ANY))
		count(w, WEFT_COUNT_ORIGINS_LOST);
}

static __always_inline void take_note(struct bpf_sock_ops *ops, struct weft_workload *w, const struct weft_tuple *key)
{
	struct weft_sock *found = bpf_map_lookup_elem(&pending, key);
	struct weft_sock note;

	if (!found)
		return;
	note = *found;
	bpf_map_delete_elem(&pending, key);
	if (ops->sk && bpf_sk_storage_get(&socks, ops->sk, &note, BPF_SK_STORAGE_GET_F_CREATE))
		count(w, note.kind == WEFT_KIND_ORIGINAL ? WEFT_COUNT_ORIGINS : WEFT_COUNT_CLIENTS);
	else
		count(w, WEFT_COUNT_ORIGINS_LOST);
}

SEC("sockops")
int weft_handover(struct bpf_sock_ops *ops)
{
	struct weft_workload *w;
	struct weft_tuple key = {};
	bool active = ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB;

	if (!active && ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return ALLOW;
	if (ops->family != AF_INET && ops->family != AF_INET6)
		return ALLOW;
	key.cookie = bpf_get_netns_cookie(ops);
	w = workload_of(key.cookie);
	if (!w)
		return ALLOW;
	if (active) {
		ends(ops, key.src, key.dst);
		key.sport = ops->local_port;
		key.dport = bpf_ntohl(ops->remote_port);
	} else {
		ends(ops, key.dst, key.src);
		key.sport = bpf_ntohl(ops->remote_port);
		key.dport = ops->local_port;
	}
	/* To an outbound listener, or from the proxy to the application: one end is always loopback. */
	if (!addr_is_loopback(key.src) && !addr_is_loopback(key.dst))
		return ALLOW;
	if (active)
		leave_note(ops, w, &key);
	else
		take_note(ops, w, &key);
	return ALLOW;
}

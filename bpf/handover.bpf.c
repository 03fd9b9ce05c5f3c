// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* handover.bpf.c: what the connecting socket knows goes to the accepted socket of the same connection: the original destination to the
 * proxy's, the real client to the application's. sockops at the cgroup2 root. The connecting end leaves a note under the full 4-tuple, the
 * accepting end takes it away: a captured connection when it is established (it then sends the ACK that makes the other end), the
 * proxy's leg to the application already before its SYN, for steer.bpf.c lets it pass by that note. Where nobody accepts that leg, the note
 * is taken back. */
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

/* To an outbound listener, or from the proxy to the application: nothing else can have a note. */
static __always_inline bool stays_here(const __u32 src[4], const __u32 dst[4])
{
	return addr_is_loopback(src) || addr_is_loopback(dst) || addr_same(src, dst);
}

static __always_inline void leave_note(struct weft_workload *w, const struct weft_tuple *key, const struct weft_sock *s,
				       __u8 kind)
{
	struct weft_sock note = {.port = s->port, .kind = kind};

	addr_copy(note.addr, s->addr);
	if (bpf_map_update_elem(&pending, key, &note, BPF_ANY))
		count(w, WEFT_COUNT_ORIGINS_LOST);
}

/* The 4-tuple of a connection may be that of an earlier one whose note nobody took: it must not describe this one. */
static __always_inline void connecting(struct bpf_sock_ops *ops, struct weft_workload *w, const struct weft_tuple *key)
{
	struct weft_sock *s = ops->sk ? bpf_sk_storage_get(&socks, ops->sk, NULL, 0) : NULL;

	if (s && s->kind == WEFT_KIND_INTRODUCE) {
		leave_note(w, key, s, WEFT_KIND_CLIENT);
		/* For changed(), beside what other programs of this connection have asked for. */
		bpf_sock_ops_cb_flags_set(ops, (int)ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	} else {
		bpf_map_delete_elem(&pending, key);
	}
}

/* A leg to the application was refused, timed out or was given up. At the end of one that was accepted there is no note any more; the flag stays,
 * since another program may have asked for the same. */
static __always_inline void changed(struct bpf_sock_ops *ops, const struct weft_tuple *key)
{
	if (ops->args[0] == BPF_TCP_SYN_SENT && ops->args[1] == BPF_TCP_CLOSE)
		bpf_map_delete_elem(&pending, key);
}

static __always_inline void connected(struct bpf_sock_ops *ops, struct weft_workload *w, const struct weft_tuple *key)
{
	struct weft_sock *s = ops->sk ? bpf_sk_storage_get(&socks, ops->sk, NULL, 0) : NULL;

	if (s && s->kind == WEFT_KIND_DIALLED)
		leave_note(w, key, s, WEFT_KIND_ORIGINAL);
}

static __always_inline void accepted(struct bpf_sock_ops *ops, struct weft_workload *w, const struct weft_tuple *key)
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
	struct weft_tuple key = {};
	struct weft_workload *w;
	__u32 op = ops->op;

	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_STATE_CB)
		return ALLOW;
	if (ops->family != AF_INET && ops->family != AF_INET6)
		return ALLOW;
	key.cookie = bpf_get_netns_cookie(ops);
	w = workload_row(key.cookie); /* what was diverted before a deadline arrives after it */
	if (!w)
		return ALLOW;
	if (op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		ends(ops, key.dst, key.src);
		key.sport = bpf_ntohl(ops->remote_port);
		key.dport = ops->local_port;
	} else {
		ends(ops, key.src, key.dst);
		key.sport = ops->local_port;
		key.dport = bpf_ntohl(ops->remote_port);
	}
	if (!stays_here(key.src, key.dst))
		return ALLOW;
	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		connecting(ops, w, &key);
	else if (op == BPF_SOCK_OPS_STATE_CB)
		changed(ops, &key);
	else if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		connected(ops, w, &key);
	else
		accepted(ops, w, &key);
	return ALLOW;
}

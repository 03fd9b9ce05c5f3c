/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* maps.bpf.h: the maps and the small helpers of all eBPF programs. Each program file includes it; being weak, the definitions become one
 * when the objects are linked. All maps but `inbound` and .rodata are shared by the node and pinned by name. */
#ifndef WEFT_BPF_MAPS_BPF_H
#define WEFT_BPF_MAPS_BPF_H

#include "bpf/state.h"

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define AF_INET         2
#define AF_INET6        10
#define SOL_SOCKET      1
#define SOL_IP          0
#define SOL_IPV6        41
#define SO_BINDTODEVICE 25
#define EPERM           1
#define ENOENT          2

/* What a cgroup program answers. */
#define ALLOW           1
#define REFUSE          0

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_WORKLOADS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64); /* network namespace cookie */
	__type(value, struct weft_workload);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} workloads SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_WORKLOADS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct weft_token);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} tokens SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_PORTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_port_key);
	__type(value, __u32); /* WEFT_PORT_* */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ports SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, WEFT_CIDRS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_cidr_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cidrs SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEFT_PORTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct weft_direct_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} direct SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, WEFT_PENDING_MAX);
	__type(key, struct weft_tuple);
	__type(value, struct weft_sock);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} pending SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct weft_sock);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} socks SEC(".maps") __weak;

static __always_inline void count(struct weft_workload *w, enum weft_counter what)
{
	__sync_fetch_and_add(&w->count[what], 1);
}

static __always_inline void addr_copy(__u32 to[4], const __u32 from[4])
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline void addr_map4(__u32 to[4], __u32 v4)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = bpf_htonl(0xffff);
	to[3] = v4;
}

static __always_inline bool addr_is_v4(const __u32 a[4])
{
	return a[0] == 0 && a[1] == 0 && a[2] == bpf_htonl(0xffff);
}

static __always_inline bool addr_is_loopback(const __u32 a[4])
{
	if (addr_is_v4(a))
		return (a[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return (a[0] | a[1] | a[2]) == 0 && a[3] == bpf_htonl(1);
}

static __always_inline bool addr_same(const __u32 a[4], const __u32 b[4])
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/* connect() to 0.0.0.0 or :: means this host. */
static __always_inline bool addr_is_unspecified(const __u32 a[4])
{
	return addr_is_v4(a) ? a[3] == 0 : (a[0] | a[1] | a[2] | a[3]) == 0;
}

static __always_inline bool workload_expired(const struct weft_workload *w)
{
	return w->deadline_ns && bpf_ktime_get_boot_ns() >= w->deadline_ns;
}

/* The workload of a network namespace, captured or expired: for connections that were captured before it expired. */
static __always_inline struct weft_workload *workload_row(__u64 cookie)
{
	return bpf_map_lookup_elem(&workloads, &cookie);
}

/* The same, while it is captured: for what begins now. */
static __always_inline struct weft_workload *workload_of(__u64 cookie)
{
	struct weft_workload *w = workload_row(cookie);

	return w && !workload_expired(w) ? w : NULL;
}

static __always_inline bool port_has(const struct weft_workload *w, __u64 cookie, __u16 port, __u32 bit)
{
	struct weft_port_key key = {.cookie = cookie, .port = port};
	__u32 *bits;

	if (!(w->flags & WEFT_HAS_PORTS))
		return false;
	bits = bpf_map_lookup_elem(&ports, &key);
	return bits && (*bits & bit);
}

/* Whether the list of the machine's own namespace leaves this port out. Without a list nothing is left out. */
static __always_inline bool port_unlisted(const struct weft_workload *w, __u64 cookie, __u16 port, __u32 bit)
{
	return (w->flags & WEFT_LISTED) && (port == WEFT_PORT_NEVER || !port_has(w, cookie, port, bit));
}

static __always_inline bool cidr_has(__u64 cookie, __u32 dir, const __u32 addr[4])
{
	struct weft_cidr_key key = {
	    .prefixlen = WEFT_CIDR_PREFIX_FIXED + 128,
	    .dir = dir,
	    .cookie = {(__u32)(cookie >> 32), (__u32)cookie},
	};

	addr_copy(key.addr, addr);
	return bpf_map_lookup_elem(&cidrs, &key) != NULL;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* state.h: what the eBPF programs and weft-capture share through maps: keys and values, in prose in docs/capture.md.
 * Not for the proxy, whose contract is abi.h. Fixed-size types only; every padding byte has a name, since keys are compared as bytes.
 * Every address is 16 bytes in network order, IPv4 as ::ffff:a.b.c.d: so the family "on the wire" is part of the address and a v4-mapped
 * socket on one side meets an IPv4 socket on the other. */
#ifndef WEFT_BPF_STATE_H
#define WEFT_BPF_STATE_H

#include "bpf/abi.h"

#define WEFT_WORKLOADS_MAX 4096   /* network namespaces on one node */
#define WEFT_PORTS_MAX     65536  /* port rows of all workloads */
#define WEFT_CIDRS_MAX     65536  /* CIDR exclusions of all workloads */
#define WEFT_PENDING_MAX   131072 /* connections between both ends' "established"; the longest waiting gives way */
#define WEFT_NAME_MAX      64     /* DNS label and NUL */

enum weft_counter {
#define COUNTER(name, label, text) WEFT_COUNT_##name,
#include "bpf/counter.tbl.h"
#undef COUNTER
	WEFT_COUNT_COUNT
};

/* Workloads are known by the cookie of their network namespace, which the kernel never reuses. No entry: not meshed. */
#define WEFT_HAS_OUT_CIDRS  (1u << 0) /* saves the programs a trie lookup where there is nothing to find */
#define WEFT_HAS_IN_CIDRS   (1u << 1)
#define WEFT_HAS_PORTS      (1u << 2)
#define WEFT_HAS_DIRECT     (1u << 3)
#define WEFT_HAS_LIST_CIDRS (1u << 4)
#define WEFT_LISTED         (1u << 5) /* the machine's own namespace: nothing is captured but what is listed */
#define WEFT_PORT_NEVER     22        /* there, whatever the list says: the operator's way back in */

struct weft_workload {
	__u64
	    deadline_ns; /* CLOCK_BOOTTIME; from then on nothing is captured. 0: none (undo of an unconfirmed attach to a host) */
	__u64 list;  /* a number for who it is and what it captures, to know a changed list from the confirmed one */
	__u32 flags; /* WEFT_HAS_*, WEFT_LISTED */
	__u32 netns_ino; /* for people: what `ls -i /run/netns` and `lsns` show */
	__u32
	    addr4[4]; /* the workload's own addresses; what getsockname() shows of a captured socket. All zero: none */
	__u32 addr6[4];
	char ns[WEFT_NAME_MAX];
	char name[WEFT_NAME_MAX];
	__u64 count[WEFT_COUNT_COUNT]; /* added to atomically by the programs */
};

/* ports: what is known of one port of a workload. */
#define WEFT_PORT_EXCLUDE_OUT (1u << 0)
#define WEFT_PORT_EXCLUDE_IN  (1u << 1)
#define WEFT_PORT_DECLARED \
	(1u                \
	 << 2) /* named by --ports: in the machine's own namespace the inbound list; elsewhere only told by `status` */
#define WEFT_PORT_LIST_OUT \
	(1u << 3) /* named by --capture-out-ports: the outbound list of the machine's own namespace */

struct weft_port_key {
	__u64 cookie;
	__u16 port; /* host order */
	__u16 zero[3];
};

/* cidrs: exclusions, and the prefixes of an outbound list. LPM: the bits behind prefixlen are compared from dir on. */
#define WEFT_DIR_OUT           0u
#define WEFT_DIR_IN            1u
#define WEFT_DIR_LIST_OUT      2u /* not an exclusion: destinations outside are not captured, if there is one */
#define WEFT_CIDR_PREFIX_FIXED 96 /* dir and cookie always count in full */

struct weft_cidr_key {
	__u32 prefixlen; /* WEFT_CIDR_PREFIX_FIXED + bits of addr */
	__u32 dir;
	__u32 cookie[2];
	__u32 addr[4];
};

/* direct: addresses with a port that are dialled as they are: the control plane's. */
struct weft_direct_key {
	__u64 cookie;
	__u32 addr[4];
	__u16 port; /* network order */
	__u16 zero[3];
};

/* pending: what the connecting end of a loopback connection hands to the accepting end. */
struct weft_tuple {
	__u64 cookie;
	__u32 src[4]; /* the connecting end */
	__u32 dst[4];
	__u16 sport; /* host order */
	__u16 dport;
	__u32 zero;
};

/* socks: what is remembered of one socket (SK_STORAGE: goes with the socket). */
enum weft_kind {
	WEFT_KIND_NONE,
	WEFT_KIND_DIALLED,   /* an application's captured socket: addr is what it dialled */
	WEFT_KIND_ORIGINAL,  /* the proxy's accepted end of one: SO_ORIGINAL_DST */
	WEFT_KIND_INTRODUCE, /* the proxy's socket towards the application: addr is the client to show there */
	WEFT_KIND_CLIENT,    /* the application's accepted end of one: addr is shown by accept() and getpeername() */
};

struct weft_sock {
	__u32 addr[4];
	__u16 port; /* network order */
	__u8 kind;  /* enum weft_kind */
	__u8 exempt;
};

struct weft_token {
	__u64 half[WEFT_TOKEN_LEN / 8];
};

#endif

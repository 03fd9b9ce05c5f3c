/* SPDX-License-Identifier: Apache-2.0 */
/* abi.h: the capture ABI. Contract between the eBPF programs, weft-capture and weft-proxy; docs/capture.md says it in prose.
 * Included by BPF programs and by user programs: fixed-size types only. */
#ifndef WEFT_BPF_ABI_H
#define WEFT_BPF_ABI_H

#include <linux/types.h>

#define WEFT_UID          4800
#define WEFT_PORT_INBOUND 4806
#define WEFT_PORT_STATUS  4820 /* /ready /live /metrics: never steered */
#define WEFT_PORT_OUT     4830 /* first of WEFT_OUT_PORTS outbound listeners on loopback */
#define WEFT_OUT_PORTS    8
#define WEFT_TOKEN_LEN    16

/* setsockopt(fd, WEFT_SOL, ...), answered by the cgroup/setsockopt program in the proxy's cgroup; a wrong token is EPERM. */
#define WEFT_SOL          0x5745
#define WEFT_OPT_EXEMPT   1 /* struct weft_opt_exempt: this socket's connect() is not captured */
#define WEFT_OPT_CLIENT \
	2 /* struct weft_opt_client: what accept() and getpeername() of the other end of this socket shall show */
/* getsockopt(fd, WEFT_SOL, WEFT_OPT_STATE) on any socket of the proxy, without a token: struct weft_opt_state. ENOPROTOOPT: detached. */
#define WEFT_OPT_STATE 3

struct weft_opt_exempt {
	__u8 token[WEFT_TOKEN_LEN];
};
struct weft_opt_client {
	__u8 token[WEFT_TOKEN_LEN];
	__u16 family;  /* 2 (AF_INET) or 10 (AF_INET6), as the accepting socket sees it on the wire */
	__u16 port;    /* network order */
	__u8 addr[16]; /* first 4 bytes for AF_INET; network order */
};
struct weft_opt_state {
	__u64 deadline_ns; /* CLOCK_BOOTTIME; from then on nothing is captured. 0: none */
	__u32 meshed;      /* 0: this network namespace has no entry (detached) */
	__u32
	    listed; /* the machine's own namespace: only listed ports are captured, and the capture may end while the proxy lives */
};

/* getsockopt(fd, SOL_IP, SO_ORIGINAL_DST = 80) on an accepted outbound connection gives a struct sockaddr_in, getsockopt(fd,
 * SOL_IPV6, 80) a struct sockaddr_in6. ENOENT (or ENOPROTOOPT): not a captured connection; close it. */
#define WEFT_SO_ORIGINAL_DST 80

/* What pooled inbound HTTP connections show to the application instead of a client: outside 127/8, so that "trust localhost"
 * rules never apply to the mesh. 169.254.48.6 and fd77:6566:7400::6 */
#define WEFT_POOLED_V4          \
	{                       \
		169, 254, 48, 6 \
	}
#define WEFT_POOLED_V6                                                        \
	{                                                                     \
		0xfd, 0x77, 0x65, 0x66, 0x74, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6 \
	}
/* Source of the proxy's connections to the application: 127.0.0.6; for IPv6 the destination's own address (what the kernel picks
 * when nothing is bound; ::1 works too, but gets no RST where nothing listens, so a dead application would look like a slow one).
 * WEFT_OPT_CLIENT must be set before connect(): by it the connection is let through to the application. */
#define WEFT_SOURCE_V4       \
	{                    \
		127, 0, 0, 6 \
	}

/* Handover by inheritance: environment WEFT_FDS="name:fd,name:fd,...". Names: "out" (a loopback listener, 8 or 16 times),
 * "in" (inbound listener, once dual-stack or once for each family), "status" (listener on :4820), "token" (memfd with the
 * WEFT_TOKEN_LEN bytes), "join" (memfd with the text of the join token, only when one was given), "admin" (listening unix socket,
 * mode 0600, owned by WEFT_UID). */
#define WEFT_ENV_FDS "WEFT_FDS"

#endif

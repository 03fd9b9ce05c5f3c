/* SPDX-License-Identifier: Apache-2.0 */
/* spec.h: a workload as the operator described it, checked. Knows options and addresses, no kernel. */
#ifndef WEFT_BPF_SPEC_H
#define WEFT_BPF_SPEC_H

#include "bpf/options.h"
#include "bpf/state.h"
#include "lib/sock.h"

#define SPEC_PORTS_MAX    4096 /* rows after ranges are expanded, both directions and declared ones together */
#define SPEC_CIDRS_MAX    256  /* each way, exclusions and lists together */
#define SPEC_CONTROL_MAX  16   /* addresses that the control plane's name has */
#define SPEC_INSTANCE_MAX (2 * WEFT_NAME_MAX)
#define SPEC_UNDO_MIN     5 /* seconds of --undo-after */
#define SPEC_UNDO_MAX     3600
#define SPEC_UNDO_DEFAULT 60

struct spec_port {
	uint16_t port;
	uint32_t bits; /* WEFT_PORT_* */
};
struct spec_cidr {
	struct cidr cidr;
	uint32_t dir; /* WEFT_DIR_* */
};

struct spec {
	char ns[WEFT_NAME_MAX], name[WEFT_NAME_MAX];
	char instance[SPEC_INSTANCE_MAX]; /* "<ns>-<name>": folder names */
	size_t n_ports, n_cidrs, n_control;
	uint32_t
	    undo_s; /* seconds until an unconfirmed attach to the machine's own namespace undoes itself; 0: not said */
	struct spec_port ports[SPEC_PORTS_MAX];
	struct spec_cidr cidrs[2 * SPEC_CIDRS_MAX];
	struct addr control[SPEC_CONTROL_MAX];
};

/* Only who it is: for detach. */
bool spec_identify(const struct options *o, struct spec *ret, struct err *err);
/* All of it. Resolves the control plane's name (may block on the resolver). */
bool spec_read(const struct options *o, struct spec *ret, struct err *err);

#endif

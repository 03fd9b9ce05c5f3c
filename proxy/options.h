/* SPDX-License-Identifier: Apache-2.0 */
/* options.h: what the proxy was told at its start, checked: from arguments and WEFT_* (the program parses them) or, for
 * tests, by hand. Text is borrowed and lives as long as the process. */
#ifndef WEFT_PROXY_OPTIONS_H
#define WEFT_PROXY_OPTIONS_H

#include "lib/event.h"
#include "proxy/snapshot.h"

#define OPTIONS_LABELS_MAX  64
#define OPTIONS_PORTS_MAX   256
#define OPTIONS_CONTROL_MAX 4
#define OPTIONS_THREADS_MAX 64

struct proxy_label {
	const char *key, *value;
};

struct proxy_options {
	const char *instance; /* workload name, unique in its namespace; NULL only with `file` */
	const char *ns;       /* namespace */
	struct proxy_label labels[OPTIONS_LABELS_MAX];
	size_t n_labels;
	struct inbound_port ports[OPTIONS_PORTS_MAX]; /* that the application listens on; none: outbound only */
	size_t n_ports;
	const char *zone; /* "" when unknown */
	/* weftd, "10.0.0.1:4810" or "[fd00::1]:4810", one a family; the first carries the configuration, each further one only
	 * registers this workload's address of its family. None: what the join token says. */
	const char *control[OPTIONS_CONTROL_MAX];
	size_t n_control;
	const char
	    *token; /* join token text, NULL: none (then a rejoin secret in state_dir or a handed-over credential) */
	const char *state_dir; /* rejoin secret and last good configuration; NULL: nothing is kept */
	const char *run_dir;   /* admin socket; NULL: none */
	const char *file;      /* -f: everything from this file, no control plane; NULL: none */
	const char *balancer;  /* algorithm, a row of balance/balancers.tbl.h; "": the default */
	uint64_t
	    hedge_after_ms; /* silence of an endpoint before a safe request is sent to another one as well; 0: never */
	uint64_t connection_age_ms; /* upstream connections are replaced after that, +- 10 %; 0: the default */
	uint64_t idle_upstream_ms,
	    idle_downstream_ms;    /* connections without a request are closed then; 0: the default */
	uint64_t stream_idle_ms;   /* an exchange without progress; 0: the default */
	uint64_t queue_timeout_ms; /* a request waits for a connection with room; 0: the default */
	uint64_t head_timeout_ms;  /* first byte to complete head; 0: the default */
	size_t memory_max;         /* bytes; SIZE_MAX: no limit; 0: what the cgroup says */
	unsigned threads;          /* worker threads; 0: as many as there are processors for it (cpus.h) */
	enum event_level log_level;
};

#endif

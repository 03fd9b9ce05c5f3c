/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h: weftd as it runs: store, registry, issue, push and API on one loop, until a signal ends it. */
#ifndef WEFT_CONTROL_DAEMON_H
#define WEFT_CONTROL_DAEMON_H

#include "lib/err.h"
#include "lib/sock.h"

#define DAEMON_LISTEN_MAX 4
#define DAEMON_NAMES_MAX  16

/* Filled by main_weftd.c from the rows of weftd.tbl.h; every member is set. */
struct daemon_options {
	const char *store;                                   /* path of the store */
	struct addr listen[DAEMON_LISTEN_MAX];               /* push and identity, 4810 */
	struct addr listen_api[DAEMON_LISTEN_MAX];           /* API, 4811 */
	struct addr listen_admin[DAEMON_LISTEN_MAX];         /* /ready, /live, /metrics, 4814 */
	size_t listen_len, listen_api_len, listen_admin_len; /* [::] means both families */
	const char *names[DAEMON_NAMES_MAX];                 /* DNS names and addresses in weftd's own certificate */
	size_t names_len;
	uint64_t certificate_s; /* lifetime of workloads' certificates, at most 24 h */
	uint64_t renew_grace_s; /* a certificate that expired so long ago can still renew */
	uint64_t lease_s;       /* of a registration; renewed three times in it */
};

/* Runs until SIGTERM or SIGINT; false and err when it cannot start or must end. Logs with event(). */
bool daemon_run(const struct daemon_options *o, struct err *err);

#endif

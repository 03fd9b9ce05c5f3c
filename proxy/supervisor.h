/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor.h: the first process of weft-proxy (PID 1 in a container). Owns the listening sockets and the last credential, so that a
 * crash or an upgrade of the worker refuses no connection, leaks no plaintext and needs no new credential. Parses no byte of a peer's, opens
 * no socket, links nothing of the data path's state. */
#ifndef WEFT_PROXY_SUPERVISOR_H
#define WEFT_PROXY_SUPERVISOR_H

#include "proxy/handover.h"

/* Exit status of a worker that cannot start at all (bad options, bad file): it is not started again. */
#define WORKER_EXIT_CONFIG 78

struct supervisor_cfg {
	const struct handover *handover;
	char **argv;        /* of this process; workers get the same and more */
	uint64_t ready_ms;  /* how long a new worker may take to be ready to serve */
	uint64_t former_ms; /* how long one that was replaced may go on with what it has open */
};

/* Starts workers until SIGTERM or SIGINT has been passed on and all of them have ended. SIGHUP and SIGUSR2 (or a worker that was
 * asked) replace the worker by one of the file that is on the disk now. Returns the exit status. */
int supervisor_run(const struct supervisor_cfg *cfg);

#endif

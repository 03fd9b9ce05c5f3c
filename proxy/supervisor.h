/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor.h: the first process of weft-proxy (PID 1 in a container). Owns the listening sockets and the last credential, so that a
 * crash of the worker refuses no connection, leaks no plaintext and needs no new credential. Parses no byte of a peer's, opens
 * no socket, links nothing of the data path's state. */
#ifndef WEFT_PROXY_SUPERVISOR_H
#define WEFT_PROXY_SUPERVISOR_H

#include "proxy/handover.h"

/* Exit status of a worker that cannot start at all (bad options, bad file): it is not started again. */
#define WORKER_EXIT_CONFIG 78

/* Starts workers of the same program until SIGTERM or SIGINT has been passed on and the worker has ended. Returns the exit status. */
int supervisor_run(const struct handover *h, char **argv);

#endif

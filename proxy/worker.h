/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h: the process that carries traffic: a main thread with listeners, link and pages, and the threads that serve. */
#ifndef WEFT_PROXY_WORKER_H
#define WEFT_PROXY_WORKER_H

#include "proxy/args.h"
#include "proxy/handover.h"

/* Serves until SIGTERM and the drain are over. The exit status (WORKER_EXIT_CONFIG: it cannot start like this). */
int worker_run(const struct args *a, const struct handover *h);

#endif

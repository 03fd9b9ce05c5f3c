/* SPDX-License-Identifier: Apache-2.0 */
/* shed.h: memory of the worker: measured on a timer, held beneath the limit by giving things up in order, and given back to the kernel when a
 * load is over (docs/memory.md). The level itself, which stations ask, is lib/pressure.h. */
#ifndef WEFT_PROXY_SHED_H
#define WEFT_PROXY_SHED_H

#include "proxy/crew.h"

struct shed;

/* memory_max: bytes; SIZE_MAX: no limit; 0: the cgroup's. Sets the limit and begins to measure on the main loop; what is given up each thread gives up itself. One a process. False: the kernel does
 * not say what the process uses. Before the system call filter and with the crew made. */
struct shed *shed_new(struct loop *loop, struct crew *crew, size_t memory_max, struct err *err);
/* Nothing is measured and given up any more; NULL is none. While the threads still run: what they do for it now touches *s. */
void shed_stop(struct shed *s);
/* After crew_free(), where a crew was made. */
void shed_free(struct shed **s);
/* The gauges of memory, as of now. */
void shed_gauges(struct stats *s);

#endif

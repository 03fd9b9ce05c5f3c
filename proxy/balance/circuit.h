/* SPDX-License-Identifier: Apache-2.0 */
/* circuit.h: what one service may take of this process: connections, requests that wait for one, active requests, and retries. Past a
 * limit the answer is `overflow` at once: a service that has become slow does not take the memory of the others.
 *
 * Kept by name, so that it outlives snapshots; freed with its last reference. The limits are the process's: with several worker
 * threads the four counters become atomics that the threads share, and nothing else here changes. */
#ifndef WEFT_PROXY_BALANCE_CIRCUIT_H
#define WEFT_PROXY_BALANCE_CIRCUIT_H

#include "lib/map.h"

#define CIRCUIT_CONNS_MAX   10000
#define CIRCUIT_PENDING_MAX 1024
#define CIRCUIT_ACTIVE_MAX  10000

#define RETRY_SHARE         0.2  /* of the requests (GEP-3388), */
#define RETRY_PER_SECOND    10.0 /* but at least so many; */
#define RETRY_SAVED_S \
	10.0 /* what was not used is kept for so long, so that the end of an endpoint is within the budget */

struct circuit {
	struct map_node node;
	struct map *table;
	uint32_t refs;
	uint32_t conns, pending, active;
	double retries; /* tokens of the budget, as of filled_ms */
	uint64_t filled_ms;
	char name[];
};

/* The circuit of this service ("" for what is no service), made when there is none; one reference. */
struct circuit *circuit_get(struct map *table, const char *service, uint64_t now_ms);
struct circuit *circuit_ref(struct circuit *c); /* NULL in, NULL out */
void circuit_unref(struct circuit **c);

/* A request begins, not for the second time: it earns a share of a retry. */
void circuit_request(struct circuit *c);
/* Takes one retry from the budget; false: it is spent. */
bool circuit_retry(struct circuit *c, uint64_t now_ms) MUST_USE;

#endif

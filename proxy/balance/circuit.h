/* SPDX-License-Identifier: Apache-2.0 */
/* circuit.h: what one service may take of this process: connections, requests that wait for one, active requests, and retries. Past a
 * limit the answer is `overflow` at once: a service that has become slow does not take the memory of the others.
 *
 * Kept by name, so that it outlives snapshots; freed with its last reference. The limits are the process's: all threads share the
 * circuits and count in atomics, and no two of them can both take what is left once. Only making and freeing one takes a lock. */
#ifndef WEFT_PROXY_BALANCE_CIRCUIT_H
#define WEFT_PROXY_BALANCE_CIRCUIT_H

#include "lib/map.h"

#include <jansson.h>

#define CIRCUIT_CONNS_MAX   10000
#define CIRCUIT_PENDING_MAX 1024
#define CIRCUIT_ACTIVE_MAX  10000

#define RETRY_SHARE         0.2  /* of the requests (GEP-3388), */
#define RETRY_PER_SECOND    10.0 /* but at least so many; */
#define RETRY_SAVED_S \
	10.0 /* what was not used is kept for so long, so that the end of an endpoint is within the budget */

struct circuits; /* of a process, by name */

struct circuits *circuits_new(void);
void circuits_free(struct circuits **t); /* all references must have been given back */
size_t circuits_len(struct circuits *t);
json_t *circuits_dump(struct circuits *t); /* for the admin socket */

struct circuit {
	struct map_node node;
	struct circuits *table;
	/* Atomic from here on. */
	uint32_t refs;
	uint32_t conns, pending, active;
	int64_t retries_milli; /* tokens of the budget, in thousandths, as of filled_ms */
	uint64_t filled_ms;
	char name[];
};

/* The circuit of this service ("" for what is no service), made when there is none; one reference. */
struct circuit *circuit_get(struct circuits *t, const char *service, uint64_t now_ms);
struct circuit *circuit_ref(struct circuit *c); /* NULL in, NULL out */
void circuit_unref(struct circuit **c);

/* Takes one of `count` (a member of the circuit) unless `max` are taken. circuit_give() gives it back. */
bool circuit_take(uint32_t *count, uint32_t max) MUST_USE;
void circuit_give(uint32_t *count);
uint32_t circuit_count(const uint32_t *count);

/* A request begins, not for the second time: it earns a share of a retry. */
void circuit_request(struct circuit *c);
/* Takes one retry from the budget; false: it is spent. */
bool circuit_retry(struct circuit *c, uint64_t now_ms) MUST_USE;

#endif

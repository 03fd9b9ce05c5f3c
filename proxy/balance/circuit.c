/* SPDX-License-Identifier: Apache-2.0 */
/* circuit.c: counters by service, and the token bucket of retries. */
#include "proxy/balance/circuit.h"

#include "lib/mem.h"

#include <string.h>

struct circuit *circuit_get(struct map *table, const char *service, uint64_t now_ms)
{
	struct map_node *n = map_get(table, str_of(service));
	if (n != NULL)
		return circuit_ref(CONTAINER_OF(n, struct circuit, node));
	size_t len = strlen(service);
	struct circuit *c = mem_zalloc(sizeof(*c) + len + 1);
	memcpy(c->name, service, len);
	c->table = table;
	c->refs = 1;
	c->retries = RETRY_PER_SECOND * RETRY_SAVED_S;
	c->filled_ms = now_ms;
	map_put(table, &c->node, str_make(c->name, len));
	return c;
}

struct circuit *circuit_ref(struct circuit *c)
{
	if (c != NULL)
		c->refs++;
	return c;
}

void circuit_unref(struct circuit **cp)
{
	struct circuit *c = *cp;
	if (c == NULL)
		return;
	*cp = NULL;
	MUST(c->refs > 0);
	if (--c->refs > 0)
		return;
	MUST(c->conns == 0 && c->pending == 0 && c->active == 0);
	map_del(c->table, &c->node);
	mem_free(c);
}

/* Many active requests may all fail at once: as large as their share the bucket is at least. */
static double bucket(const struct circuit *c)
{
	return MAX(RETRY_PER_SECOND * RETRY_SAVED_S, RETRY_SHARE * (double)c->active);
}

void circuit_request(struct circuit *c)
{
	c->retries = MIN(c->retries + RETRY_SHARE, bucket(c));
}

bool circuit_retry(struct circuit *c, uint64_t now_ms)
{
	uint64_t dt = now_ms > c->filled_ms ? now_ms - c->filled_ms : 0;
	c->filled_ms = now_ms;
	c->retries = MIN(c->retries + (double)dt / 1000 * RETRY_PER_SECOND, bucket(c));
	if (c->retries < 1)
		return false;
	c->retries -= 1;
	return true;
}

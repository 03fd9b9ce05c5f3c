/* SPDX-License-Identifier: Apache-2.0 */
/* repute.h: what all threads together have seen of an endpoint: failures in a row, whether it is out of use, when it last answered, and that it hangs. One
 * for each address, port and identity that some thread uses, counted; freed with its last reference.
 *
 * Read with a few loads for each choice, and written when something changes: a failure, a good answer after one, an ejection, and of what goes well
 * the time alone, every REPUTE_HEARD_US. So threads that are answered do not pull a cache line from each other. Ejecting and returning
 * are decided under the table's lock, so that "at most half of a set" holds for the process; nothing else that a request does takes it. */
#ifndef WEFT_PROXY_BALANCE_REPUTE_H
#define WEFT_PROXY_BALANCE_REPUTE_H

#include "lib/map.h"
#include "lib/sock.h"

#define REPUTE_HEARD_US 50000 /* an answer is told to the other threads, if none was for so long */
#define REPUTE_HANGS_US \
	600000 /* what was said of a hanging request is believed for so long: its thread says it again every BALANCE_LOOK_MS */
#define REPUTE_DECAY_US 10e6 /* time constant of what is known of times */

struct reputes; /* of a process */

struct repute {
	struct map_node node;
	struct reputes *table;
	struct addr addr;
	/* Atomic from here on; what is marked with a star changes under the lock only. */
	uint32_t refs;
	uint32_t failures;       /* consecutive, whichever threads saw them */
	uint32_t failed_at;      /* repute_order() at the last failure, or the last choice for want of a better one */
	uint32_t ejections;      /* *in a row: the next one is longer */
	bool ejected;            /* * */
	const void *by;          /* *who has ejected it, and sees to its return */
	uint64_t until_ms;       /* *of the last ejection */
	uint64_t last_choice_ms; /* until then it is chosen when there is no other; 0: not so */
	uint64_t heard_us;       /* an answer began, REPUTE_HEARD_US ago or less before the last one; 0: none yet */
	uint64_t answer_us;      /* the slowest answer of late, as of heard_us */
	uint64_t hangs_us;       /* a request that began then was not answered, nor was another one since, as of: */
	uint64_t hangs_seen_us;
	char key[]; /* address and port, then the identity and a NUL */
};

struct reputes *reputes_new(void);
void reputes_free(struct reputes **t); /* all references must have been given back */
size_t reputes_len(struct reputes *t);
void reputes_lock(struct reputes *t);
void reputes_unlock(struct reputes *t);
/* Changes whenever one is ejected or comes back. */
unsigned reputes_epoch(const struct reputes *t);
uint32_t reputes_order(struct reputes *t); /* the next number of the order of failures */

/* That of the endpoint with this key (ADDR_KEY_LEN bytes of `addr`, the identity), made when there is none; one reference. */
struct repute *repute_get(struct reputes *t, struct str key, const struct addr *addr);
/* One that nobody else can find: for who shares an entry because the table is full. */
struct repute *repute_new(struct reputes *t, struct str key);
void repute_unref(struct repute **r);

#define REPUTE_READ(r, field)     __atomic_load_n(&(r)->field, __ATOMIC_RELAXED)
#define REPUTE_WRITE(r, field, v) __atomic_store_n(&(r)->field, (v), __ATOMIC_RELAXED)

uint32_t repute_failed(struct repute *r); /* failures in a row, this one counted */
void repute_good(struct repute *r);       /* the row is over */
/* An answer took so long. */
void repute_heard(struct repute *r, uint64_t now_us, double took_us);
double repute_slowest(const struct repute *r, uint64_t now_us); /* answer of late, in microseconds; 0: not known */
/* A request that began then hangs: nothing was answered since, as far as the caller knows. */
void repute_hangs(struct repute *r, uint64_t now_us, uint64_t began_us);
uint64_t repute_hung(const struct repute *r,
		     uint64_t now_us); /* microseconds that some request has hung; 0: none does */

/* With the lock held. */
void repute_eject(struct repute *r, const void *by, uint64_t until_ms);
void repute_return(struct repute *r);

/* e^-(dt / REPUTE_DECAY_US), to 2 % where it matters; less than a microsecond is forgotten. */
double repute_decayed(double us, uint64_t dt_us);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* retry.h: whether a request may go again, and when. Knows what happened and what was asked; the request spine keeps the count, the
 * budget is the service's (balance/circuit.h). */
#ifndef WEFT_PROXY_RETRY_H
#define WEFT_PROXY_RETRY_H

#include "lib/http/message.h"
#include "lib/reason.h"

#define RETRY_ATTEMPTS_MAX 2
#define RETRY_SPARED_MAX   1  /* attempts that are not counted among them: lost with a kept connection */
#define RETRY_BACKOFF_MS   25 /* doubling with each attempt, */
#define RETRY_BACKOFF_MAX  250

/* RFC 9110 9.2.2, and only methods of the standard: what a new one does is not known. */
bool retry_idempotent(struct str method);

struct lost_attempt {
	enum reason why;
	bool unprocessed; /* the application provably got no byte of it */
	bool answered;    /* bytes of the final answer have come */
	bool kept;        /* with a connection that had served others: its end says nothing of the endpoint */
	uint64_t conn;    /* the number of the connection that it was lost with; 0: it was lost alone */
};
/* Whether the same request could fare better: for any method while it never reached an application, for an idempotent one also when it
 * was lost before the answer began. */
bool retry_useful(const struct lost_attempt *lost, struct str method);
/* Full jitter: anything up to the step of this attempt (the first has number 1). `chance` is uniform in 0 .. UINT32_MAX. */
uint64_t retry_backoff_ms(unsigned attempts, uint32_t chance);

#endif

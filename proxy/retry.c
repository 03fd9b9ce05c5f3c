/* SPDX-License-Identifier: Apache-2.0 */
/* retry.c: the rules of docs/hop.md, "Unprocessed". */
#include "proxy/retry.h"

bool retry_idempotent(struct str method)
{
	static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (str_is(method, methods[i]))
			return true;
	return false;
}

/* Another endpoint, or this one a moment later, may answer otherwise; what policy said it would say again. */
static bool may_pass(enum reason why)
{
	uint16_t status = reason_row(why)->http_status;
	return status == 502 || status == 503;
}

bool retry_useful(const struct lost_attempt *lost, struct str method)
{
	if (lost->answered || !may_pass(lost->why))
		return false;
	/* A malformed answer was an answer: the application has done its part. */
	return lost->unprocessed || (lost->why != REASON_UPSTREAM_PROTOCOL && retry_idempotent(method));
}

uint64_t retry_backoff_ms(unsigned attempts, uint32_t chance)
{
	MUST(attempts > 0);
	uint64_t step = RETRY_BACKOFF_MS;
	for (unsigned i = 1; i < attempts && step < RETRY_BACKOFF_MAX; i++)
		step *= 2;
	step = MIN(step, (uint64_t)RETRY_BACKOFF_MAX);
	return (uint64_t)chance * (step + 1) >> 32;
}

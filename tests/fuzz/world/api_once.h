/* SPDX-License-Identifier: Apache-2.0 */
/* api_once.h: a call of weftd's API with both its steps on one thread, and its answer as JSON again. */
#ifndef WEFT_TESTS_FUZZ_WORLD_API_ONCE_H
#define WEFT_TESTS_FUZZ_WORLD_API_ONCE_H

#include "control/api_call.h"
#include "lib/mem.h"

#include <jansson.h>
#include <stdlib.h>

/* The status; *ret is a new reference. API_LATER: *ret is NULL and *ret_seconds how long it may be put off. */
static inline unsigned api_once(const struct api_cfg *cfg, struct str method, struct str path, struct str body,
				bool may_wait, json_t **ret, unsigned *ret_seconds)
{
	struct api_request rq = {.method = method,
				 .path = path,
				 .body = mem_dup(body.p ? body.p : "", body.len),
				 .body_len = body.len,
				 .who = "tester"};
	struct call *c = call_new(&rq, NULL);
	char *text = NULL;
	size_t len = 0;

	call_run(c, cfg, cfg->store);
	unsigned status = call_finish(c, cfg, may_wait, &text, &len);
	*ret_seconds = call_seconds(c);
	call_free(&c);
	*ret = text ? json_loadb(text, len, 0, NULL) : NULL;
	MUST((status == API_LATER) == (*ret == NULL));
	free(text);
	return status;
}

#endif

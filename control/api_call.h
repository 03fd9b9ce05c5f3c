/* SPDX-License-Identifier: Apache-2.0 */
/* api_call.h: the calls of the API without their transport: method, path and body in, status and JSON out. Who asks has
 * been checked by api.c. */
#ifndef WEFT_CONTROL_API_CALL_H
#define WEFT_CONTROL_API_CALL_H

#include "control/api.h"
#include "lib/str.h"

#define API_ARGS_MAX 3

struct api_request {
	struct str method, path; /* path with its query */
	struct str body;
	const char *who; /* identity, for the history */
	bool may_wait;   /* may be answered with API_LATER */
};
#define API_LATER 0 /* no status: there is nothing to say yet */
/* Returns the HTTP status; *ret is a new reference, an error's too. API_LATER: call again when something may have changed, at most
 * *ret_seconds long, and then without may_wait; *ret is NULL. */
unsigned api_call(const struct api_cfg *cfg, const struct api_request *rq, json_t **ret, unsigned *ret_seconds);
/* {"error": {"code", "text"}} and its HTTP status. */
unsigned api_error(const struct err *err, json_t **ret);

#endif

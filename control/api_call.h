/* SPDX-License-Identifier: Apache-2.0 */
/* api_call.h: the calls of the API without their transport: method, path and body in, status and JSON out. Who asks has
 * been checked by api.c.
 *
 * A call goes in two steps. call_run() reads the body and does all that wants the store: on any thread, for as long as it takes
 * (api_clerk.h). call_finish() adds what only the loop's thread knows, how far the proxies are, and is short. */
#ifndef WEFT_CONTROL_API_CALL_H
#define WEFT_CONTROL_API_CALL_H

#include "control/api.h"
#include "lib/str.h"

#define API_ARGS_MAX 3

struct api_request {
	struct str method, path; /* path with its query */
	char *body;              /* NULL: none */
	size_t body_len;
	const char *who; /* identity, for the history */
};

struct call;
/* Copies method, path and who, takes over the body (mem_free()d with the call). owner is for call_owner(). */
struct call *call_new(const struct api_request *rq, void *owner);
void *call_owner(const struct call *c);
void call_free(struct call **c);

/* store: the connection of the calling thread. After API_LATER it may be run again. */
void call_run(struct call *c, const struct api_cfg *cfg, struct store *store);

#define API_LATER 0 /* no status: there is nothing to say yet */
/* The HTTP status, after call_run(), on the loop's thread. API_LATER: again when something may have changed, call_run() first when
 * call_wants_store(); at most call_seconds() long, and then with may_wait false. Else *ret is the answer's text (also an
 * error's), of *ret_len bytes, in memory of malloc(), the caller's to wipe and free. */
unsigned call_finish(struct call *c, const struct api_cfg *cfg, bool may_wait, char **ret, size_t *ret_len);
bool call_wants_store(const struct call *c);
unsigned call_seconds(const struct call *c);

/* {"error": {"code", "text"}} as text, as from call_finish(), and its HTTP status. */
unsigned api_error(const struct err *err, char **ret, size_t *ret_len);

#endif

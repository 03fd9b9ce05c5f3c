/* SPDX-License-Identifier: Apache-2.0 */
/* api_impl.h: what a call of the API has in hand. Private to api_*.c. */
#ifndef WEFT_CONTROL_API_IMPL_H
#define WEFT_CONTROL_API_IMPL_H

#include "control/api_call.h"

#define API_OBJECTS_MAX 10000 /* of one batch */
#define API_SECONDS_MAX 30    /* that a call may wait */

enum api_query {
	API_Q_NAMESPACE = 1,
	API_Q_KIND = 2,
	API_Q_NAME = 4,
	API_Q_REVISION = 8,
	API_Q_SECONDS = 16,
	API_Q_BEFORE = 32,
	API_Q_LIMIT = 64
};

struct call {
	char *method, *path, *who, *request; /* its own; request: the body's bytes, NULL: none */
	size_t request_len;
	void *owner;
	/* while it runs */
	const struct api_cfg *cfg;
	struct store *store;
	char args[API_ARGS_MAX][STORE_NAME_MAX];
	/* the query; texts empty and numbers 0 where it does not say */
	char ns[STORE_NS_MAX], kind[64], name[STORE_NAME_MAX];
	int64_t revision, seconds, before, limit;
	json_t *body; /* POST: an object; else NULL */
	json_t *answer;
	json_t *services; /* api_wait(), api_describe(): what the second step asks the loop's thread for; NULL: all */
	/* What there is to do on the loop's thread, NULL: nothing. As the first step: false and err, or an answer, or later. */
	bool (*finish)(struct call *c);
	bool later;        /* nothing to say yet: ask again, at most `seconds` */
	json_int_t object; /* the one that an error is about, -1: none */
	struct err *err;
	/* what came of it */
	struct err error;
	unsigned status; /* 0: not answered yet */
	char *text;      /* of the answer, once it is whole */
	size_t text_len;
};

/* There is nothing to say yet: the answer is put off while the call may wait. */
void api_later(struct call *c);

/* api_object.c */
bool api_apply(struct call *c);
bool api_remove_many(struct call *c);
bool api_remove_one(struct call *c);
bool api_list(struct call *c);
bool api_get(struct call *c);
/* Applies the batch as who asks and answers with what became of each. bodies: with each changed object before and after. */
bool api_batch(struct call *c, struct store_item *items, size_t n, const char *what, bool dry_run, bool bodies);
/* api_status.c */
bool api_version(struct call *c);
bool api_status(struct call *c);
/* api_workload.c */
bool api_workloads(struct call *c);
bool api_workload_remove(struct call *c);
/* api_token.c */
bool api_tokens(struct call *c);
bool api_token_create(struct call *c);
bool api_token_remove(struct call *c);
bool api_bearer_create(struct call *c);
/* api_history.c */
bool api_revisions(struct call *c);
bool api_revision(struct call *c);
bool api_rollback(struct call *c);
/* api_watch.c */
bool api_watch(struct call *c);
bool api_wait(struct call *c);
/* api_describe.c */
bool api_describe(struct call *c);

#endif

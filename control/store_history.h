/* SPDX-License-Identifier: Apache-2.0 */
/* store_history.h: revisions, read: who changed what and when, and what a rollback would put back. store_apply() writes them;
 * the STORE_REVISION_MAX newest are kept. */
#ifndef WEFT_CONTROL_STORE_HISTORY_H
#define WEFT_CONTROL_STORE_HISTORY_H

#include "control/store.h"

struct store_revision {
	uint64_t id;
	int64_t at_ms; /* CLOCK_REALTIME */
	const char *who, *what;
	uint64_t objects; /* that it changed */
};
/* One object that a revision changed. before NULL: created; after NULL: deleted. Borrowed during the call. */
struct store_past {
	uint64_t revision;
	const char *kind, *ns, *name;
	json_t *before, *after;
};
/* What is asked for; NULL: any. */
struct store_past_filter {
	const char *kind, *ns, *name;
};

/* Newest first, older than `below` (0: from the newest on), at most `limit`. each returns false to stop. */
bool store_revision_each(struct store *s, const struct store_past_filter *f, uint64_t below, uint64_t limit,
			 bool (*each)(void *ctx, const struct store_revision *r), void *ctx, struct err *err);
/* ERR_NOT_FOUND: never there, or no longer kept. Strings of *ret live until each() returns, which is called once. */
bool store_revision_get(struct store *s, uint64_t id, bool (*each)(void *ctx, const struct store_revision *r),
			void *ctx, struct err *err);
/* What one revision changed, by kind, namespace and name. */
bool store_past_of(struct store *s, uint64_t revision, bool (*each)(void *ctx, const struct store_past *p), void *ctx,
		   struct err *err);
/* For each object that changed after `revision`: `before` is how it was then (NULL: it was not there), `after` how it is now.
 * ERR_NOT_FOUND when that far back is no longer kept, or has not been yet. */
bool store_past_since(struct store *s, uint64_t revision, const struct store_past_filter *f,
		      bool (*each)(void *ctx, const struct store_past *p), void *ctx, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* issue.h: who gets which certificate. One IssueRequest comes in, a certificate for the identity that its credential stands for
 * goes out, or a named refusal. The credential is exactly one of: a join token, a rejoin secret, the connection's client
 * certificate. Names in the CSR do not matter.
 *
 * Rejoin secrets: each use makes a new one. The one presented stays valid until the new one has been presented once, for an
 * answer may be lost on its way and the workload would be locked out with a secret that we had just made worthless. A stolen
 * old secret is worth nothing as soon as its owner used the next one. A join token has no such second chance: a lost answer to a
 * first join needs a new token, else "one use per instance" could not be told from a thief's second use. */
#ifndef WEFT_CONTROL_ISSUE_H
#define WEFT_CONTROL_ISSUE_H

#include "lib/err.h"
#include "lib/grpc.h"
#include "lib/sock.h"

#define ISSUE_REQUEST_MAX  (16u << 10) /* bytes of an IssueRequest: a CSR and a token have 4 KiB each */
#define ISSUE_LIFETIME_MAX 86400       /* seconds */

struct ca;
struct issue;
struct list;
struct spiffe;
struct store;
struct write_queue;

struct issue_cfg {
	struct store *store;        /* borrowed, as are the CA and the queue */
	struct write_queue *writes; /* calls wait in it while others write; NULL: they do not */
	struct ca *ca;
	uint64_t lifetime_s;      /* of certificates, 1 to ISSUE_LIFETIME_MAX */
	uint64_t (*now_ms)(void); /* for the limit of refusals; NULL: CLOCK_BOOTTIME */
};
struct issue *issue_new(const struct issue_cfg *cfg, struct err *err);
void issue_free(struct issue **is);

/* Who asks. */
struct issue_from {
	struct ip ip;
	const struct spiffe *id; /* of the connection's client certificate; NULL: it showed none */
	bool lapsed;             /* that certificate expired within the grace of tlsctx_allow_lapsed() */
};
struct issue_answer {
	enum grpc_status status;
	char text[ERR_TEXT_MAX]; /* what and what to do, when refused */
	uint8_t *message;        /* an IssueResponse; NULL when refused */
	size_t len;
};
/* Answering it may write to the store: a join or a rejoin that is not refused out of hand. */
bool issue_writes(struct issue *is, const struct issue_from *from, struct str request);
/* Decides, stores what has to be stored (one commit), signs. Says event issued or issue_refused. Blocks as the store does. */
void issue_answer(struct issue *is, const struct issue_from *from, struct str request, struct issue_answer *ret);
void issue_answer_done(struct issue_answer *a);

/* Calls in progress, for issue_call.c; empty when the issuer is freed (issue_calls_end). */
struct list *issue_calls(struct issue *is);
struct write_queue *issue_queue(const struct issue *is);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* request_impl.h: the request as the files of its spine see it: request.c (the steps and the way up), request_answer.c (the
 * way down), request_retry.c (further attempts), request_hedge.c (one beside another), request_shed.c (short of memory). Nobody else. */
#ifndef WEFT_PROXY_REQUEST_IMPL_H
#define WEFT_PROXY_REQUEST_IMPL_H

#include "lib/small.h"
#include "proxy/request.h"
#include "proxy/retry.h"
#include "proxy/route.h"
#include "proxy/upgrade.h"

#define REQUEST_MAGIC 0x72657175
/* Of the request and of the answer: a head of 32 KiB and its 128 fields (8 KiB, doubled on the way there), trailers the same, and what is spelt again
 * of the head, 32 KiB in all: a list of those before it, or names. */
#define ARENA_MAX     (272 * 1024)
#define REPLAY_MAX    (64 * 1024)

enum verdict { NEXT, WAIT, DONE };
enum request_step {
	STEP_HEAD,
	STEP_ROUTE,
	STEP_POLICY,
	STEP_BALANCE,
	STEP_ACQUIRE,
	STEP_SEND,
	STEP_RESPOND,
	STEP_FINISH
};

struct request {
	uint32_t magic;
	struct list node; /* in the owner's */
	struct request_owner *owner;
	struct proxy *p;
	struct arena arena;
	struct http_stream *down, *up;
	struct message *head; /* of the request, as it goes up */
	struct subject subject;
	struct target target;
	struct permit permit;
	struct route_choice choice; /* in the snapshot; rule NULL: no route spoke of it */
	struct endpoint_set *set;   /* keeps ep alive */
	struct snapshot *snapshot;  /* keeps the target alive */
	struct endpoint ep;
	struct attempt attempt; /* outbound: the one that is on its way */
	struct hedge *hedge;    /* a second one beside it; NULL: none */
	struct addr tried[RETRY_ATTEMPTS_MAX + RETRY_SPARED_MAX];
	struct timer backoff;
	enum hop hop;
	struct pool_waiter waiter;
	struct view_waiter config;
	struct buf body;   /* came from downstream, not sent up yet: at most the stream window */
	struct buf replay; /* sent up already, kept for a second attempt */
	size_t again;      /* bytes at the front of body that went up before: their credit was given back then */
	struct buf answer; /* came from upstream, not sent down yet */
	struct fields *trailers_up, *trailers_down;
	struct upgrade upgrade; /* towards an application */
	uint64_t moved, seen;   /* bytes of bodies passed on; the same at the last look */
	unsigned step, attempts;
	uint64_t began_us;
	uint16_t status; /* sent down */
	enum reason reason;
	enum reason failure;            /* of the endpoint, though the exchange ended in order: 502, 503, 504 */
	bool body_ended, body_sent;     /* the request is complete; all of it went up */
	bool answer_ended, answer_sent; /* the answer is complete; all of it went down */
	bool head_down;                 /* a final head went down: no other answer can be given */
	bool replayable;
	bool asked;   /* waited for the control plane once */
	bool encoded; /* head carries the hop's fields */
	bool fitted;  /* upgrade was asked */
	bool tunnel;  /* the answer opened one: it ends when both ways have */
	bool calls;   /* the answer is a gRPC call's that goes on: trailers can still say how it ended */
	bool fresh;   /* goes again over a connection that has served nobody: a kept one was closed under it */
	bool spared;  /* an attempt was lost with a kept connection: it is not counted */
	bool touched; /* an attempt that was lost may have reached an application: never again "unprocessed" */
};
_Static_assert(sizeof(struct request) <= SMALL_MAX, "comes from the lists of small.h");

/* Attempts that it may make in all. */
static inline unsigned attempts_max(const struct request *r)
{
	return RETRY_ATTEMPTS_MAX + (r->spared ? RETRY_SPARED_MAX : 0);
}

static inline const struct codec_ops *ops_of(struct http_stream *st)
{
	return http_stream_ops(st);
}

/* --- request.c --- */

/* Goes on from the step that it waits at. */
void request_run(struct request *r);
/* The last step, from wherever it is: the request is over. */
enum verdict request_finish(struct request *r);
/* What came of the attempt is known; `why` is its end, not always the request's. */
void request_end_attempt(struct request *r, enum reason why);

/* The service that is called in the end: the backend of a route, or the one that was asked for. NULL: none. */
const char *request_service(const struct request *r);
/* As much of the body as the upstream stream takes. */
void request_send_up(struct request *r);
/* Something went up: of a tunnel that may have been the last. */
void request_tunnel_moved(struct request *r);
/* Trailers as they may be passed on, in the request's arena (not copied if `a`, where they are, is it): what only sidecars may say is said in
 * heads, and by nobody else. NULL: no memory for all of them. */
struct fields *request_keep_trailers(struct request *r, const struct fields *f, const struct arena *a,
				     bool from_sidecar);

/* --- request_answer.c --- */

/* A whole answer of our own, in the caller's protocol, or the end of the one that has begun; the request is over then. `unprocessed`: the
 * application has not had the request (told to the other sidecar only). */
enum verdict request_answer(struct request *r, enum reason reason, bool unprocessed);
/* As much of the answer as the downstream stream takes. */
void request_send_down(struct request *r);
/* Gives up the attempts that are on their way. */
void request_drop_upstream(struct request *r, enum reason reason);
extern const struct http_stream_events request_up_events; /* ctx: the request */
/* The stream whose final head is `m` becomes the upstream stream. */
void request_take(struct request *r, struct http_stream *up, struct message *m);

/* --- request_retry.c --- */

/* What the end of a stream that `w` got says of the attempt. */
struct lost_attempt request_lost(const struct pool_waiter *w, const struct http_reset *why);
/* The attempt was lost: goes again where that is allowed, else answers. The upstream stream is gone already, or nobody's any more. */
void request_lose(struct request *r, const struct lost_attempt *how);
/* Outbound: another try, on another endpoint where there is one, within the budget of the service. False: not allowed, nothing changed. */
bool request_try_again(struct request *r, const struct lost_attempt *lost);
void request_retry_init(struct request *r);

/* --- request_hedge.c --- */

/* The endpoint is chosen: from now on its silence may bring a second attempt beside this one. */
void request_hedge_arm(struct request *r);
/* The attempt was lost while a second one is on its way: that one decides. False: there is none, nothing changed. */
bool request_hedge_alone(struct request *r, const struct lost_attempt *lost);
/* The first attempt answers, or the request is over. Safe when there is none. */
void request_hedge_drop(struct request *r);

#endif

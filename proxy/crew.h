/* SPDX-License-Identifier: Apache-2.0 */
/* crew.h: the worker threads: each has a loop and the stations of struct proxy, and shares nothing with the others but what is counted or
 * atomic: snapshots, credentials, circuits. The main thread gives them connections, identities and the order to drain, and asks them.
 *
 * One thread is enough for most sidecars: it is the main thread itself then, on the main loop, and every way to it is a plain call. All
 * functions are called on the main thread. */
#ifndef WEFT_PROXY_CREW_H
#define WEFT_PROXY_CREW_H

#include "proxy/proxy.h"

#define CREW_ANSWER_MS     1000 /* who has not answered by then is left out */
#define CREW_QUESTIONS_MAX 128  /* at once; a thread that hangs must not let them pile up */

struct config;
struct proxy_options;
struct crew;

struct crew_cfg {
	struct loop *loop; /* the main loop */
	struct config *config;
	struct identity *identity; /* the main thread's: what it holds already the others get too */
	const struct mark *mark;
	const struct proxy_options *options;
	unsigned threads; /* 1 to OPTIONS_THREADS_MAX */
};
/* The threads run when it returns. NULL and err: no event loop or thread could be made. */
struct crew *crew_new(const struct crew_cfg *cfg, struct err *err);
/* Ends the threads and what they serve. After the main loop has ended. */
void crew_free(struct crew **c);

/* Takes an accepted connection to the thread that has the fewest; past SESSIONS_MAX of them all it is reset. */
void crew_accept(struct crew *c, enum direction d, int fd);
size_t crew_sessions(const struct crew *c); /* exact: those on their way to a thread, too */
/* A credential is in force on the main thread: on the others, too, when they come to it. */
void crew_identity(struct crew *c, const struct credential *credential);
void crew_drain(struct crew *c);
/* Another process serves from now on: session_retire_all() and pool_drain() on each thread. */
void crew_retire(struct crew *c);
/* Runs fn on each thread; on others it is skipped where too much waits there already (4,096 posts). */
void crew_each(struct crew *c, void (*fn)(struct proxy *p, size_t arg), size_t arg);
unsigned crew_len(const struct crew *c);         /* threads */
const char *crew_balancer(const struct crew *c); /* name of the algorithm */
json_t *crew_services(struct crew *c);           /* what each service has on its way, of all threads: circuit.h */
/* Adds what the main thread has counted: connections refused past SESSIONS_MAX. */
void crew_stats(const struct crew *c, struct stats *into);

/* --- questions --- */

struct crew_answer {
	bool there; /* false: the thread has not answered in time */
	void *it;
};
struct crew_question {
	void *(*look)(struct proxy *p); /* on each thread: its answer */
	void (*drop)(void *answer);     /* on the main thread */
	/* When all have answered, or CREW_ANSWER_MS are over; by number of the thread. The answers are dropped after it. Never before
	 * crew_ask() has returned. */
	void (*done)(void *ctx, const struct crew_answer *answers, unsigned n);
};
struct crew_inquiry;
/* NULL: too many questions are open. The question is borrowed until all have answered: make it static. */
struct crew_inquiry *crew_ask(struct crew *c, const struct crew_question *q, void *ctx);
void crew_forget(struct crew_inquiry *i); /* done() does not come any more */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* push_session.h: what push.c keeps of one stream: what it subscribed to, what it holds, what it has not answered yet. Private
 * to push*.c. Everything here is owned by its session and freed with it. */
#ifndef WEFT_CONTROL_PUSH_SESSION_H
#define WEFT_CONTROL_PUSH_SESSION_H

#include "control/push.h"
#include "control/push_index.h"

/* One name that a session subscribed to. */
struct sub {
	struct map_node node; /* track.subs, by the name as the peer said it */
	struct list in_slot;  /* slot.subs */
	struct list work;     /* track.dirty or track.absent, or unlinked */
	struct slot *slot;    /* what the name means: for "self" this instance's own */
	struct held *held;    /* what it stands for now; NULL: nothing */
	struct track *track;
	bool force;       /* asked for just now: is answered even when nothing changed */
	bool absent_said; /* "there is nothing" was the last answer */
	char name[];
};

/* One resource that a session has, or will get, through one or more subscriptions. */
struct held {
	struct map_node node;  /* track.helds, by the entry's key */
	struct list in_entry;  /* entry.helds */
	struct list work;      /* track.out, track.gone, or unlinked */
	struct list in_flight; /* flight.helds of the last response that had it, or unlinked */
	struct entry *entry;
	struct track *track;
	struct flight *flight; /* that response; NULL once it was answered */
	unsigned subs;         /* subscriptions that lead here; 0: about to go */
	bool resend;           /* is sent even when the version is the same */
	uint64_t
	    claimed; /* the session's flush before which the peer said that it has `sent` already (initial_resource_versions) */
	char sent[PUSHED_VERSION_LEN + 1];  /* "" nothing yet */
	char acked[PUSHED_VERSION_LEN + 1]; /* "" nothing yet */
	char *refused;                      /* why `sent` was refused; NULL: it was not */
};

/* One response that has not been answered. */
struct flight {
	struct list node;
	uint64_t nonce;
	size_t bytes;
	uint64_t sent_ms;
	enum pushed_type type;
	bool removes; /* tells that resources are gone that the peer had */
	struct list helds;
};

/* One type of one session. */
struct track {
	struct push_session *session;
	enum pushed_type type;
	bool seen; /* a first request of this type has come */
	struct map subs, helds;
	struct list dirty;  /* subs to be looked at in this flush */
	struct list absent; /* subs to be told that there is nothing */
	struct list out;    /* helds to be sent */
	struct list gone;   /* helds without a subscription: to be told removed, then freed */
};

/* The streams of one instance. */
struct group {
	struct map_node node;
	struct list sessions; /* oldest first */
	size_t len;
	char key[];
};

struct push_session {
	uint32_t magic;
	struct push *push;
	struct list node;  /* push.sessions */
	struct list dirty; /* push.dirty, or unlinked */
	struct list in_group;
	struct group *group; /* NULL until the first request named the instance */
	const struct push_link *link;
	void *ctx;
	bool ended;
	char *identity, *ns, *sa, *address;
	char *version; /* of the proxy, as it says; NULL until the first request */
	uint64_t nonce;
	struct list flights; /* oldest first */
	size_t flying;       /* bytes in them */
	uint64_t opened_ms;
	uint64_t flushes; /* counts up; 0 is before the first */
	struct track tracks[PUSHED_TYPES];
};

struct push {
	struct push_hooks hooks;
	void *ctx;
	struct push_index index;
	struct list sessions, dirty;
	struct map groups; /* by "namespace/instance" */
	uint64_t marks;    /* slot.mark: counts up */
	struct push_counts counts;
	uint8_t *scratch; /* a response while it is written */
	size_t scratch_len, scratch_cap;
};

/* push.c */
void push_session_dirty(struct push_session *s);
void push_sub_dirty(struct sub *sub);
void push_session_end(struct push_session *s, enum grpc_status status, const char *text);

/* push_held.c */
struct held *push_held_get(struct track *t, struct entry *e); /* made when the session does not hold it yet */
void push_held_free(struct held *h);
void push_held_set_refused(struct held *h, char *reason); /* takes reason over; NULL: not refused */
void push_held_applied(struct held *h);
const char *push_wire_name(const struct entry *e);
void push_sub_free(struct sub *sub);
void push_track_resolve(struct track *t);

/* push_flight.c */
bool push_session_pending(const struct push_session *s);
bool push_track_send(struct track *t); /* false: the session has ended and may be gone */
void push_flight_free(struct push_session *s, struct flight *f);
void push_take_answer(struct push_session *s, struct track *t,
		      const push_request_pb *req); /* t NULL: a type not known */
void push_answer_unknown_type(struct push_session *s, const push_request_pb *req);
char *push_clean_text(struct str text, size_t max); /* at most max bytes of it, for mem_free() */

/* push_subscribe.c */
void push_take_names(struct push_session *s, struct track *t, const push_request_pb *req);

#endif

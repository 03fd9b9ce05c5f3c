/* SPDX-License-Identifier: Apache-2.0 */
/* session_impl.h: the session as the files of its spine see it: session.c (the steps), session_detect.c (what a connection speaks), session_shed.c
 * (what it gives up when memory is short). Nobody else. */
#ifndef WEFT_PROXY_SESSION_IMPL_H
#define WEFT_PROXY_SESSION_IMPL_H

#include "proxy/detect.h"
#include "proxy/request.h"
#include "proxy/session.h"
#include "proxy/tunnel.h"

#define SESSION_MAGIC 0x73657373
#define HANDSHAKE_MS  10000

enum verdict { NEXT, WAIT, DONE };
enum session_step { STEP_ORIGDST, STEP_TARGET, STEP_DETECT, STEP_HANDSHAKE, STEP_SERVE, STEP_CLOSE };

struct session {
	uint32_t magic;
	struct list node; /* in proxy.sessions */
	struct proxy *p;
	enum direction direction;
	struct conn *conn; /* until a codec or a tunnel takes it */
	struct http_session *http;
	struct tunnel *tunnel;
	struct snapshot *snapshot; /* opaque: what the tunnel's subject points into */
	struct addr peer, to;
	struct target target; /* outbound, opaque */
	struct view_waiter waiter;
	struct tls_peer *tls_peer;  /* inbound from the mesh */
	struct handshake handshake; /* waiting or begun */
	struct request_owner owner; /* of its requests */
	struct timer timer;         /* detection: time may decide something; a handshake that waits */
	uint64_t detect_ms;         /* it began; 0: not yet */
	uint64_t spec_after_ms;     /* no speculation before */
	enum reason spec_failed;    /* the speculative dial failed, so */
	struct task task;           /* run() from the loop */
	enum detected detected;
	unsigned step;
	enum reason reason;
	uint64_t began_ms;
	uint64_t seen; /* HTTP: bytes that had left the connection at the last look */
	bool asked, speculated, last;
};

/* Kept for the life of a connection, idle ones too. */
_Static_assert(sizeof(struct session) <= 768, "struct session is kept for the life of a connection");

/* --- session.c --- */

/* Goes on from the step that it waits at. */
void session_run(struct session *s);
/* The connection is over: counters, and memory after the turn. */
enum verdict session_end(struct session *s, enum reason reason);
/* An opaque connection for it; down NULL: dialled ahead of the client's first byte. */
struct tunnel *session_open_tunnel(struct session *s, struct conn *down);

/* --- session_detect.c --- */

/* The step: WAIT until bytes, the server's or time decide; s->detected then. */
enum verdict session_step_detect(struct session *s);
void session_on_timer(struct timer *t);
/* Inbound: whether the client's address stands for a sidecar (one of its certificates was verified) or for plaintext. */
void session_learn_peer(struct session *s, bool mesh);
/* The speculative connection is closed unused; safe when there is none. */
void session_drop_speculation(struct session *s);
/* It was used, or failed: `outcome` is its metric label. */
void session_speculation_over(struct session *s, const char *outcome);
/* A client that waited in vain and left where HTTP is known: perhaps it is not HTTP any more. */
void session_doubt(struct session *s);
/* request_owner.answered: HTTP is what is spoken there. */
void session_answered(struct request_owner *o);
/* Nothing was asked on it yet: closing it now is what a server does with an idle connection. */
bool session_idle_before_first(struct session *s);

#endif

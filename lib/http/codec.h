/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h: an HTTP protocol on one connection, behind one constant struct. A codec takes over the events of a conn,
 * parses strictly into neutral messages, and writes neutral messages. It does no routing, retrying or logging.
 *
 * A *stream* is one exchange (request one way, response the other). HTTP/1 has one active at a time per connection (a
 * pipelined next request waits, unparsed, until the one before has ended both ways); HTTP/2 has many.
 *
 * Order of events on a stream, each at most once but where marked: server role: on_head(request) body* trailers? end;
 * client role: on_head(1xx)* on_head(final) body* trailers? end. on_end: this side's incoming message is complete.
 * on_reset may come instead at any time and is the last. Outgoing: send_head (1xx any number), send_body*, send_end
 * (with trailers or without). A stream is over when both directions have ended; its owner then calls close().
 *
 * Callbacks come from the loop, never from within a call into the codec. Owners may call anything from a callback,
 * close() and session_close() included; memory goes after the turn.
 *
 * Back-pressure: body bytes handed to on_body count as unconsumed until the owner says consumed(); when 64 KiB are
 * (FLOW_STREAM_WINDOW, grows to 1 MiB with the BDP on HTTP/2) the codec stops reading that stream (HTTP/1: the
 * connection; HTTP/2: only the stream credit is withheld, connection credit returns on receipt). The other way,
 * send_room() is how many bytes send_body may take now; on_room comes when it was 0 (or too small) and is not. */
#ifndef WEFT_LIB_HTTP_CODEC_H
#define WEFT_LIB_HTTP_CODEC_H

#include "lib/conn.h"
#include "lib/http/message.h"
#include "lib/reason.h"

struct http_session; /* a codec on a connection */
struct http_stream;

enum http_role { HTTP_SERVER, HTTP_CLIENT };

/* How a stream was lost. `unprocessed`: the peer's application provably got no byte of it (REFUSED_STREAM, GOAWAY with a
 * lower id, connect failure, or nothing of it had left). */
struct http_reset {
	enum reason reason;
	bool unprocessed;
	bool before_response; /* no byte of the response had come */
	bool by_peer;         /* HTTP/2: the peer's own RST_STREAM, with this error code; the connection goes on */
	uint32_t code;
};

struct http_stream_events {
	void (*on_head)(void *ctx, struct message *m);
	void (*on_body)(void *ctx, struct str bytes); /* valid during the call */
	void (*on_trailers)(void *ctx, const struct fields *f, struct arena *a);
	void (*on_end)(void *ctx);
	void (*on_reset)(void *ctx, const struct http_reset *why);
	void (*on_room)(void *ctx);
};

struct http_session_events {
	/* Server role: a request begins. Answer with the events and context for it, and the arena its messages shall use
	 * (cap set by the owner; the codec copies nothing elsewhere). False refuses the stream as unprocessed.
	 * on_head follows when the head is complete and valid; if it is not, the codec answers by itself (HTTP/1: the status of the
	 * reason row, close; HTTP/2: RST_STREAM or a status) and calls on_reset with the reason. */
	bool (*on_stream)(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
			  struct arena **ret_arena);
	/* Client role: SETTINGS came (HTTP/2) or the connection is open (HTTP/1): streams may be opened. Also when room for
	 * further streams appears. */
	void (*on_ready)(void *ctx);
	/* No stream is open any more (idle), or the first opened (busy). */
	void (*on_idle)(void *ctx, bool idle);
	/* The peer (GOAWAY, Connection: close) or an age limit ends it: no new streams; open ones go on. */
	void (*on_draining)(void *ctx);
	/* The connection is gone, after on_reset for each open stream. reason REASON_NONE for an orderly end. Once; the owner
	 * calls session_close. */
	void (*on_closed)(void *ctx, enum reason reason, const struct err *err);
};

/* What a client knows of the peer of a connection when it has one more request for it. */
enum http_peer {
	HTTP_PEER_HEARD,  /* since the last request, or nothing was due yet */
	HTTP_PEER_ASKED,  /* in doubt: a PING is on its way */
	HTTP_PEER_SILENT, /* has not answered that */
};

struct http_limits {
	size_t target_max;        /* request target, bytes: 8 KiB */
	size_t head_max;          /* all fields decoded, bytes: 32 KiB */
	size_t fields_max;        /* 100 on HTTP/1, 128 on HTTP/2 */
	uint32_t streams_max;     /* concurrent streams of one HTTP/2 connection: 100 */
	uint32_t window;          /* first stream window: 64 KiB */
	uint32_t window_max;      /* grows to: 1 MiB */
	uint64_t head_timeout_ms; /* first byte to complete head: 10 s */
	uint64_t idle_timeout_ms; /* keep-alive without a request: HTTP/1 server 60 s ... ; 0 never */
	uint64_t age_max_ms;      /* then drain: 1 h ± 10 %; 0 never */
	uint64_t stream_idle_ms;  /* no progress on an open stream: 5 min; 0 never */
	uint64_t ping_ms;         /* HTTP/2: silence before a PING, and time for its answer; 0: 20 s */
	uint64_t
	    doubt_ms; /* HTTP/2 client: silence after a request before the next one makes peer() ask, and time for the answer; 0: never */
	uint64_t preface_ms;   /* HTTP/2: time for the peer's preface and SETTINGS; 0: 5 s */
	uint32_t resets_burst; /* HTTP/2: streams that a client may reset at once; 0: 200 */
	uint32_t resets_rate;  /* and in each second; 0: 20. Streams that end in order give as many back */
	uint32_t heads_a_turn; /* HTTP/2: requests that one client begins before others have a turn (turns.h); 0: 4 */
	bool paces_itself;     /* HTTP/2: a client that is a stranger there is not paced here once more (turns.h) */
};
extern const struct http_limits http_limits_default;

struct codec_ops {
	const char *name; /* "http/1.1", "h2" */
	/* Takes the open connection over (bytes already in conn_rx() are the first to be parsed, at the end of this turn). */
	struct http_session *(*session_new)(struct conn *c, enum http_role role, const struct http_limits *lim,
					    const struct http_session_events *ev, void *ctx);
	/* Client role: streams that may be opened now (0: wait for on_ready). */
	uint32_t (*room)(const struct http_session *s);
	/* Client role: whether the peer may be trusted with another request. While it is ASKED wait for on_ready, which comes when that is
	 * settled; once SILENT it is so until something comes, and then on_ready does. NULL: such a connection has no way to tell. */
	enum http_peer (*peer)(struct http_session *s);
	/* Client role, room() > 0: opens a stream. The head is sent with send_head. */
	struct http_stream *(*open)(struct http_session *s, const struct http_stream_events *ev, void *ctx,
				    struct arena *arena);
	/* Sends a head; `end`: nothing follows. The message is copied or written at once; it may be dropped after the call. */
	void (*send_head)(struct http_stream *st, const struct message *m, bool end);
	size_t (*send_room)(const struct http_stream *st);
	void (*send_body)(struct http_stream *st,
			  struct str bytes); /* taken whole; the owner keeps to send_room() within 16 KiB */
	void (*send_end)(struct http_stream *st, const struct fields *trailers); /* trailers NULL or empty: none */
	void (*consumed)(struct http_stream *st, size_t n);
	/* Ends the stream at once: HTTP/2 RST_STREAM with the code of the reason (REFUSED_STREAM when `unprocessed`), HTTP/1 closes the
	 * connection. No callback follows. Frees the stream. */
	void (*reset)(struct http_stream *st, enum reason reason, bool unprocessed);
	/* The same with an error code that the other end of the exchange chose (http_reset.code): HTTP/2 says just that one. */
	void (*reset_as)(struct http_stream *st, uint32_t code);
	/* The owner is done with a stream that has ended both ways (or was reset by the peer). Frees it; no callback follows. */
	void (*close)(struct http_stream *st);
	/* No new streams; open ones finish, then on_closed. Server HTTP/2: GOAWAY twice (2^31-1, then the last id). */
	void (*drain)(struct http_session *s);
	/* Server: the same, but an HTTP/1 connection on which nothing is asked stays open for one more request, which is the last: its client
	 * may have sent it already. drain() ends those that nobody uses. */
	void (*last)(struct http_session *s);
	/* Closes the connection and frees the session after the turn. No callback follows. Nulls *s. Streams that owners still have
	 * lead nowhere from then on and stay theirs until close() or reset(). */
	void (*session_close)(struct http_session **s);
	/* Bytes that wait in the codec and its connection to be read by the peer or parsed: what closing the connection would free. */
	size_t (*held)(const struct http_session *s);
	/* Gives back what an idle connection keeps only to be quick; nothing while a stream is open. NULL: it keeps nothing. */
	void (*rest)(struct http_session *s);
	uint32_t (*open_streams)(const struct http_session *s);
	struct conn *(*conn)(const struct http_session *s); /* NULL once it is closed */
};

extern const struct codec_ops codec_h1; /* h1.c, RFC 9112 */
extern const struct codec_ops codec_h2; /* h2.c, RFC 9113 on libnghttp2 */

/* Each http_session and http_stream begins with its ops, so that callers need not know which it is. */
const struct codec_ops *http_session_ops(const struct http_session *s);
const struct codec_ops *http_stream_ops(const struct http_stream *st);
/* Replaces owner and events of an open stream or session (handing a stream over). */
void http_stream_set_events(struct http_stream *st, const struct http_stream_events *ev, void *ctx);
struct http_session *http_stream_session(const struct http_stream *st);

#endif

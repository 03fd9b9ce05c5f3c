/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.h: gRPC calls over an HTTP/2 session: 5-byte framing, statuses in trailers, trailers-only answers, grpc-timeout;
 * unary and streaming look the same (messages until the end). Both roles. No compression (a compressed frame is refused with
 * UNIMPLEMENTED). https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
#ifndef WEFT_LIB_GRPC_H
#define WEFT_LIB_GRPC_H

#include "lib/http/codec.h"

#define GRPC_MESSAGE_MAX (4u << 20) /* a message received: 4 MiB */
#define GRPC_BEARER_MAX  (16u << 10)
#define GRPC_QUEUE_MAX   (4u << 20) /* bytes queued for a peer that does not read; then grpc_send is false */

enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

struct grpc_call;

struct grpc_call_events {
	/* One message; valid during the call. */
	void (*on_message)(void *ctx, struct grpc_call *call, struct str message);
	/* The other side sends no more (server role: the client half-closed). Client role: not called, on_end is. */
	void (*on_half_close)(void *ctx, struct grpc_call *call);
	/* The call is over (client role: with the server's status; server role: cancelled or the connection is gone).
	 * The call is freed after this returns. Not called after grpc_finish/grpc_cancel by ourselves. */
	void (*on_end)(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text);
	/* Queue fell beneath half its cap after grpc_send had refused. May be NULL. */
	void (*on_room)(void *ctx, struct grpc_call *call);
};

/* --- client role: `s` is a codec_h2 session of HTTP_CLIENT with room (NULL when it has none, or the bearer is longer than
 * GRPC_BEARER_MAX). Calls are cancelled before their session is closed: closing tells nobody. --- */
struct grpc_call *grpc_call_new(struct http_session *s, const char *authority, const char *path, const char *bearer,
				const struct grpc_call_events *ev, void *ctx);
void grpc_half_close(struct grpc_call *call);
void grpc_cancel(struct grpc_call **call); /* RST_STREAM CANCEL; no callback follows */

/* --- server role --- */
struct grpc_method {
	const char *path; /* "/weft.v1.Identity/Issue" */
	/* A call begins; answer with events and context. False after filling status and text refuses it (trailers-only). */
	bool (*on_call)(void *server_ctx, struct grpc_call *call, const struct grpc_call_events **ret_ev,
			void **ret_ctx, enum grpc_status *ret_status, const char **ret_text);
};
struct grpc_server;
struct grpc_server_cfg {
	SSL_CTX *tls;                      /* ALPN must come to h2; NULL: plain HTTP/2 by prior knowledge */
	const struct grpc_method *methods; /* ends with a NULL path */
	unsigned connections_max;
	void *ctx;
};
struct grpc_server *grpc_server_new(struct loop *loop, const struct grpc_server_cfg *cfg);
/* For connections accepted from now on (a renewed certificate). Borrowed as cfg.tls is; the former one may be freed. */
void grpc_server_set_tls(struct grpc_server *s, SSL_CTX *tls);
/* Owns fd. Handshakes of many that come at once are begun a few a turn, so that who is connected is served in between; beyond
 * connections_max it is closed. */
void grpc_server_accept(struct grpc_server *s, int fd);
/* Closes every connection; calls are gone without a callback (finish them before). */
void grpc_server_free(struct grpc_server **s);
void grpc_finish(struct grpc_call **call, enum grpc_status status,
		 const char *text); /* ends the call; no callback follows */

/* --- both --- */
/* Queues a message. False when GRPC_QUEUE_MAX would be passed: the peer does not read; nothing was queued. */
bool grpc_send(struct grpc_call *call, struct str message) MUST_USE;
struct conn *grpc_call_conn(const struct grpc_call *call);
const struct message *grpc_call_request(const struct grpc_call *call); /* server role: the head, for metadata */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_call.h: the inside of a gRPC call, shared by grpc.c (calls) and grpc_server.c (the server). Nobody else includes it. */
#ifndef WEFT_LIB_GRPC_CALL_H
#define WEFT_LIB_GRPC_CALL_H

#include "lib/grpc.h"

#define GRPC_CALL_MAGIC 0x67727063u
#define GRPC_TEXT_MAX   1024 /* bytes of grpc-message kept or sent */

/* Freed after the turn in which it ended. Pins nothing; the session must outlive it or reset it. */
struct grpc_call {
	uint32_t magic;
	struct loop *loop;
	struct http_stream *st; /* NULL when over */
	struct list node;       /* of a server's calls */
	struct grpc_server *server;
	const struct grpc_call_events *ev; /* NULL: nobody listens */
	void *ctx;
	struct arena arena; /* heads and trailers: 64 KiB */
	struct message *request;
	struct timer deadline; /* server: grpc-timeout */
	struct buf out;        /* framed messages that the stream does not take yet */
	/* the message being received */
	uint8_t head[5], head_len;
	size_t need;
	uint8_t *in;
	size_t in_len, in_cap;
	enum grpc_status status; /* to be sent, or received */
	char text[GRPC_TEXT_MAX];
	bool client;
	bool head_out;     /* response head (server) or request head (client) sent */
	bool half_closing; /* client: END_STREAM after the queue */
	bool out_ended;
	bool finishing; /* server: trailers after the queue; the owner is gone */
	bool over;      /* the end has been told or is being told */
	bool want_room; /* grpc_send() refused */
	bool status_seen;
};

struct grpc_call *grpc_call_make(struct loop *loop, bool client);
void grpc_call_drop(struct grpc_call *call);
void grpc_call_trailers(struct grpc_call *call, enum grpc_status status, const char *text, struct fields *ret);
void grpc_refuse(struct grpc_call *call, enum grpc_status status, const char *text);
void grpc_answer_only(struct grpc_call *call, uint16_t http, enum grpc_status status, const char *text);
bool grpc_content_type(const struct message *m);
void grpc_on_room(void *ctx);
void grpc_server_head(void *ctx, struct message *m); /* grpc_server.c */
extern const struct http_stream_events grpc_server_events;

#endif

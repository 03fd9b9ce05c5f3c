/* SPDX-License-Identifier: Apache-2.0 */
/* issue_call.c: collects the one message of a call, answers when the client has ended its side and the store can be written. */
#include "control/issue_call.h"

#include "certs/tlsctx.h"
#include "control/write_queue.h"
#include "lib/conn.h"
#include "lib/list.h"
#include "lib/mem.h"

#define CALL_MAGIC 0x69636c6cu

/* Lives as long as its call; freed by on_end or by finish(). */
struct issue_call {
	uint32_t magic;
	struct list node; /* of issue_calls() */
	struct issue *issue;
	struct grpc_call *call;
	uint8_t *request; /* NULL before the message; wiped, it holds a token */
	size_t len;
	struct writer writer;
};

static void call_free(struct issue_call *c)
{
	list_remove(&c->node);
	writer_leave(&c->writer);
	mem_wipe_free(c->request, c->len);
	c->magic = 0;
	mem_free(c);
}

static void finish(struct issue_call *c, enum grpc_status status, const char *text)
{
	struct grpc_call *call = c->call;
	call_free(c);
	grpc_finish(&call, status, text);
}

static void on_message(void *ctx, struct grpc_call *call, struct str message)
{
	struct issue_call *c = ctx;
	MUST_BE(c, CALL_MAGIC);
	if (c->request) {
		finish(c, GRPC_INVALID_ARGUMENT, "Issue takes one request");
		return;
	}
	if (message.len > ISSUE_REQUEST_MAX) {
		finish(c, GRPC_INVALID_ARGUMENT, "the request is larger than 16 KiB");
		return;
	}
	c->request = mem_dup(message.p ? message.p : "", message.len);
	c->len = message.len;
}

static struct issue_from from_of(struct grpc_call *call)
{
	const struct conn *conn = grpc_call_conn(call);
	SSL *ssl = conn_ssl(conn);
	const struct tls_peer *valid = ssl ? tlsctx_peer(ssl, conn_tls_arg_index()) : NULL;
	const struct tls_peer *lapsed = ssl ? tlsctx_lapsed_peer(ssl) : NULL;
	return (struct issue_from){
	    .ip = conn_peer(conn)->ip,
	    .id = valid    ? &valid->id
		  : lapsed ? &lapsed->id
			   : NULL,
	    .lapsed = !valid && lapsed,
	};
}

static void reply(struct issue_call *c)
{
	struct issue_from from = from_of(c->call);
	struct issue_answer answer;
	issue_answer(c->issue, &from, str_make(c->request, c->len), &answer);
	if (answer.message && !grpc_send(c->call, str_make(answer.message, answer.len)))
		answer.status = GRPC_RESOURCE_EXHAUSTED;
	finish(c, answer.status, answer.text);
	issue_answer_done(&answer);
}

static void on_turn(struct writer *w)
{
	reply(CONTAINER_OF(w, struct issue_call, writer));
}

static void on_half_close(void *ctx, struct grpc_call *call)
{
	struct issue_call *c = ctx;
	MUST_BE(c, CALL_MAGIC);
	if (!c->request) {
		finish(c, GRPC_INVALID_ARGUMENT, "Issue takes a request");
		return;
	}
	struct issue_from from = from_of(call);
	if (issue_writes(c->issue, &from, str_make(c->request, c->len)))
		writer_take(issue_queue(c->issue), &c->writer);
	else
		reply(c);
}

static void on_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	struct issue_call *c = ctx;
	MUST_BE(c, CALL_MAGIC);
	call_free(c);
}

static const struct grpc_call_events events = {
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_end = on_end,
};

bool issue_call(struct issue *is, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
		enum grpc_status *ret_status, const char **ret_text)
{
	struct issue_call *c = NEW(struct issue_call);
	c->magic = CALL_MAGIC;
	c->issue = is;
	c->call = call;
	writer_init(&c->writer, on_turn);
	list_push(issue_calls(is), &c->node);
	*ret_ev = &events;
	*ret_ctx = c;
	return true;
}

void issue_calls_end(struct issue *is)
{
	for (struct issue_call *c; (c = list_first(issue_calls(is), struct issue_call, node)) != NULL;)
		finish(c, GRPC_UNAVAILABLE, "weftd is stopping: ask again");
}

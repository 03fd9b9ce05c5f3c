/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_echo.c: a gRPC server of one method, /t.T/Echo, without TLS, for test_grpc.py: listens on a port of 127.0.0.1, prints it, sends
 * each message back, ends when its standard input ends. Says "end STATUS" when a call is lost. */
#include "lib/grpc.h"
#include "lib/listener.h"
#include "lib/mem.h"

#include <stdio.h>
#include <unistd.h>

struct echo {
	struct grpc_call *call;
};

static struct loop *loop;

static void on_message(void *ctx, struct grpc_call *call, struct str m)
{
	if (!grpc_send(call, m))
		printf("full\n");
}

static void on_half_close(void *ctx, struct grpc_call *call)
{
	struct echo *e = ctx;
	grpc_finish(&e->call, GRPC_OK, NULL);
	mem_free(e);
}

static void on_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	printf("end %d\n", status);
	fflush(stdout);
	mem_free(ctx);
}

static const struct grpc_call_events events = {on_message, on_half_close, on_end, NULL};

static bool on_call(void *ctx, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
		    enum grpc_status *ret_status, const char **ret_text)
{
	struct echo *e = NEW(struct echo);
	e->call = call;
	*ret_ev = &events;
	*ret_ctx = e;
	return true;
}

static const struct grpc_method methods[] = {{"/t.T/Echo", on_call}, {NULL, NULL}};

static void on_accept(void *ctx, int fd)
{
	grpc_server_accept(ctx, fd);
}

static void on_stdin(struct io *io, bool readable, bool writable)
{
	char c;
	if (read(0, &c, 1) <= 0)
		loop_stop(loop);
}

int main(void)
{
	struct grpc_server_cfg cfg = {.methods = methods, .connections_max = 10};
	struct addr a;
	struct io in;
	loop = loop_new(NULL);
	MUST(loop != NULL && addr_parse(STR("127.0.0.1:0"), &a));
	int fd = sock_listen_tcp(&a, false, 8, NULL);
	MUST(fd >= 0 && sock_local(fd, &a));
	struct grpc_server *s = grpc_server_new(loop, &cfg);
	struct listener *l = listener_new(loop, fd, on_accept, s);
	io_init(&in, loop, 0, on_stdin);
	io_want(&in, true, false);
	printf("port %u\n", a.port);
	fflush(stdout);
	loop_run(loop);
	io_stop(&in);
	listener_free(&l);
	grpc_server_free(&s);
	loop_free(&loop);
	return 0;
}

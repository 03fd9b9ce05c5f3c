/* SPDX-License-Identifier: Apache-2.0 */
/* relay.c: the floors of the bench: bare relays that do what a sidecar cannot avoid and nothing else: no HTTP, no policy, no counters.
 *   relay one client|server ...   one mTLS connection for each plain one
 *   relay mux client|server ...   all plain connections over one mTLS connection, written once a loop turn
 * Arguments: MODE SIDE LISTEN-PORT TARGET-IP TARGET-PORT CERT KEY ROOTS. client: plain in, mTLS out; server: the other way.
 * epoll(7) and OpenSSL directly. A side that is behind with writing stops the other's reading; else it is not bounded against hostile peers: it
 * relays only what the bench sends. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CHUNK     16384
#define STREAMS   4096
#define FULL      (16 * CHUNK) /* bytes to be written at which what they come from is not read any more */
#define TURN      16           /* reads of one descriptor in one loop turn */
#define FRAME_LEN 8

enum frame { DATA, OPEN, CLOSE };

struct end {
	int fd;
	SSL *ssl;          /* NULL: plain */
	struct end *other; /* mode one */
	uint32_t id;       /* mode mux: stream; UINT32_MAX: the TLS connection */
	uint8_t *out;
	size_t out_len, out_cap;
	uint32_t watched;
	bool dead, dirty, listener, stalled; /* stalled: where its bytes go is full */
	struct end *next_dead;
};

static int ep;
static SSL_CTX *ctx;
static struct sockaddr_in target;
static bool mux, client;
static struct end *trunk;            /* mode mux */
static struct end *streams[STREAMS]; /* mode mux */
static bool
    closing[STREAMS]; /* the client's side: CLOSE was sent, the server's has not come: not to be used again yet */
static struct end *graveyard, *dirty[STREAMS * 2];
static size_t n_dirty;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(struct end *e)
{
	uint32_t want = (e->stalled ? 0 : EPOLLIN) | (e->out_len > 0 ? EPOLLOUT : 0);
	struct epoll_event ev = {.events = want, .data.ptr = e};
	if (want != e->watched)
		epoll_ctl(ep, EPOLL_CTL_MOD, e->fd, &ev);
	e->watched = want;
}

static struct end *end_new(int fd, SSL *ssl)
{
	struct end *e = calloc(1, sizeof(*e));
	int one = 1;
	e->fd = fd;
	e->ssl = ssl;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	e->watched = EPOLLIN;
	struct epoll_event ev = {.events = e->watched, .data.ptr = e};
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	return e;
}

static void sweep(void)
{
	while (graveyard != NULL) {
		struct end *e = graveyard;
		graveyard = e->next_dead;
		if (e->ssl != NULL)
			SSL_free(e->ssl);
		close(e->fd);
		if (mux && e->id < STREAMS && streams[e->id] == e)
			streams[e->id] = NULL;
		free(e->out);
		free(e);
	}
}

static void stall(struct end *e, bool stalled)
{
	if (e->stalled == stalled || e->dead)
		return;
	e->stalled = stalled;
	watch(e);
}

/* There is room in e again for what was not read on its account. */
static void unstall(struct end *e)
{
	if (e->other != NULL)
		stall(e->other, false);
	if (mux && e != trunk && trunk != NULL)
		stall(trunk, false);
	for (size_t i = 0; e == trunk && i < STREAMS; i++)
		if (streams[i] != NULL)
			stall(streams[i], false);
}

static void flush(struct end *e)
{
	bool was_full = e->out_len >= FULL;
	size_t done = 0;
	while (done < e->out_len) {
		size_t n = e->out_len - done < CHUNK ? e->out_len - done : CHUNK;
		ERR_clear_error();
		ssize_t w = e->ssl != NULL ? SSL_write(e->ssl, e->out + done, (int)n)
					   : send(e->fd, e->out + done, n, MSG_NOSIGNAL);
		if (w <= 0)
			break;
		done += (size_t)w;
	}
	memmove(e->out, e->out + done, e->out_len - done);
	e->out_len -= done;
	watch(e);
	if (was_full && e->out_len < FULL)
		unstall(e);
}

/* What was to be written to it still goes. */
static void bury(struct end *e)
{
	if (e == NULL || e->dead)
		return;
	flush(e);
	unstall(e);
	e->dead = true;
	e->next_dead = graveyard;
	graveyard = e;
	if (e->other != NULL)
		bury(e->other);
}

static void push(struct end *e, const void *p, size_t n)
{
	if (e->out_len + n > e->out_cap) {
		e->out_cap = (e->out_len + n) * 2;
		e->out = realloc(e->out, e->out_cap);
	}
	memcpy(e->out + e->out_len, p, n);
	e->out_len += n;
	if (!e->dirty) {
		e->dirty = true;
		dirty[n_dirty++] = e;
	}
}

static void send_frame(uint32_t id, enum frame type, const void *p, size_t n)
{
	uint8_t head[FRAME_LEN] = {(uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id,
				   (uint8_t)(n >> 8),   (uint8_t)n,          (uint8_t)type};
	push(trunk, head, sizeof(head));
	if (n > 0)
		push(trunk, p, n);
}

/* Blocking connect, then non-blocking: the bench's connections are made before it counts. */
static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&target, sizeof(target)) != 0)
		die("connect");
	return fd;
}

static SSL *tls(int fd, bool server)
{
	SSL *s = SSL_new(ctx);
	SSL_set_fd(s, fd);
	if ((server ? SSL_accept(s) : SSL_connect(s)) != 1) {
		SSL_free(s);
		return NULL;
	}
	return s;
}

static void open_stream(uint32_t id)
{
	if (id >= STREAMS || streams[id] != NULL)
		return;
	streams[id] = end_new(dial(), NULL);
	streams[id]->id = id;
}

static void on_accept(struct end *l)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (mux && client) {
		uint32_t id = 0;
		while (id < STREAMS && (streams[id] != NULL || closing[id]))
			id++;
		if (id == STREAMS) {
			close(fd);
			return;
		}
		streams[id] = end_new(fd, NULL);
		streams[id]->id = id;
		send_frame(id, OPEN, NULL, 0);
		return;
	}
	SSL *s = client ? NULL : tls(fd, true);
	if (!client && s == NULL) {
		close(fd);
		return;
	}
	struct end *e = end_new(fd, s);
	if (mux) {
		trunk = e;
		e->id = UINT32_MAX;
		return;
	}
	int up = dial();
	e->other = end_new(up, client ? tls(up, false) : NULL);
	e->other->other = e;
}

/* One full stream stops all of them: nothing here counts for each by itself. */
static void deliver(struct end *to, const uint8_t *p, size_t n)
{
	push(to, p, n);
	if (to->out_len >= FULL)
		stall(trunk, true);
}

/* Who hears of an end first answers it, if it is the server; the client gives ids and must know when one is free. */
static void on_close(uint32_t id)
{
	bool live = streams[id] != NULL && !streams[id]->dead;
	if (live && !client)
		send_frame(id, CLOSE, NULL, 0);
	if (live)
		bury(streams[id]);
	closing[id] = false;
}

static void on_frame(uint32_t id, uint8_t type, const uint8_t *p, size_t n)
{
	if (id >= STREAMS)
		return;
	if (type == OPEN)
		open_stream(id);
	else if (type == CLOSE)
		on_close(id);
	else if (streams[id] != NULL && !streams[id]->dead)
		deliver(streams[id], p, n);
}

static void on_frames(struct end *t, const uint8_t *p, size_t n)
{
	static uint8_t in[CHUNK * 8];
	static size_t have;
	memcpy(in + have, p, n);
	have += n;
	size_t at = 0;
	while (have - at >= FRAME_LEN) {
		const uint8_t *h = in + at;
		size_t len = (size_t)h[4] << 8 | h[5];
		uint32_t id = (uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3];
		if (have - at < FRAME_LEN + len)
			break;
		on_frame(id, h[6], h + FRAME_LEN, len);
		at += FRAME_LEN + len;
	}
	memmove(in, in + at, have - at);
	have -= at;
	(void)t;
}

static void on_bytes(struct end *e)
{
	uint8_t b[CHUNK];
	struct end *to = !mux ? e->other : e != trunk ? trunk : NULL;
	for (int i = 0; i < TURN && !e->stalled; i++) {
		if (to != NULL && to->out_len >= FULL) {
			stall(e, true);
			return;
		}
		ERR_clear_error();
		ssize_t n = e->ssl != NULL ? SSL_read(e->ssl, b, sizeof(b)) : recv(e->fd, b, sizeof(b), 0);
		if (n > 0 && mux && e == trunk)
			on_frames(e, b, (size_t)n);
		else if (n > 0 && mux)
			send_frame(e->id, DATA, b, (size_t)n);
		else if (n > 0)
			push(e->other, b, (size_t)n);
		bool again = e->ssl != NULL ? n <= 0 && SSL_get_error(e->ssl, (int)n) == SSL_ERROR_WANT_READ
					    : n < 0 && errno == EAGAIN;
		if (n <= 0 && !again) {
			if (mux && e != trunk) {
				send_frame(e->id, CLOSE, NULL, 0);
				closing[e->id] = client;
			}
			bury(e);
		}
		if (n <= 0 || (e->ssl == NULL && (size_t)n < sizeof(b)))
			return;
	}
}

static void setup_tls(char **argv)
{
	ctx = SSL_CTX_new(client ? TLS_client_method() : TLS_server_method());
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
	if (SSL_CTX_use_certificate_chain_file(ctx, argv[6]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, argv[7], SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_load_verify_file(ctx, argv[8]) != 1) {
		fprintf(stderr, "relay: certificates\n");
		exit(1);
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

static void setup_listener(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 1024) != 0)
		die("listen");
	end_new(fd, NULL)->listener = true;
}

int main(int argc, char **argv)
{
	if (argc != 9)
		return 2;
	mux = strcmp(argv[1], "mux") == 0;
	client = strcmp(argv[2], "client") == 0;
	target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[5]))};
	inet_pton(AF_INET, argv[4], &target.sin_addr);
	signal(SIGPIPE, SIG_IGN);
	ep = epoll_create1(EPOLL_CLOEXEC);
	setup_tls(argv);
	if (mux && client) {
		int fd = dial();
		trunk = end_new(fd, NULL);
		fcntl(fd, F_SETFL, 0);
		if ((trunk->ssl = tls(fd, false)) == NULL)
			die("handshake");
		fcntl(fd, F_SETFL, O_NONBLOCK);
		trunk->id = UINT32_MAX;
	}
	setup_listener(atoi(argv[3]));
	for (;;) {
		struct epoll_event ev[256];
		int n = epoll_wait(ep, ev, 256, -1);
		for (int i = 0; i < n; i++) {
			struct end *e = ev[i].data.ptr;
			if (e->dead)
				continue;
			if (e->listener)
				on_accept(e);
			else if (e->stalled && ev[i].events & (EPOLLHUP | EPOLLERR))
				bury(e);
			else if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				on_bytes(e);
			if (!e->dead && ev[i].events & EPOLLOUT)
				flush(e);
		}
		for (size_t i = 0; i < n_dirty; i++) {
			dirty[i]->dirty = false;
			if (!dirty[i]->dead)
				flush(dirty[i]);
		}
		n_dirty = 0;
		sweep();
	}
}

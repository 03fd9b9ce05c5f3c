/* SPDX-License-Identifier: Apache-2.0 */
/* conn_tls.c: TLS records between a connection's buffers and its descriptor. OpenSSL reads and writes through a BIO of
 * ours over the descriptor: it first serves the bytes that were read before the handshake, it counts what is read
 * against the turn's budget, and it saves the recv() that would only say EAGAIN. Decrypted bytes land in rx directly. */
#include "lib/conn_impl.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <errno.h>
#include <pthread.h>

#define RECORD_MAX 16384

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;
static int arg_index;
static bool buffers_freeable;

/* --- messages after the handshake --- */

/* A KeyUpdate derives new keys and may ask for one in return, in 22 bytes; OpenSSL sets no limit. Honest peers need one in 2^23 records.
 * Each is up to four steps of OpenSSL's state machine: 16 are free, and one more for each megabyte received. */
#define POST_STEPS_FREE  64
#define POST_STEPS_SHIFT 18

static bool posts_spent(const struct conn *c)
{
	return c->tls_posts > POST_STEPS_FREE + (c->rx_bytes >> POST_STEPS_SHIFT);
}

static void on_info(const SSL *ssl, int where, int value)
{
	struct conn *c = BIO_get_data(SSL_get_rbio(ssl));

	if ((where & SSL_CB_LOOP) && c->state == CONN_OPEN)
		c->tls_posts++;
}

/* OpenSSL's queue of errors must be empty before a call whose result SSL_get_error() explains. It is, nearly always, and ERR_clear_error() goes
 * through all of its 16 places. */
static void forget_errors(void)
{
	if (ERR_peek_error() != 0)
		ERR_clear_error();
}

/* --- the BIO --- */

static int bio_read(BIO *bio, char *p, int len)
{
	struct conn *c = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (len <= 0)
		return 0;
	if (posts_spent(c)) /* a single read would go on and on */
		return -1;
	if (c->pre.len > 0) {
		struct str piece = buf_peek(&c->pre);
		size_t n = MIN(piece.len, (size_t)len);
		memcpy(p, piece.p, n);
		buf_drain(&c->pre, n);
		return (int)n;
	}
	if (c->rx_drained || c->budget == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	size_t want = MIN((size_t)len, c->budget);
	ssize_t n;
	do
		n = recv(c->fd, p, want, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		c->budget -= (uint32_t)n;
		c->rx_drained = (size_t)n < want;
		return (int)n;
	}
	if (n == 0)
		c->tcp_eof = true;
	else if (errno == EAGAIN)
		BIO_set_retry_read(bio);
	else
		c->rx_errno = errno;
	return n == 0 ? 0 : -1;
}

/* A failed write is told to OpenSSL as "try again", so that what the peer sent before can still be read. */
static int bio_write(BIO *bio, const char *p, int len)
{
	struct conn *c = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	if (len <= 0)
		return 0;
	do
		n = send(c->fd, p, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return (int)n;
	if (errno != EAGAIN)
		c->tx_errno = errno;
	BIO_set_retry_write(bio);
	return -1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	const struct conn *c = BIO_get_data(bio);

	if (cmd == BIO_CTRL_EOF)
		return c->tcp_eof;
	return cmd == BIO_CTRL_FLUSH;
}

/* SSL_free_buffers() frees a buffer in use when only a record's header has arrived, before these (CVE-2024-4741). */
static bool free_buffers_is_safe(void)
{
	unsigned minor = OPENSSL_version_minor(), patch = OPENSSL_version_patch();
	static const unsigned fixed[] = {14, 6, 2, 1}; /* 3.0.14, 3.1.6, 3.2.2, 3.3.1 */

	return OPENSSL_version_major() > 3 || minor >= ARRAY_LEN(fixed) || patch >= fixed[minor];
}

static void init(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weft connection");
	MUST(method);
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	arg_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	MUST(arg_index >= 0);
	buffers_freeable = free_buffers_is_safe();
}

int conn_tls_arg_index(void)
{
	pthread_once(&once, init);
	return arg_index;
}

/* --- making --- */

static bool attach(struct conn *c, SSL_CTX *ctx, void *tls_arg, struct err *err)
{
	pthread_once(&once, init);
	ERR_clear_error();
	SSL *ssl = SSL_new(ctx);
	BIO *bio = BIO_new(method);
	if (!ssl || !bio) {
		SSL_free(ssl);
		BIO_free(bio);
		return err_set(err, ERR_TLS, "OpenSSL cannot make a connection: out of memory");
	}
	BIO_set_data(bio, c);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_info_callback(ssl, on_info);
	SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_clear_mode(ssl, SSL_MODE_RELEASE_BUFFERS); /* conn_tls_tidy does it once a turn, not once a record */
	SSL_set_read_ahead(ssl, 1);
	c->ssl = ssl;
	if (!SSL_set_ex_data(ssl, arg_index, tls_arg))
		return err_set(err, ERR_TLS, "OpenSSL cannot keep the connection's argument: out of memory");
	return true;
}

bool conn_tls_client(struct conn *c, const struct conn_dial *d, struct err *err)
{
	if (!attach(c, d->tls, d->tls_arg, err))
		return false;
	SSL_set_connect_state(c->ssl);
	if (d->sni && !SSL_set_tlsext_host_name(c->ssl, d->sni))
		return err_set(err, ERR_INVALID, "\"%s\" cannot be sent as a TLS server name", d->sni);
	if (d->alpn && SSL_set_alpn_protos(c->ssl, d->alpn, (unsigned)d->alpn_len) != 0)
		return err_set(err, ERR_INVALID, "the list of ALPN protocols is malformed");
	return true;
}

bool conn_tls_server(struct conn *c, SSL_CTX *ctx, void *tls_arg, struct err *err)
{
	if (!attach(c, ctx, tls_arg, err))
		return false;
	SSL_set_accept_state(c->ssl);
	return true;
}

/* --- steps --- */

static void drop_certs(STACK_OF(X509) * chain)
{
	while (chain && sk_X509_num(chain) > 0)
		X509_free(sk_X509_pop(chain));
}

/* What the peer was verified with is of no use any more (no session is resumed), but OpenSSL keeps it: 4.5 KB for each certificate that stood
 * behind the peer's own. That one stays, as the session's. */
static void forget_chain(SSL *ssl)
{
	drop_certs(SSL_get_peer_cert_chain(ssl));
	drop_certs(SSL_get0_verified_chain(ssl));
}

enum conn_step conn_tls_handshake(struct conn *c)
{
	ERR_clear_error();
	int ret = SSL_do_handshake(c->ssl);
	c->tls_wants_write = false;
	if (ret == 1) {
		/* TLS 1.3 without post-handshake authentication needs the own key no more: a renewed one shall not stay for its sake. */
		SSL_certs_clear(c->ssl);
		forget_chain(c->ssl);
		return CONN_STEP_DONE;
	}
	if (c->tx_errno)
		return CONN_STEP_FAIL;
	switch (SSL_get_error(c->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		return CONN_STEP_AGAIN;
	case SSL_ERROR_WANT_WRITE:
		c->tls_wants_write = true;
		return CONN_STEP_AGAIN;
	default:
		c->tls_dead = true;
		return CONN_STEP_FAIL;
	}
}

/* Room for what is decrypted already; else a small chunk will do until it is known how much comes. */
#define READ_MIN 1024

enum conn_step conn_tls_fill(struct conn *c)
{
	while (!buf_full(&c->rx)) {
		size_t room, n = 0;
		int waiting = SSL_pending(c->ssl);
		uint8_t *p = buf_reserve(&c->rx, MIN(MAX((size_t)waiting, READ_MIN), RECORD_MAX), &room);

		forget_errors();
		int ret = SSL_read_ex(c->ssl, p, room, &n);
		buf_commit(&c->rx, n);
		c->tls_wants_write = false;
		if (posts_spent(c)) {
			c->tls_dead = true;
			return CONN_STEP_FAIL;
		}
		if (ret == 1)
			continue;
		switch (SSL_get_error(c->ssl, ret)) {
		case SSL_ERROR_ZERO_RETURN:
			return CONN_STEP_END;
		case SSL_ERROR_WANT_READ:
			return CONN_STEP_AGAIN;
		case SSL_ERROR_WANT_WRITE:
			c->tls_wants_write = true;
			return c->tx_errno ? CONN_STEP_FAIL : CONN_STEP_AGAIN;
		default:
			c->tls_dead = true;
			return CONN_STEP_FAIL;
		}
	}
	return CONN_STEP_FULL;
}

/* The next record's bytes, contiguous: in place when one chunk holds them, else gathered. A write that is to be
 * repeated gets the same bytes again (OpenSSL has encrypted them already). */
static struct str gather(struct conn *c)
{
	static _Thread_local uint8_t scratch[RECORD_MAX];
	struct str piece = buf_peek(&c->tx);
	size_t want = c->tx_pending ? c->tx_pending : MIN(c->tx.len, RECORD_MAX), len = 0;
	struct iovec iov[64];

	if (piece.len >= want)
		return str_make(piece.p, want);
	size_t pieces = buf_iov(&c->tx, iov, ARRAY_LEN(iov));
	for (size_t i = 0; i < pieces && len < want; i++) {
		size_t part = MIN(iov[i].iov_len, want - len);
		memcpy(scratch + len, iov[i].iov_base, part);
		len += part;
	}
	return str_make(scratch, len);
}

enum conn_step conn_tls_drain(struct conn *c)
{
	c->write_wants_read = false;
	while (c->tx.len > 0) {
		struct str bytes = gather(c);
		size_t n = 0;

		forget_errors();
		int ret = SSL_write_ex(c->ssl, bytes.p, bytes.len, &n);
		if (ret == 1) {
			c->tx_pending = 0;
			buf_drain(&c->tx, n);
			c->tx_bytes += n;
			continue;
		}
		if (c->tx_errno)
			return CONN_STEP_FAIL;
		c->tx_pending = (uint32_t)bytes.len;
		switch (SSL_get_error(c->ssl, ret)) {
		case SSL_ERROR_WANT_WRITE:
			return CONN_STEP_AGAIN;
		case SSL_ERROR_WANT_READ:
			c->write_wants_read = true;
			return CONN_STEP_AGAIN;
		default:
			c->tls_dead = true;
			return CONN_STEP_FAIL;
		}
	}
	return CONN_STEP_DONE;
}

enum conn_step conn_tls_end(struct conn *c)
{
	if (c->tls_ended || c->tls_dead)
		return CONN_STEP_DONE;
	ERR_clear_error();
	int ret = SSL_shutdown(c->ssl);
	if (ret >= 0) {
		c->tls_ended = true;
		return CONN_STEP_DONE;
	}
	if (c->tx_errno)
		return CONN_STEP_FAIL;
	if (SSL_get_error(c->ssl, ret) == SSL_ERROR_WANT_WRITE)
		return CONN_STEP_AGAIN;
	c->tls_dead = true;
	return CONN_STEP_DONE; /* no close_notify is possible; FIN alone tells the peer that something is missing */
}

bool conn_tls_has_bytes(struct conn *c)
{
	return c->pre.len > 0 || SSL_has_pending(c->ssl);
}

/* Both buffers of a connection (33 KiB) are needed again in its next turn when it is busy, and getting them from malloc costs a twentieth of a
 * request: so many stay, at most, of those of a loop that were used last. */
#define WARM_MAX 8

void conn_tls_cool(struct conn *c)
{
	if (!list_empty(&c->warm))
		loop_warm(c->loop)->n--;
	list_remove(&c->warm);
	if (buffers_freeable && !c->tls_dead && c->tx.len == 0)
		SSL_free_buffers(c->ssl);
}

void conn_tls_tidy(struct conn *c)
{
	struct loop_warm *w = loop_warm(c->loop);
	if (list_empty(&c->warm))
		w->n++;
	list_remove(&c->warm);
	list_push(&w->conns, &c->warm);
	if (w->n > WARM_MAX)
		conn_tls_cool(list_first(&w->conns, struct conn, warm));
}

size_t conn_rest_all(struct loop *loop)
{
	size_t n = 0;
	struct conn *c;
	for (; (c = list_first(&loop_warm(loop)->conns, struct conn, warm)); n++)
		conn_tls_cool(c);
	return n;
}

/* --- why --- */

void conn_tls_error(struct conn *c, const char *what, struct err *err)
{
	char text[ADDR_TEXT_MAX];
	const char *peer = conn_peer_text(c, text), *data = "", *reason = NULL, *refused = NULL;
	int flags = 0;
	unsigned long code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags), next;

	for (next = code; next; next = ERR_get_error())
		if (ERR_GET_LIB(next) == ERR_LIB_SSL && ERR_GET_REASON(next) == SSL_R_CERTIFICATE_VERIFY_FAILED)
			refused = X509_verify_cert_error_string(SSL_get_verify_result(c->ssl));
	if (posts_spent(c)) {
		err_set(err, ERR_LIMIT, "%s %s: it sent too many TLS messages that are not data", what, peer);
		return;
	}
	if (c->tcp_eof) {
		err_set(err, ERR_CLOSED, "%s %s: it closed the connection%s", what, peer,
			c->state == CONN_OPEN ? " without close_notify: what it sent may be cut off" : "");
		return;
	}
	if (code)
		reason = ERR_reason_error_string(code);
	if (!reason)
		reason = "failed for no reason that OpenSSL names";
	if (!(flags & ERR_TXT_STRING) || !data)
		data = "";
	if (refused)
		err_set(err, ERR_TLS, "%s %s: its certificate is refused: %s", what, peer, refused);
	else
		err_set(err, ERR_TLS, "%s %s: %s%s%s%s", what, peer, reason, *data ? " (" : "", data, *data ? ")" : "");
}

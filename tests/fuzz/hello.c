/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz hello: a ClientHello that is peeked at (proxy/detect.c), cut into records anywhere and come so far. Whenever OpenSSL can read
 * it, the verdict is what OpenSSL sees in its ALPN; it does not depend on the records, and before the last byte there is none.
 *
 * An input with an odd first byte is bytes as they are. With an even one it is made into a hello: session id length, number of suites,
 * number of extensions, each as kind, length and bytes, and what is left are the lengths of the records. */
#include "proxy/detect.h"

#include "lib/buf.h"
#include "tests/fuzz/input.h"

#include <openssl/ssl.h>

#define HELLO_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What OpenSSL says is offered: one of ours, DETECT_TLS, or DETECT_MORE when it reads no ClientHello. */
static int on_hello(SSL *ssl, int *alert, void *arg)
{
	enum detected *ret = arg;
	const unsigned char *p;
	size_t n;
	*ret = DETECT_TLS;
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &p, &n) && n >= 2) {
		size_t list = (size_t)p[0] << 8 | p[1];
		for (size_t i = 2; list <= n - 2 && i < list + 2 && *ret == DETECT_TLS && p[i] < list + 2 - i;
		     i += 1u + p[i])
			*ret = str_is(str_make(p + i + 1, p[i]), "weft1-h2")    ? DETECT_MESH_H2
			       : str_is(str_make(p + i + 1, p[i]), "weft1-tcp") ? DETECT_MESH_TCP
										: DETECT_TLS;
	}
	return SSL_CLIENT_HELLO_ERROR;
}

static enum detected openssl_sees(struct str wire)
{
	enum detected seen = DETECT_MORE;
	static SSL_CTX *ctx;
	if (!ctx)
		ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_client_hello_cb(ctx, on_hello, &seen);
	SSL *ssl = SSL_new(ctx);
	SSL_set_bio(ssl, BIO_new_mem_buf(wire.p, (int)wire.len), BIO_new(BIO_s_null()));
	SSL_accept(ssl);
	SSL_free(ssl);
	return seen;
}

/* Only handshake records, none empty, one after the other: other ways to say a hello are nobody's duty to read. */
static bool is_plain(struct str wire)
{
	while (wire.len >= 5) {
		size_t n = (size_t)(uint8_t)wire.p[3] << 8 | (uint8_t)wire.p[4];
		if (wire.p[0] != 22 || wire.p[1] != 3 || n == 0)
			return false;
		n = MIN(n, wire.len - 5);
		wire = str_make(wire.p + 5 + n, wire.len - 5 - n);
	}
	return true;
}

static void put(struct buf *b, size_t bytes, size_t value)
{
	while (bytes-- > 0)
		buf_add(b, &(uint8_t){(uint8_t)(bytes < sizeof(value) ? value >> 8 * bytes : 0)}, 1);
}

static void put_extension(struct buf *exts, struct input *in)
{
	static const char *const lists[] = {"\x8weft1-h2",      "\x9weft1-tcp", "\x2h2",
					    "\x2h2\x8weft1-h2", "\x9weft1-h22", "\x9weft1-tcp\x8weft1-h2"};
	size_t kind = input_byte(in);
	struct str bytes = input_short(in);
	put(exts, 2, kind < 0xf0 ? kind : 16);
	if (kind >= 0xf0) { /* ALPN as it should be, so that the fuzzer need not find its lengths */
		struct str list = str_of(lists[kind % ARRAY_LEN(lists)]);
		put(exts, 2, list.len + 2);
		put(exts, 2, list.len);
		buf_add_str(exts, list);
		return;
	}
	put(exts, 2, bytes.len);
	buf_add_str(exts, bytes);
}

static void make_hello(struct input *in, struct buf *ret)
{
	struct buf exts;
	size_t id = input_byte(in) % 40, suites = 2 * (input_byte(in) % 4), n = input_byte(in) % 8;
	buf_init(&exts, HELLO_MAX);
	while (n-- > 0)
		put_extension(&exts, in);
	size_t odd = input_byte(in); /* now and then the lengths are not right */
	put(ret, 1, 1);
	put(ret, 3, 2 + 32 + 1 + id + 2 + suites + 2 + 2 + exts.len + (odd == 0xff));
	put(ret, 2, 0x0303);
	put(ret, 16, 0), put(ret, 16, odd);
	put(ret, 1, id), put(ret, id, 0);
	put(ret, 2, suites);
	for (size_t i = 0; i < suites; i += 2)
		put(ret, 2, 0x1301);
	put(ret, 2, 0x0100);
	put(ret, 2, exts.len + (odd == 0xfe));
	buf_move(ret, &exts, exts.len);
}

static struct str records(struct buf *hello, struct input *in, struct buf *ret)
{
	while (hello->len > 0) {
		size_t n = input_byte(in);
		n = MIN(n ? n : hello->len, hello->len);
		put(ret, 3, 0x160301), put(ret, 2, n);
		buf_move(ret, hello, n);
	}
	return buf_pullup(ret, ret->len);
}

static void check(struct str wire)
{
	enum detected d = detect_bytes(wire), real = openssl_sees(wire);
	if (real == DETECT_MORE || !is_plain(wire))
		return;
	MUST(d == real);
	/* with one byte less it is the same, or not known yet */
	for (size_t n = 0; n < wire.len; n += 1 + n / 64) {
		enum detected before = detect_bytes(str_make(wire.p, n));
		MUST(before == real || before == DETECT_MORE);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data + 1, size - 1};
	struct buf hello, wire;
	if (size < 1 || size > HELLO_MAX)
		return 0;
	buf_init(&hello, HELLO_MAX);
	buf_init(&wire, HELLO_MAX);
	if (data[0] & 1)
		check(str_make(in.p, in.left));
	else {
		make_hello(&in, &hello);
		check(records(&hello, &in, &wire));
	}
	buf_done(&hello);
	buf_done(&wire);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* tlsctx.h: the SSL_CTXs of the mesh: TLS 1.3 only, mutual, no resumption, tickets, 0-RTT or compression, X25519:P-256, P-256
 * signatures, certificate list at most 16 KiB. Verification is in here: chain and SPIFFE rules (peer.h) and, for a client,
 * the expected server identity, all within the handshake, so that no request byte is sent to the wrong one.
 *
 * In TLS 1.3 a client has finished before the server looked at its certificate: a client's refusal comes to it as an alert on
 * the first read, after on_open. Codecs wait for the peer's first bytes before they count a connection as usable. */
#ifndef WEFT_CERTS_TLSCTX_H
#define WEFT_CERTS_TLSCTX_H

#include "certs/credential.h"

#include <openssl/ssl.h>

#define ALPN_WEFT_H2  "weft1-h2"
#define ALPN_WEFT_TCP "weft1-tcp"
#define ALPN_H2       "h2"

/* Per connection, zeroed by its owner, set as conn_dial.tls_arg / conn_tls_accept's tls_arg; lives as long as the handshake. A server
 * may do without (NULL): tlsctx_peer() tells it who came. A client may not: who says nobody is refused everybody. */
struct tls_peer {
	const char *expect; /* the identity (spiffe://...) that the peer must have; NULL: any of the trust domain */
	struct spiffe id;   /* filled once verified */
	bool verified;
	bool
	    lapsed; /* not verified, only because its certificate has expired within the grace of tlsctx_allow_lapsed() */
	/* Filled when its certificate was refused: ERR_IDENTITY names expected and presented identity, or what the certificate
	 * lacks. ERR_NONE when the handshake failed for another reason (conn's on_fail says which). */
	struct err err;
};

/* alpn: names (ALPN_*) ending with NULL, offered by a client, chosen from by a server in this order; no match or no offer is a
 * fatal alert. NULL: no ALPN of its own (a client may offer per connection: conn_dial.alpn). Holds a reference on the credential.
 * The private key is in no SSL_CTX and no SSL but during a handshake. SSL_CTX_free. `arg_index` is conn_tls_arg_index(). */
SSL_CTX *tlsctx_client(struct credential *c, const char *const *alpn, int arg_index, struct err *err);
SSL_CTX *tlsctx_server(struct credential *c, const char *const *alpn, int arg_index, struct err *err);
/* weftd's port 4810: client certificates asked for and verified when given, not required (Issue has none). tlsctx_peer() says. */
SSL_CTX *tlsctx_server_optional(struct credential *c, const char *const *alpn, int arg_index, struct err *err);
/* A client that has no certificate yet: trusts exactly the root whose SHA-256 stands in its join token (the member of the presented
 * chain that hashes to it and is self-signed becomes the root), and requires an identity `expect` in tls_peer. */
SSL_CTX *tlsctx_bootstrap(const uint8_t root_hash[static 32], const char *const *alpn, int arg_index, struct err *err);
/* `ctx` takes the place of `former`, before it is used: handshakes that begin or go on with former, and with all that it succeeded, show ctx's
 * credential from now on. Nothing else of them changes, and what is open goes on; the former credential has no holder left here. */
void tlsctx_succeed(SSL_CTX *ctx, SSL_CTX *former);
/* Tells fn of every certificate that this context refuses, with what would stand in tls_peer.err: for servers whose connections have
 * no tls_arg. Called within the handshake: fn logs and returns. */
void tlsctx_on_refused(SSL_CTX *ctx, void (*fn)(void *arg, const struct err *why), void *arg);
/* Lets certificates that expired at most grace_s ago through the handshake of this (server) context, for renewal only: tlsctx_peer()
 * is NULL for them, tls_peer.verified false, and only tlsctx_lapsed_peer() answers. */
void tlsctx_allow_lapsed(SSL_CTX *ctx, int64_t grace_s);
const struct tls_peer *tlsctx_lapsed_peer(SSL *ssl);
/* Who the verified peer of a connection is; NULL when it showed no certificate (or none that was accepted). Lives in the SSL,
 * or is what stands at arg_index, which its owner has. */
const struct tls_peer *tlsctx_peer(SSL *ssl, int arg_index);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* tls_pair.h: throw-away TLS contexts for tests: a self-signed P-256 certificate "weft test" and who trusts it. */
#ifndef WEFT_TESTS_TLS_PAIR_H
#define WEFT_TESTS_TLS_PAIR_H

#include <openssl/ssl.h>

struct tls_pair {
	SSL_CTX *server;  /* shows the certificate */
	SSL_CTX *client;  /* trusts exactly that certificate */
	SSL_CTX *doubter; /* a client that trusts nobody */
};

void tls_pair_init(struct tls_pair *p);
void tls_pair_done(struct tls_pair *p);

#endif

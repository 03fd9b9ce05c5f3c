/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h: who this proxy is: the credential in force and the TLS contexts made of it. Renewal swaps both; connections keep
 * what they began with. Fed by the link (Issue), by the supervisor's memfd after a crash, or by -f. */
#ifndef WEFT_PROXY_IDENTITY_H
#define WEFT_PROXY_IDENTITY_H

#include "certs/tlsctx.h"
#include "lib/loop.h"

struct identity;

struct identity *identity_new(void);
void identity_free(struct identity **id);
/* Takes a reference. Builds the contexts; false and err leave the old ones in force. */
bool identity_set(struct identity *id, struct credential *c, struct err *err);
bool identity_ready(const struct identity *id);
const struct credential *identity_credential(const struct identity *id); /* NULL before the first */
/* Contexts; borrowed for the call of conn_open / conn_tls_accept (they take their own references). NULL before the first. */
SSL_CTX *identity_client(const struct identity *id); /* offers what conn_dial.alpn says */
SSL_CTX *identity_server(const struct identity *id); /* weft1-h2, weft1-tcp */

#endif

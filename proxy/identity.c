/* SPDX-License-Identifier: Apache-2.0 */
/* identity.c: the credential in force and the two contexts made of it, swapped together or not at all. The former key
 * is gone then, whatever connections live on. It does not know where credentials come from (join.c, the supervisor, -f) nor when they are
 * renewed. */
#include "proxy/identity.h"

#include "lib/conn.h"
#include "lib/mem.h"

struct identity { /* owns one reference each */
	struct credential *credential;
	SSL_CTX *client, *server;
};

static const char *const client_alpn[] = {ALPN_WEFT_H2,
					  NULL}; /* a dialler that wants another says so (conn_dial.alpn) */
static const char *const server_alpn[] = {ALPN_WEFT_H2, ALPN_WEFT_TCP, NULL};

struct identity *identity_new(void)
{
	return NEW(struct identity);
}

static void drop(struct identity *id)
{
	SSL_CTX_free(id->client);
	SSL_CTX_free(id->server);
	credential_unref(&id->credential);
	id->client = id->server = NULL;
}

void identity_free(struct identity **id)
{
	if (*id)
		drop(*id);
	FREE(id);
}

bool identity_set(struct identity *id, struct credential *c, struct err *err)
{
	MUST(c != NULL);
	SSL_CTX *client = tlsctx_client(c, client_alpn, conn_tls_arg_index(), err);
	SSL_CTX *server = client ? tlsctx_server(c, server_alpn, conn_tls_arg_index(), err) : NULL;
	if (!server) {
		SSL_CTX_free(client);
		return false;
	}
	credential_ref(c);
	if (id->credential) {
		tlsctx_succeed(client, id->client);
		tlsctx_succeed(server, id->server);
	}
	drop(id);
	id->credential = c;
	id->client = client;
	id->server = server;
	return true;
}

bool identity_ready(const struct identity *id)
{
	return id->credential != NULL;
}

const struct credential *identity_credential(const struct identity *id)
{
	return id->credential;
}

SSL_CTX *identity_client(const struct identity *id)
{
	return id->client;
}

SSL_CTX *identity_server(const struct identity *id)
{
	return id->server;
}

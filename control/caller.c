/* SPDX-License-Identifier: Apache-2.0 */
/* caller.c: the certificate of a call's connection. */
#include "control/caller.h"

#include "control/store.h"

const struct spiffe *caller_identity(const struct grpc_call *call)
{
	SSL *ssl = conn_ssl(grpc_call_conn(call));
	const struct tls_peer *peer = ssl ? tlsctx_peer(ssl, conn_tls_arg_index()) : NULL;
	/* Longer names than the store has were never issued: cutting them short would make somebody else of the caller. */
	return peer && peer->verified && peer->id.ns.len < STORE_NS_MAX && peer->id.sa.len < STORE_NS_MAX ? &peer->id
													  : NULL;
}

const struct addr *caller_address(const struct grpc_call *call)
{
	return conn_peer(grpc_call_conn(call));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* caller.h: who calls one of weftd's streaming methods, by its certificate alone. */
#ifndef WEFT_CONTROL_CALLER_H
#define WEFT_CONTROL_CALLER_H

#include "certs/tlsctx.h"
#include "lib/grpc.h"

#define CALLER_NONE_TEXT "this method needs a client certificate of the mesh; get one with Identity/Issue"

/* NULL: the connection shows no valid client certificate of this mesh. Lives in the connection. */
const struct spiffe *caller_identity(const struct grpc_call *call);
const struct addr *caller_address(const struct grpc_call *call);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* issue_call.h: the gRPC method /weft.v1.Identity/Issue: unary, one request, one answer by issue.h. */
#ifndef WEFT_CONTROL_ISSUE_CALL_H
#define WEFT_CONTROL_ISSUE_CALL_H

#include "control/issue.h"

#define ISSUE_PATH "/weft.v1.Identity/Issue"

/* What a grpc_method's on_call does; the server's context has found `is`. The listener's SSL_CTX is tlsctx_server_optional(). */
bool issue_call(struct issue *is, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
		enum grpc_status *ret_status, const char **ret_text);

/* Ends every call in progress: before the server and the issuer are freed. */
void issue_calls_end(struct issue *is);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h: the messages that this proxy answers with itself, in the caller's own terms: status and text of the reason row for HTTP, a gRPC
 * status for gRPC. Pure: they are made here and sent by request.c. */
#ifndef WEFT_PROXY_ANSWER_H
#define WEFT_PROXY_ANSWER_H

#include "lib/http/message.h"
#include "lib/reason.h"

struct answer {
	enum reason reason;
	const char *side;   /* "outbound" or "inbound": which hop answers */
	const char *policy; /* the policy or route that decided; "" when none had a say */
	bool unprocessed;   /* to the other sidecar: the application received no byte of the request */
};

/* A call of gRPC over HTTP/2; gRPC-Web and others take HTTP statuses. */
bool answer_wants_grpc(const struct message *request);
/* A whole answer: m is a response, initialised, without fields. *ret_body stands in its arena; `head_only`: it is left out, its length is said.
 * False when the arena is full. RFC 9110 15. */
bool answer_http(const struct answer *a, bool head_only, struct message *m, struct str *ret_body) MUST_USE;
/* A trailers-only answer: 200, no body, the status in the head. */
bool answer_grpc(const struct answer *a, struct message *m) MUST_USE;
/* The status as trailers, for a call whose answer has begun: m's fields are the trailers. */
bool answer_grpc_trailers(const struct answer *a, struct message *m) MUST_USE;

#endif

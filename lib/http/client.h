/* SPDX-License-Identifier: Apache-2.0 */
/* client.h: a small HTTP client of whole answers, for the CLI (HTTP/2 to weftd's API, HTTP/1.1 to an admin socket). */
#ifndef WEFT_LIB_HTTP_CLIENT_H
#define WEFT_LIB_HTTP_CLIENT_H

#include "lib/http/codec.h"

struct http_call {
	struct conn_dial dial; /* with tls: ALPN h2 is offered; plain and unix: HTTP/1.1 */
	const char *method, *authority, *path;
	const char *content_type; /* NULL: no body */
	const char *bearer;       /* Authorization: Bearer, NULL: none */
	struct str body;
	size_t answer_max;   /* larger answers fail with ERR_LIMIT */
	uint64_t timeout_ms; /* whole call */
};
struct http_answer {
	uint16_t status;
	struct buf body; /* buf_done() by the caller */
	char content_type[64];
};
/* Runs a loop of its own until the answer is there: for programs that do nothing else. False and err otherwise. */
bool http_call_wait(const struct http_call *call, struct http_answer *ret, struct err *err);

#endif

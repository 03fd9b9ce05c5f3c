/* SPDX-License-Identifier: Apache-2.0 */
/* reason.h: every way that a connection or a request can end, as one row each: label, HTTP status, gRPC status, whether the
 * application may have seen it, text. Access log, metric label, x-weft-error and tests use the row. */
#ifndef WEFT_LIB_REASON_H
#define WEFT_LIB_REASON_H

#include "lib/base.h"

enum reason {
#define REASON(name, label, http, grpc, h2, text) REASON_##name,
#include "lib/reason.tbl.h"
#undef REASON
	REASON_COUNT
};

struct reason_row {
	const char *label;
	uint16_t http_status; /* of the answer made here; 0: no answer is possible or due */
	uint8_t grpc_status;
	uint8_t h2_code; /* of RST_STREAM or GOAWAY, RFC 9113 7 */
	const char *text;
};

const struct reason_row *reason_row(enum reason r);
bool reason_from_label(const char *label, enum reason *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* reason.c: the rows of reason.tbl.h as data. */
#include "lib/reason.h"

#include <string.h>

static const struct reason_row rows[REASON_COUNT] = {
#define REASON(name, label_, http, grpc, h2, text_) \
	[REASON_##name] = {.label = label_, .http_status = http, .grpc_status = grpc, .h2_code = h2, .text = text_},
#include "lib/reason.tbl.h"
#undef REASON
};

const struct reason_row *reason_row(enum reason r)
{
	MUST(r < REASON_COUNT);
	return &rows[r];
}

bool reason_from_label(const char *label, enum reason *ret)
{
	for (enum reason r = 0; r < REASON_COUNT; r++) {
		if (strcmp(rows[r].label, label) == 0) {
			*ret = r;
			return true;
		}
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* h2_ids.h: frames on streams that their own sender has ended or passed over (RFC 9113 5.1, 5.1.1). nghttp2 could tell the former only by
 * keeping a hundred closed streams for every connection, and not the latter. Looks at what the client sends alone, so nothing that crosses
 * on the wire can be mistaken. Pure accounting; remembers the last few dozen ids: an older one is ignored as nghttp2 does. */
#ifndef WEFT_LIB_HTTP_H2_IDS_H
#define WEFT_LIB_HTTP_H2_IDS_H

#include "lib/http/h2_track.h"

#define H2_IDS_ENDED 32

struct h2_ids {
	uint32_t last;           /* highest that was opened */
	uint32_t gap_lo, gap_hi; /* what the last jump passed over; 0: nothing */
	uint32_t ended[H2_IDS_ENDED];
	unsigned at;
};

enum h2_ids_says {
	H2_IDS_FINE,
	H2_IDS_CLOSED, /* STREAM_CLOSED: END_STREAM or RST_STREAM came before */
	H2_IDS_UNUSED, /* PROTOCOL_ERROR: passed over, so it can be opened no more */
};

/* The head of a frame has come from the client. */
enum h2_ids_says h2_ids_frame(struct h2_ids *ids, const struct h2_frame_head *f) MUST_USE;

#endif

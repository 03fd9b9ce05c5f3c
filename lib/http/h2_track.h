/* SPDX-License-Identifier: Apache-2.0 */
/* h2_track.h: follows frame boundaries in the bytes of a peer, before nghttp2 sees them. nghttp2 reports no frame that it
 * ignores (unknown types, frames of closed streams) and not when it stands inside a header block; both must be counted and timed.
 * Judges nothing. */
#ifndef WEFT_LIB_HTTP_H2_TRACK_H
#define WEFT_LIB_HTTP_H2_TRACK_H

#include "lib/base.h"

struct h2_frame_head {
	uint32_t length;
	uint32_t stream;
	uint8_t type, flags;
};

struct h2_track {
	uint8_t hd[9];
	uint8_t have;    /* of hd */
	uint8_t preface; /* bytes of the client's preface still to come */
	uint32_t left;   /* payload bytes still to come */
	bool in_headers; /* this frame is HEADERS or CONTINUATION */
	bool last_of_it; /* ... with END_HEADERS */
	bool in_block;   /* a header block has begun and not ended */
	bool in_data;    /* this frame is DATA */
	uint32_t units;  /* frames begun; a header block is one, however many frames it takes */
};

void h2_track_init(struct h2_track *t, bool client_preface);
/* Steps over at most n bytes; returns how many. A frame head that became complete: *ret is filled, *ret_head true, and the
 * step ends behind it. */
size_t h2_track_step(struct h2_track *t, const uint8_t *p, size_t n, bool *ret_head, struct h2_frame_head *ret);
/* Something has begun that its sender should finish in one go: a frame other than DATA, its head, a header block. */
static inline bool h2_track_unfinished(const struct h2_track *t)
{
	return t->in_block || (t->have > 0 && !(t->have == sizeof(t->hd) && t->in_data));
}

#endif

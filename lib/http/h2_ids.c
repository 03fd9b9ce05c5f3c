/* SPDX-License-Identifier: Apache-2.0 */
/* h2_ids.c: see h2_ids.h. */
#include "lib/http/h2_ids.h"

#define TYPE_DATA       0
#define TYPE_HEADERS    1
#define TYPE_RST_STREAM 3
#define FLAG_END_STREAM 1

static bool has_ended(const struct h2_ids *ids, uint32_t id)
{
	for (size_t i = 0; i < H2_IDS_ENDED; i++)
		if (ids->ended[i] == id)
			return true;
	return false;
}

static void opened(struct h2_ids *ids, uint32_t id)
{
	if (id > ids->last + 2) {
		ids->gap_lo = ids->last + 1;
		ids->gap_hi = id - 1;
	}
	ids->last = id;
}

static void ended(struct h2_ids *ids, uint32_t id)
{
	ids->ended[ids->at++ % H2_IDS_ENDED] = id;
}

enum h2_ids_says h2_ids_frame(struct h2_ids *ids, const struct h2_frame_head *f)
{
	bool headers = f->type == TYPE_HEADERS;
	if (f->type == TYPE_RST_STREAM)
		ended(ids, f->stream);
	if ((f->type != TYPE_DATA && !headers) || f->stream % 2 == 0) /* nghttp2 knows what ids of a client are */
		return H2_IDS_FINE;
	/* One that is not open yet has not ended either: its RST_STREAM would have ended the connection. */
	if (f->stream <= ids->last && has_ended(ids, f->stream))
		return H2_IDS_CLOSED;
	if (headers && f->stream >= ids->gap_lo && f->stream <= ids->gap_hi)
		return H2_IDS_UNUSED;
	if (headers && f->stream > ids->last)
		opened(ids, f->stream);
	if (f->flags & FLAG_END_STREAM)
		ended(ids, f->stream);
	return H2_IDS_FINE;
}

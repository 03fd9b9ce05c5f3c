/* SPDX-License-Identifier: Apache-2.0 */
/* h2_track.c: see h2_track.h. RFC 9113 4.1. */
#include "lib/http/h2_track.h"

#include <string.h>

#define TYPE_DATA         0
#define TYPE_HEADERS      1
#define TYPE_CONTINUATION 9
#define FLAG_END_HEADERS  4
#define PREFACE_LEN       24

void h2_track_init(struct h2_track *t, bool client_preface)
{
	*t = (struct h2_track){.preface = client_preface ? PREFACE_LEN : 0};
}

static void payload_ended(struct h2_track *t)
{
	if (t->in_headers)
		t->in_block = !t->last_of_it;
	t->have = 0;
}

static void head_complete(struct h2_track *t, struct h2_frame_head *ret)
{
	ret->length = (uint32_t)t->hd[0] << 16 | (uint32_t)t->hd[1] << 8 | t->hd[2];
	ret->type = t->hd[3];
	ret->flags = t->hd[4];
	ret->stream = (uint32_t)(t->hd[5] & 0x7f) << 24 | (uint32_t)t->hd[6] << 16 | (uint32_t)t->hd[7] << 8 | t->hd[8];
	t->left = ret->length;
	t->in_data = ret->type == TYPE_DATA;
	t->in_headers = ret->type == TYPE_HEADERS || ret->type == TYPE_CONTINUATION;
	t->last_of_it = ret->flags & FLAG_END_HEADERS;
	if (t->in_headers)
		t->in_block = true;
	if (t->left == 0)
		payload_ended(t);
}

size_t h2_track_step(struct h2_track *t, const uint8_t *p, size_t n, bool *ret_head, struct h2_frame_head *ret)
{
	size_t took;
	*ret_head = false;
	if (t->preface) {
		took = MIN(n, t->preface);
		t->preface -= (uint8_t)took;
		return took;
	}
	if (t->left) {
		took = MIN(n, t->left);
		t->left -= (uint32_t)took;
		if (t->left == 0)
			payload_ended(t);
		return took;
	}
	if (t->have == 0 && !t->in_block)
		t->units++;
	took = MIN(n, sizeof(t->hd) - t->have);
	memcpy(t->hd + t->have, p, took);
	t->have += (uint8_t)took;
	if (t->have == sizeof(t->hd)) {
		*ret_head = true;
		head_complete(t, ret);
	}
	return took;
}

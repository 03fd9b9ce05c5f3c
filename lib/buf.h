/* SPDX-License-Identifier: Apache-2.0 */
/* buf.h: bytes in a chain of chunks with a mark. Full means: pause the producer. Chunks are 4 or 16 KiB (small first,
 * so that an idle or chatty connection stays small), come from and go back to a bounded per-thread cache. */
#ifndef WEFT_LIB_BUF_H
#define WEFT_LIB_BUF_H

#include "lib/str.h"

struct buf_chunk;

struct buf {
	struct buf_chunk *head, *tail;
	size_t len;  /* bytes held */
	size_t mark; /* buf_full() from here on; the buffer itself accepts more, its user must stop reading */
};

void buf_init(struct buf *b, size_t mark);
void buf_done(struct buf *b); /* gives the chunks back; may be used again */
static inline bool buf_full(const struct buf *b)
{
	return b->len >= b->mark;
}
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_str(struct buf *b, struct str s);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Room of at least `min` bytes (min <= 16 KiB) at the tail, *ret_room says how much; buf_commit(n) makes n of them part
 * of the buffer. Nothing else may touch the buffer in between. */
uint8_t *buf_reserve(struct buf *b, size_t min, size_t *ret_room);
void buf_commit(struct buf *b, size_t n);
/* The first contiguous piece (len 0 when empty). Valid until the buffer changes. */
struct str buf_peek(const struct buf *b);
/* The first n bytes made contiguous (copied only if they are not); n <= 16 KiB and n <= len. */
struct str buf_pullup(struct buf *b, size_t n);
void buf_drain(struct buf *b, size_t n); /* drops n bytes from the front; n <= len */
/* Moves n bytes from the front of src to the end of dst, whole chunks without a copy. n <= src->len. */
void buf_move(struct buf *dst, struct buf *src, size_t n);
/* Up to max pieces as iovec from the front; returns how many. For writev. */
struct iovec;
size_t buf_iov(const struct buf *b, struct iovec *iov, size_t max);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* buf.c: a chain of chunks. The first is 4 KiB, those behind it 16 KiB. No chunk is ever empty but during a reserve. */
#include "lib/buf.h"

#include "lib/chunk.h"
#include "lib/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/uio.h>

struct buf_chunk {
	struct buf_chunk *next;
	enum chunk_class class;
	uint32_t start, end; /* bytes held: data[start..end) */
};
_Static_assert(sizeof(struct buf_chunk) <= CHUNK_HEADER, "a chunk's header fits before its bytes");

static inline uint8_t *data(const struct buf_chunk *c)
{
	return (uint8_t *)c + CHUNK_HEADER;
}

static inline size_t held(const struct buf_chunk *c)
{
	return c->end - c->start;
}

static inline size_t room(const struct buf_chunk *c)
{
	return chunk_size(c->class) - c->end;
}

static struct buf_chunk *chunk_new(enum chunk_class class)
{
	struct buf_chunk *c = chunk_get(class);

	*c = (struct buf_chunk){.class = class};
	return c;
}

static void append(struct buf *b, struct buf_chunk *c)
{
	if (b->tail)
		b->tail->next = c;
	else
		b->head = c;
	b->tail = c;
}

static void drop_head(struct buf *b)
{
	struct buf_chunk *c = b->head;

	b->head = c->next;
	if (!b->head)
		b->tail = NULL;
	chunk_put(c, c->class);
}

void buf_init(struct buf *b, size_t mark)
{
	*b = (struct buf){.mark = mark};
}

void buf_done(struct buf *b)
{
	while (b->head)
		drop_head(b);
	b->len = 0;
}

uint8_t *buf_reserve(struct buf *b, size_t min, size_t *ret_room)
{
	MUST(min <= chunk_size(CHUNK_16K));
	if (!b->tail || room(b->tail) < MAX(min, 1)) {
		bool small = !b->tail && min <= chunk_size(CHUNK_4K);
		append(b, chunk_new(small ? CHUNK_4K : CHUNK_16K));
	}
	*ret_room = room(b->tail);
	return data(b->tail) + b->tail->end;
}

/* A reserve that came to nothing leaves an empty last chunk behind: give it back. */
static void drop_empty_tail(struct buf *b)
{
	struct buf_chunk *before = NULL;

	if (!b->tail || held(b->tail) > 0)
		return;
	for (struct buf_chunk *c = b->head; c != b->tail; c = c->next)
		before = c;
	chunk_put(b->tail, b->tail->class);
	b->tail = before;
	if (before)
		before->next = NULL;
	else
		b->head = NULL;
}

void buf_commit(struct buf *b, size_t n)
{
	MUST(b->tail && n <= room(b->tail));
	b->tail->end += (uint32_t)n;
	b->len += n;
	if (n == 0)
		drop_empty_tail(b);
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	const uint8_t *from = p;

	while (n > 0) {
		size_t have;
		uint8_t *to = buf_reserve(b, !b->tail && n > chunk_size(CHUNK_4K) ? chunk_size(CHUNK_16K) : 1, &have);
		size_t part = MIN(n, have);

		memcpy(to, from, part);
		buf_commit(b, part);
		from += part;
		n -= part;
	}
}

void buf_add_str(struct buf *b, struct str s)
{
	buf_add(b, s.p, s.len);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	char small[512];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	MUST(len >= 0);
	if ((size_t)len < sizeof(small)) {
		buf_add(b, small, (size_t)len);
		return;
	}
	char *large = mem_alloc((size_t)len + 1);
	va_start(ap, fmt);
	vsnprintf(large, (size_t)len + 1, fmt, ap);
	va_end(ap);
	buf_add(b, large, (size_t)len);
	mem_free(large);
}

struct str buf_peek(const struct buf *b)
{
	if (!b->head)
		return (struct str){0};
	return str_make(data(b->head) + b->head->start, held(b->head));
}

struct str buf_pullup(struct buf *b, size_t n)
{
	MUST(n <= b->len && n <= chunk_size(CHUNK_16K));
	if (n == 0 || held(b->head) >= n)
		return str_make(n ? data(b->head) + b->head->start : NULL, n);

	struct buf_chunk *first = b->head;
	if (chunk_size(first->class) < n) { /* too small: a large one takes its place */
		struct buf_chunk *large = chunk_new(CHUNK_16K);
		memcpy(data(large), data(first) + first->start, held(first));
		large->end = (uint32_t)held(first);
		large->next = first->next;
		chunk_put(first, first->class);
		first = b->head = large;
	} else if (chunk_size(first->class) - first->start < n) {
		memmove(data(first), data(first) + first->start, held(first));
		first->end -= first->start;
		first->start = 0;
	}
	while (held(first) < n) {
		struct buf_chunk *second = first->next;
		size_t part = MIN(n - held(first), held(second));

		memcpy(data(first) + first->end, data(second) + second->start, part);
		first->end += (uint32_t)part;
		second->start += (uint32_t)part;
		if (held(second) > 0)
			continue;
		first->next = second->next;
		if (b->tail == second)
			b->tail = first;
		chunk_put(second, second->class);
	}
	return str_make(data(first) + first->start, n);
}

void buf_drain(struct buf *b, size_t n)
{
	MUST(n <= b->len);
	b->len -= n;
	while (n > 0) {
		size_t part = MIN(n, held(b->head));

		b->head->start += (uint32_t)part;
		n -= part;
		if (held(b->head) == 0)
			drop_head(b);
	}
}

/* Small pieces are copied where the last chunk of dst has room, so that a chain of crumbs does not pin whole chunks. */
#define MOVE_COPY_MAX 512

void buf_move(struct buf *dst, struct buf *src, size_t n)
{
	MUST(n <= src->len && dst != src);
	while (n > 0) {
		struct buf_chunk *c = src->head;
		size_t part = MIN(n, held(c));
		bool crumb = part <= MOVE_COPY_MAX && dst->tail && room(dst->tail) >= part;

		n -= part;
		if (part < held(c) || crumb) {
			buf_add(dst, data(c) + c->start, part);
			buf_drain(src, part);
			continue;
		}
		src->head = c->next;
		if (!src->head)
			src->tail = NULL;
		src->len -= part;
		c->next = NULL;
		append(dst, c);
		dst->len += part;
	}
}

size_t buf_iov(const struct buf *b, struct iovec *iov, size_t max)
{
	size_t n = 0;

	for (struct buf_chunk *c = b->head; c && n < max; c = c->next, n++)
		iov[n] = (struct iovec){.iov_base = data(c) + c->start, .iov_len = held(c)};
	return n;
}

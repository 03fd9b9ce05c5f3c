/* SPDX-License-Identifier: Apache-2.0 */
/* h2_mem.c: see h2_mem.h. libnghttp2 asks for the frame buffer once, when a session is made, before anything else of about that size: 16 KiB of
 * payload, a frame header and a byte of padding, some bytes for itself. Should another version ask differently, small.h serves it and idle
 * sessions cost more. */
#include "lib/http/h2_mem.h"

#include "lib/small.h"

#include <sys/mman.h>

#define FRAME_MIN  ((size_t)16384 + 9)
#define FRAME_SIZE ((size_t)16384 + 4096) /* in whole pages */

/* Under AddressSanitizer everything is malloc's, so that a byte too far is seen. */
#ifdef __SANITIZE_ADDRESS__
static const bool apart = false;
#else
static const bool apart = true;
#endif

static void *take(size_t n, void *arg)
{
	struct h2_mem *m = arg;
	if (!apart || n < FRAME_MIN || n > FRAME_SIZE || m->frame != NULL)
		return small_alloc(n);
	void *p = mmap(NULL, FRAME_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m->frame = p != MAP_FAILED ? p : NULL;
	return m->frame;
}

static void give(void *p, void *arg)
{
	struct h2_mem *m = arg;
	if (p == NULL || p != m->frame) {
		small_free(p);
		return;
	}
	m->frame = NULL;
	munmap(p, FRAME_SIZE);
}

static void *zeroed(size_t n, size_t size, void *arg)
{
	(void)arg;
	size_t all;
	return __builtin_mul_overflow(n, size, &all) ? NULL : small_zalloc(all);
}

static void *again(void *p, size_t n, void *arg)
{
	struct h2_mem *m = arg;
	if (p == NULL) /* nghttp2_buf_reserve() begins so */
		return take(n, arg);
	MUST(p != m->frame || n <= FRAME_SIZE);
	return p == m->frame ? p : small_realloc(p, n);
}

void h2_mem_init(struct h2_mem *m)
{
	*m = (struct h2_mem){
	    .mem = {.mem_user_data = m, .malloc = take, .free = give, .calloc = zeroed, .realloc = again},
	};
}

void h2_mem_rest(struct h2_mem *m)
{
	if (m->frame != NULL)
		madvise(m->frame, FRAME_SIZE, MADV_DONTNEED);
}

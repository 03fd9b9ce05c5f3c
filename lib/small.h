/* SPDX-License-Identifier: Apache-2.0 */
/* small.h: malloc for who asks for the same few small sizes over and over and gives them back soon: nghttp2 (two dozen a request), requests
 * and their streams. calloc(3) of glibc 2.36 never takes from a thread's cache, and that keeps seven blocks of a size.
 * Blocks of up to SMALL_MAX bytes come from free lists of this thread, without a lock or a search; a block may be given back by another thread.
 * Each list keeps at most SMALL_KEPT bytes, so a burst's memory goes back. In sanitizer builds all of it is plain malloc. */
#ifndef WEFT_LIB_SMALL_H
#define WEFT_LIB_SMALL_H

#include "lib/base.h"

#define SMALL_MAX  1024
#define SMALL_KEPT (16 * 1024) /* a class (64, 128, 256, 512, 1024 bytes) and thread */

/* As malloc(3), but never NULL: being out of memory ends the process (lib/mem.h). size 0 is served as 1. */
void *small_alloc(size_t size);
void *small_zalloc(size_t size);
/* As realloc(3). p NULL: small_alloc. */
void *small_realloc(void *p, size_t size);
void small_free(void *p); /* NULL is fine; p is from this file */

#endif

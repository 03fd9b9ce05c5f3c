/* SPDX-License-Identifier: Apache-2.0 */
/* chunk.h: blocks of a few fixed sizes for arenas and buffers, with a small cache a thread so that a busy loop does not
 * go to malloc for each message. At most 64 blocks of each size wait in a thread's cache (1.9 MiB in all); they are
 * freed when the thread ends. Under AddressSanitizer nothing is cached, so that a use after free is seen. */
#ifndef WEFT_LIB_CHUNK_H
#define WEFT_LIB_CHUNK_H

#include "lib/base.h"

/* Usable bytes are these and CHUNK_HEADER for the owner's own bookkeeping. */
#define CHUNK_HEADER 64
enum chunk_class { CHUNK_2K, CHUNK_4K, CHUNK_8K, CHUNK_16K, CHUNK_CLASSES };

static inline size_t chunk_size(enum chunk_class c)
{
	return (size_t)2048 << c;
}

void *chunk_get(enum chunk_class c); /* CHUNK_HEADER + chunk_size(c) bytes, uninitialised; never NULL */
void chunk_put(void *p, enum chunk_class c);

#endif

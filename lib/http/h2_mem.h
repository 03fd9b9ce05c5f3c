/* SPDX-License-Identifier: Apache-2.0 */
/* h2_mem.h: where one nghttp2 session takes its memory from: lib/small.h, but for the buffer of 16 KiB in which it writes frames. That one lies on pages of
 * its own, which an idle connection gives back (they come again, zeroed, when they are next written). */
#ifndef WEFT_LIB_HTTP_H2_MEM_H
#define WEFT_LIB_HTTP_H2_MEM_H

#include "lib/base.h"

#include <nghttp2/nghttp2.h>

/* Embedded in the session; lives as long as the nghttp2 session that was made with `mem`. */
struct h2_mem {
	nghttp2_mem mem;
	void *frame; /* the buffer's pages; NULL: none yet */
};

void h2_mem_init(struct h2_mem *m);
/* Gives the frame buffer's pages back. Only while nghttp2 has nothing to write: what is in the buffer is lost. */
void h2_mem_rest(struct h2_mem *m);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* write.h: HTTP/1 heads, chunks and trailers from neutral messages, pure: the counterpart of parse.h. What parse.h would refuse
 * is not written, whichever codec it came from: a line break in a value can become no second field here. */
#ifndef WEFT_LIB_HTTP_WRITE_H
#define WEFT_LIB_HTTP_WRITE_H

#include "lib/buf.h"
#include "lib/http/message.h"

/* What the codec decided about the connection; the rest is in the message. */
struct http1_plan {
	bool http_1_0;      /* version of the line; else HTTP/1.1 */
	bool close, keep;   /* Connection: close, keep-alive; neither: say nothing */
	bool length;        /* Content-Length: content_length */
	bool chunked;       /* Transfer-Encoding: chunked */
	struct str upgrade; /* Upgrade and its option, when not empty */
	uint64_t content_length;
};

/* Nothing is added to `out` and false returned when a part of the message may not be written as HTTP/1. */
bool http1_write_head(struct buf *out, const struct message *m, const struct http1_plan *plan) MUST_USE;
void http1_write_chunk(struct buf *out, struct str bytes); /* bytes not empty: that would end the body */
/* The last chunk, trailers (NULL: none; those that may not be sent are left out) and the end. */
void http1_write_last_chunk(struct buf *out, const struct fields *trailers);

#endif

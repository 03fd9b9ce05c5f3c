/* SPDX-License-Identifier: Apache-2.0 */
/* http1_read.h: one HTTP/1 message through the parser, in pieces, into words that can be compared. For http1_test.c and the
 * fuzzer of the same name. */
#ifndef WEFT_TESTS_HTTP1_READ_H
#define WEFT_TESTS_HTTP1_READ_H

#include "lib/http/parse.h"
#include "lib/http/write.h"

struct http1_read {
	enum http1_step step;
	enum reason why;
	size_t used;
	struct buf dump, body;
	struct arena arena;
	struct message *m; /* NULL: the head was refused or is not complete */
};

/* The first piece ends at `cut` (0: no such place), the others have step_len bytes. */
void http1_read(struct http1_read *r, struct str in, size_t cut, size_t step_len, bool request,
		struct http1_asked asked);
void http1_read_done(struct http1_read *r);
struct str http1_read_text(struct http1_read *r);
bool http1_read_same(struct http1_read *a, struct http1_read *b);
/* "METHOD scheme authority path 1.1 framing[ length][ close][ expect][ proto=P] {Name: value}..." */
void http1_dump_head(struct buf *d, const struct message *m);
/* What the codec would plan for a message that came in, framing kept. */
struct http1_plan http1_read_plan(const struct message *m);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* parse_impl.h: what parse_text.c (characters, lines), parse_head.c and parse_body.c share. Nobody else includes it. */
#ifndef WEFT_LIB_HTTP_PARSE_IMPL_H
#define WEFT_LIB_HTTP_PARSE_IMPL_H

#include "lib/http/parse.h"

/* Classes of characters, one bit each. */
enum { C_TOKEN = 1, C_VALUE = 2, C_TARGET = 4, C_HOST = 8, C_QUOTED = 16 };

bool http1_char_is(char c, uint8_t class);
bool http1_all(struct str s, uint8_t class); /* every character of it */

/* Case does not matter: `s` against lower-case text of a table. */
static inline bool http1_is_word(struct str s, const char *lower)
{
	return str_ieq(s, str_of(lower));
}

/* What was taken of a piece: whole lines, CRLF included, copied to the arena: the line that had begun, or all that end in
 * this piece up to the first empty one. `max_line` is asked whether a line of n bytes (so far, if it has not ended) may be;
 * the first that may not is never among them and is told by its first bytes. */
struct http1_piece {
	struct str whole; /* lines; empty: none */
	struct str over;  /* p not NULL: this line (or beginning of one) is too long */
	bool no_room;     /* the arena's cap */
};

typedef bool http1_may_fn(const void *ctx, size_t line, size_t bytes_before, size_t n);

void http1_lines_done(struct http1_lines *l); /* frees the line that has not ended; safe twice */
/* Takes from `in`, and returns how many bytes; *ret says what came of them. */
size_t http1_lines_take(struct http1_lines *l, struct str in, http1_may_fn *may, const void *ctx,
			struct http1_piece *ret);
/* Cuts the first line off `rest`, which has one. False: it does not end in CRLF, or has another CR within. */
bool http1_line_cut(struct str *rest, struct str *ret_line);
/* "name: value". False: the name is no token, or the value has control bytes. */
bool http1_field_cut(struct str line, struct str *ret_name, struct str *ret_value);

#endif

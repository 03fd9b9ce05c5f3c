/* SPDX-License-Identifier: Apache-2.0 */
/* h2_head.h: HTTP/2 field lists <-> the neutral message. Receiving: what nghttp2 decoded is checked once more where nghttp2 1.52
 * is lenient, counted against the limits and put into a message. Sending: a message becomes an array of name-value pairs.
 * Knows no streams and no connection. RFC 9113 8. */
#ifndef WEFT_LIB_HTTP_H2_HEAD_H
#define WEFT_LIB_HTTP_H2_HEAD_H

#include "lib/http/codec.h"

#include <nghttp2/nghttp2.h>

#define H2_LIST_MAX (64u << 10) /* SETTINGS_MAX_HEADER_LIST_SIZE; a head that decodes to more is a bomb */

/* One head or one trailer section while it is received. */
struct h2_head {
	struct message *m; /* in the arena; NULL: trailers */
	struct fields trailers;
	struct arena *arena;
	size_t bytes;    /* name + value + 4 of every field, as HTTP/1 would spell it */
	uint32_t n;      /* fields, pseudo ones and cookie crumbs too */
	uint32_t crumbs; /* cookie fields: joined at the end */
	struct str host;
	bool host_seen, authority_seen;
	enum reason bad; /* the first thing that was wrong; REASON_NONE: nothing */
};

/* A message (request or response), or trailers of one. */
void h2_head_begin(struct h2_head *h, struct arena *a, bool request, bool trailers);
void h2_head_field(struct h2_head *h, const struct http_limits *lim, struct str name, struct str value);

enum h2_asked { H2_ASKED_OTHER, H2_ASKED_HEAD, H2_ASKED_CONNECT }; /* the method that a response answers */

/* The field list is complete: whole-message rules and framing. Afterwards h->bad says whether it may be used. */
void h2_head_end(struct h2_head *h, const struct http_limits *lim, bool end_stream, enum h2_asked asked);

/* Name-value pairs ready for nghttp2 (which copies them, but for names that are literals here, and lower-cases the names). */
struct h2_nv {
	nghttp2_nv *v;
	size_t n, cap;
	nghttp2_nv few[64];
	char number[STR_U64_MAX]; /* content-length */
	char status[STR_U64_MAX];
};
/* A tunnel in HTTP/2's terms: CONNECT, or an Upgrade of HTTP/1.1. */
bool h2_is_connect(const struct message *m);
void h2_nv_message(struct h2_nv *nv, const struct message *m);
void h2_nv_fields(struct h2_nv *nv, const struct fields *f); /* trailers */
void h2_nv_done(struct h2_nv *nv);

#endif

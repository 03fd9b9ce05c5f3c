/* SPDX-License-Identifier: Apache-2.0 */
/* parse.h: the grammar of HTTP/1.0 and HTTP/1.1 (RFC 9112), pure: bytes in, messages or a refusal out. No descriptor, no
 * clock, no log. It may be fed in pieces of any size; the pieces never change the result, and no byte is scanned twice.
 *
 * What two readers could understand differently is refused, always with the same answer however the bytes were cut; the
 * rows of tests/unit/lib/http1_test.c list it all. Lenient readings that RFC 9112 allows are not taken, except one empty
 * line before a request line and a status line without the space before an empty reason phrase.
 *
 * The owner's arena holds the message, one copy of its head and its field table. With default limits it never needs more than
 * HTTP1_ARENA_MIN bytes; a smaller cap refuses long heads earlier (REASON_HEAD_TOO_LARGE). */
#ifndef WEFT_LIB_HTTP_PARSE_H
#define WEFT_LIB_HTTP_PARSE_H

#include "lib/http/codec.h"

#define HTTP1_METHOD_MAX    64
#define HTTP1_ARENA_MIN     (128 << 10) /* head 40 KiB, field tables 8 KiB, lists rebuilt, trailers as much again */
#define HTTP1_CHUNK_MAX     ((uint64_t)1 << 62) /* also the largest Content-Length */
#define HTTP1_EXT_CHUNK_MAX (1 << 10)           /* bytes of extensions of one chunk */
#define HTTP1_EXT_ALL_MAX   (16 << 10)          /* and of one message */

enum http1_step { HTTP1_MORE, HTTP1_DONE, HTTP1_BAD };

/* What a response answers: decides how its body is framed (RFC 9112 6.3). */
struct http1_asked {
	bool head, connect;
	struct str upgrade; /* protocols offered; empty: a 101 is a violation */
};

/* A list of lines that end in CRLF, gathered from pieces. A line within one piece is not copied into `part`. */
struct http1_lines {
	struct arena *arena;
	char *part; /* a line that has begun but not ended; heap, at most head_max */
	size_t part_len, part_cap;
	size_t count;    /* lines so far */
	size_t bytes;    /* of those that count */
	bool free_first; /* the first (of a head) has a limit of its own and does not count */
};

struct http1_head {
	struct message *msg; /* in the arena; complete after HTTP1_DONE */
	enum reason why;     /* after HTTP1_BAD; of a response always REASON_UPSTREAM_PROTOCOL */
	const char *what;    /* after HTTP1_BAD: static text for the log */
	/* private */
	const struct http_limits *lim;
	struct http1_asked asked;
	struct http1_lines lines;
	size_t fields;
	struct fields connection, upgrade; /* values of those lines, judged at the end */
	struct str host;
	bool has_host, has_te, te_unknown, te_trailers, blank;
};

void http1_head_init(struct http1_head *h, struct arena *a, const struct http_limits *lim, bool request,
		     const struct http1_asked *asked); /* asked: responses only; must outlive the head */
/* *ret_used of `in` were taken (with HTTP1_MORE: all of it). */
enum http1_step http1_head_feed(struct http1_head *h, struct str in, size_t *ret_used);
void http1_head_done(struct http1_head *h); /* frees what is not in the arena; safe twice */

struct http1_body {
	struct fields trailers; /* after HTTP1_DONE of a chunked body: those that may be passed on */
	enum reason why;
	const char *what;
	/* private */
	const struct http_limits *lim;
	struct http1_lines lines;
	enum http_framing framing;
	bool request;
	uint8_t state; /* enum chunk_state */
	uint8_t digits;
	uint32_t ext_chunk, ext_all;
	uint64_t left; /* bytes of the body or the chunk */
	size_t fields;
};

/* Body of the message m, whose framing says how. FRAMING_NONE is HTTP1_DONE at once. */
void http1_body_init(struct http1_body *b, const struct message *m, const struct http_limits *lim);
/* Takes *ret_used bytes; *ret_data is the part of them that is content (may be empty). HTTP1_MORE may leave bytes of `in`
 * (call again until all are taken); HTTP1_DONE: the message ended with the bytes taken. */
enum http1_step http1_body_feed(struct http1_body *b, struct str in, size_t *ret_used, struct str *ret_data);
void http1_body_done(struct http1_body *b);

/* RFC 9110 5.1 and 5.5, for writers and other codecs. */
bool http1_is_token(struct str s);
bool http1_is_value(struct str s);  /* no CTL but HTAB, no DEL, no white space at the ends */
bool http1_is_phrase(struct str s); /* a reason phrase: white space anywhere */
bool http1_is_target(struct str s); /* visible ASCII, not empty, no '#' */
bool http1_is_protocols(
    struct str s); /* what Upgrade may say: protocol-name ["/" version], one or a list (RFC 9110 7.8) */
/* uri-host [":" port], no userinfo; '%' and ',' are refused though RFC 3986 has them in a reg-name: the first is a second
 * spelling of the same host, the second reads as a list. *ret is the same without an empty port. */
bool http1_authority(struct str s, bool need_port, struct str *ret);
/* Fields that may not stand in trailers (framing, routing, authentication, content: RFC 9110 6.5.1), in any protocol. */
bool http1_trailer_forbidden(struct str name);

#endif

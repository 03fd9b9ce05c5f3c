/* SPDX-License-Identifier: Apache-2.0 */
/* message.h: the neutral HTTP message: what HTTP/1.0, HTTP/1.1 and HTTP/2 have in common plus what must survive the way
 * through a hop (header case, reason phrase, original framing). Every codec reads into it and writes from it: N+M codecs,
 * never N×M. Bodies are not in it; they stream. RFC 9110, 9112, 9113.
 *
 * Text points into the message's arena (or into static memory): valid until the arena is dropped. */
#ifndef WEFT_LIB_HTTP_MESSAGE_H
#define WEFT_LIB_HTTP_MESSAGE_H

#include "lib/arena.h"

enum http_version { HTTP_UNKNOWN, HTTP_1_0, HTTP_1_1, HTTP_2 };

/* How the body is delimited as received; a sender picks what its protocol has. */
enum http_framing {
	FRAMING_NONE,    /* no body: by rule (GET without length, 204, 304, HEAD answer) or END_STREAM on the head */
	FRAMING_LENGTH,  /* content_length bytes */
	FRAMING_CHUNKED, /* chunked, or HTTP/2 DATA without a length */
	FRAMING_CLOSE,   /* HTTP/1 response until the connection closes */
	FRAMING_TUNNEL, /* after 101 or a 2xx to CONNECT: bytes until the end. Of a request: CONNECT or an upgrade; whether
	                  * bytes follow or it has ended (on_end) is known once the final response was sent */
};

struct field {
	struct str name;  /* as it was spelt (HTTP/2: lower case); compare with str_ieq */
	struct str value; /* no leading or trailing white space, no CR, LF, NUL */
};

struct fields {
	struct field *v; /* in the arena */
	size_t len, cap;
};

struct message {
	struct arena *arena;
	bool request; /* else a response */
	enum http_version version;
	enum http_framing framing;
	uint64_t content_length; /* with FRAMING_LENGTH; also kept for answers to HEAD (has_length) */
	bool has_length;
	bool head_only; /* a response to HEAD: no body whatever the fields say */
	/* request */
	struct str method, scheme, authority, path; /* path: origin-form with query, "*", or empty for CONNECT */
	struct str protocol;                        /* of Upgrade / :protocol; empty when none */
	bool absolute_form;                         /* HTTP/1 request target was absolute: sent on as it came */
	bool expect_continue;                       /* "Expect: 100-continue"; the field itself stays in `fields` */
	/* response */
	uint16_t status;
	struct str reason; /* phrase of HTTP/1, may be empty; NULL: the usual one */
	/* both */
	bool close; /* "Connection: close" (or HTTP/1.0 without keep-alive) was said */
	struct fields
	    fields; /* in order; without the connection-specific ones that a codec consumes: Connection and what it
	                          * nominates, Keep-Alive, Proxy-Connection, Transfer-Encoding, Content-Length, TE (but "trailers"),
	                          * Upgrade, HTTP2-Settings, Host (kept in authority) */
};

void message_init(struct message *m, struct arena *a, bool request);
/* False when the arena's cap would be passed. Name and value are copied into the arena unless `borrow`. */
bool message_add(struct message *m, struct str name, struct str value, bool borrow) MUST_USE;
const struct field *message_find(const struct message *m, struct str name); /* first with this name */
void message_drop(struct message *m, struct str name);                      /* all with this name */
void message_drop_prefix(struct message *m, struct str prefix);             /* all whose name begins so (x-weft-) */
/* The same with a literal: its length is known when it is compiled. */
static inline const struct field *message_get(const struct message *m, const char *name)
{
	return message_find(m, str_of(name));
}
static inline void message_del(struct message *m, const char *name)
{
	message_drop(m, str_of(name));
}
bool fields_add(struct fields *f, struct arena *a, struct str name, struct str value, bool borrow) MUST_USE;
bool http_status_has_body(uint16_t status);      /* not 1xx, 204, 304 */
const char *http_reason_phrase(uint16_t status); /* RFC 9110 15; "" when unknown */

#endif

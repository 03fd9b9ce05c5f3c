/* SPDX-License-Identifier: Apache-2.0 */
/* detect.h: what a connection's first bytes say, the client's and the server's. Pure: looks at bytes, keeps nothing, fails on nothing.
 * Contract (docs/hop.md).
 * RFC 8446 4.1.2 (ClientHello), RFC 9113 3.4 (preface), RFC 9112 3 (request line). */
#ifndef WEFT_PROXY_DETECT_H
#define WEFT_PROXY_DETECT_H

#include "lib/str.h"

enum detected {
	DETECT_MORE,     /* cannot tell yet: more bytes */
	DETECT_HTTP1,    /* a request line */
	DETECT_HTTP2,    /* the HTTP/2 preface */
	DETECT_MESH_H2,  /* ClientHello that offers weft1-h2 */
	DETECT_MESH_TCP, /* ClientHello that offers weft1-tcp */
	DETECT_TLS,      /* a ClientHello of the application's own */
	DETECT_OPAQUE,   /* none of these */
};

#define DETECT_BYTES_MAX 16384 /* a ClientHello longer than this is taken for the application's own TLS */

/* first: all bytes that have come so far, contiguous. */
enum detected detect_bytes(struct str first);
const char *detected_name(enum detected d);

/* What a server says before its client has said anything. */
enum heard {
	HEARD_NOTHING,
	HEARD_MORE, /* cannot tell yet */
	HEARD_HTTP, /* what an HTTP server says to who is silent, and thus no evidence: SETTINGS (gRPC servers: at once), or a 408 */
	HEARD_SPEECH, /* anything else: a protocol in which the server speaks first */
	HEARD_END,    /* it ended without a word */
};
#define HEARD_BYTES 16 /* so many are enough to tell */

enum heard detect_server(struct str first, bool eof);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* reason.tbl.h: every way that a request or a connection can end.
 *     name             label              http grpc h2   text
 * http 0: no answer is made (the connection or stream is cut). grpc: google.rpc code. h2: RFC 9113 section 7. */
REASON(NONE, "ok", 0, 0, 0, "ended in order")
/* the client's message */
REASON(BAD_REQUEST, "bad_request", 400, 13, 1, "the request is malformed or ambiguous")
REASON(URI_TOO_LONG, "uri_too_long", 414, 13, 1, "the request target is longer than 8 KiB")
REASON(HEAD_TOO_LARGE, "head_too_large", 431, 8, 11, "the header fields are larger than the limit")
REASON(BODY_TOO_LARGE, "body_too_large", 413, 8, 8, "the body is larger than the limit")
REASON(HEAD_TIMEOUT, "head_timeout", 408, 4, 8, "the request head did not arrive in time")
REASON(BAD_VERSION, "bad_version", 505, 12, 1, "the HTTP version is not supported")
REASON(EXPECTATION, "expectation", 417, 13, 1, "the expectation is not understood")
REASON(UNKNOWN_CODING, "unknown_coding", 501, 12, 1, "the transfer coding is not supported")
REASON(CLIENT_GONE, "client_gone", 0, 1, 8, "the client went away before the end")
REASON(IDLE, "idle", 0, 14, 8, "nothing happened for the idle time")
REASON(FLOOD, "flood", 0, 8, 11, "the peer sent too many odd or empty frames")
REASON(PEER_PROTOCOL, "peer_protocol", 0, 13, 1, "the peer broke the protocol")
/* where it wanted to go */
REASON(NO_ORIGDST, "no_origdst", 0, 14, 2, "no original destination: not a captured connection")
REASON(OWN_PORT, "own_port", 0, 14, 7, "the proxy's own ports are not reachable through it")
REASON(UNKNOWN_ADDRESS, "unknown_address", 502, 14, 7, "the address is inside the mesh but nothing is known of it")
REASON(CONFIG_TIMEOUT, "config_timeout", 503, 14, 7, "the control plane did not say in time what is at this address")
REASON(NO_PORT, "no_port", 502, 14, 7, "the service has no such port")
REASON(NO_ROUTE, "no_route", 404, 12, 7, "no rule of the routes matches the request")
REASON(NO_BACKEND, "no_backend", 500, 14, 7, "the route leads to no backend: none is given, none has weight, or it is missing")
REASON(DENIED, "denied", 403, 7, 7, "authorization policy denies")
REASON(NOT_READY, "not_ready", 503, 14, 7, "the proxy has no configuration or identity yet")
/* the way there */
REASON(NO_HEALTHY, "no_healthy", 503, 14, 7, "no endpoint")
REASON(CONNECT_FAIL, "connect_fail", 503, 14, 7, "could not connect upstream")
REASON(CONNECT_TIMEOUT, "connect_timeout", 503, 14, 7, "connecting upstream took too long")
REASON(UPSTREAM_UNTRUSTED, "upstream_untrusted", 502, 14, 7, "the upstream's certificate is not the expected identity")
REASON(PEER_UNTRUSTED, "peer_untrusted", 0, 16, 7, "the peer's certificate was refused")
REASON(TLS_FAILED, "tls_failed", 503, 14, 7, "the TLS handshake failed")
REASON(UPSTREAM_RESET, "upstream_reset", 502, 14, 2,
       "the upstream closed the connection before the response was complete")
REASON(UPSTREAM_PROTOCOL, "upstream_protocol", 502, 13, 2, "the upstream's response is malformed")
REASON(NO_UPGRADE, "no_upgrade", 501, 12, 10, "the application does not take this upgrade")
REASON(REFUSED, "refused", 503, 14, 7, "the upstream refused the stream unprocessed")
REASON(TIMEOUT, "timeout", 504, 4, 8, "the request timed out")
REASON(SILENT, "silent", 504, 4, 8, "the endpoint answered nothing for a while, another one was asked")
REASON(OVERFLOW, "overflow", 503, 8, 7, "a limit of connections or pending requests is reached")
REASON(OVERLOAD, "overload", 503, 8, 7, "the proxy is short of memory or descriptors")
/* ours */
REASON(DRAINING, "draining", 503, 14, 7, "the proxy is stopping")
REASON(NOT_FOUND, "not_found", 404, 5, 0, "no such page")
REASON(METHOD, "method", 405, 12, 0, "the method is not allowed here")
REASON(INTERNAL, "internal", 500, 13, 2, "internal error")

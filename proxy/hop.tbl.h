/* SPDX-License-Identifier: Apache-2.0 */
/* hop.tbl.h: the x-weft-* fields that carry over the hop what HTTP/2 cannot say. Contract; docs/hop.md is the prose.
 * HOP_FIELD(name, field, carried by, meaning) */
HOP_FIELD(CASE,        "x-weft-case",        "request, response", "spelling of field names: t or l, then exceptions")
HOP_FIELD(VERSION,     "x-weft-version",     "request, response", "1.0 or 2: what it came as, when not HTTP/1.1")
HOP_FIELD(REASON,      "x-weft-reason",      "response",          "reason phrase other than the usual one, percent-encoded")
HOP_FIELD(FRAMING,     "x-weft-framing",     "response",          "close: the body ended with the connection")
HOP_FIELD(CLOSE,       "x-weft-close",       "request, response", "1: Connection: close was said")
HOP_FIELD(TARGET,      "x-weft-target",      "request",           "absolute: the request target was in absolute form; none: no Host")
HOP_FIELD(UPGRADE,     "x-weft-upgrade",     "response",          "the Upgrade field of a 426, or the protocol that a 101 chose")
HOP_FIELD(DECLINED,    "x-weft-declined",    "response",          "no tunnel although it is a 2xx: its length, or - for none told")
HOP_FIELD(UNPROCESSED, "x-weft-unprocessed", "response",          "1: the application received no byte of the request")
HOP_FIELD(ERROR,       "x-weft-error",       "response",          "hop;cause;policy: the answer was made by a proxy")

/* SPDX-License-Identifier: Apache-2.0 */
/* hop.h: the message as it travels between sidecars. Encoding adds the x-weft-* fields of hop.tbl.h, decoding takes them out
 * and restores what they say. Nothing else in the proxy knows their names. Contract: docs/hop.md. */
#ifndef WEFT_PROXY_HOP_H
#define WEFT_PROXY_HOP_H

#include "lib/http/message.h"
#include "lib/reason.h"

/* What an application or a peer outside the mesh may not say: every x-weft-* field goes, whatever its case. */
void hop_strip(struct message *m);
/* A trailer that may not pass: x-weft-*, but for the x-weft-error of a sidecar that had to end an answer. */
bool hop_bars_trailer(struct str name, bool from_sidecar);
/* Before sending over the mesh. False when the message's arena is full. */
bool hop_encode(struct message *m) MUST_USE;
/* After receiving from the mesh; all x-weft-* fields are gone then. *ret_unprocessed (may be NULL): the peer said so.
 * x-weft-error is kept on responses (the application shall see who answered). False when the arena is full. */
bool hop_decode(struct message *m, bool *ret_unprocessed) MUST_USE;
/* x-weft-error for an answer made here: "outbound;no_healthy;shop/orders". */
bool hop_add_error(struct message *m, const char *hop, enum reason cause, const char *policy) MUST_USE;
/* Of a decoded response: what x-weft-error names as the cause; REASON_NONE: the application made it; REASON_INTERNAL: a cause that we do
 * not know. */
enum reason hop_cause(const struct message *m);
bool hop_add_unprocessed(struct message *m) MUST_USE;
/* Of a 2xx to an upgrade that the application ignored: over HTTP/2 it would say that the tunnel stands. Before hop_encode(). */
bool hop_add_declined(struct message *m) MUST_USE;

#endif

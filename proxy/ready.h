/* SPDX-License-Identifier: Apache-2.0 */
/* ready.h: may this worker be given traffic? */
#ifndef WEFT_PROXY_READY_H
#define WEFT_PROXY_READY_H

#include "proxy/config.h"
#include "proxy/identity.h"
#include "proxy/link.h"

/* A certificate, a configuration, and weftd (NULL: with -f) does not object. False: why, in words. */
bool ready_now(const struct identity *id, const struct config *c, const struct link *l, struct err *why);
/* The same for the successor of a worker that serves: also registered as that one is, unless weftd is away. */
bool ready_to_succeed(const struct identity *id, const struct config *c, const struct link *l, struct err *why);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* keep.h: the last good configuration on disk, so that a worker that starts while weftd is away goes on with what was in
 * force. Written at most once a second, atomically; a damaged file is as good as none. */
#ifndef WEFT_PROXY_KEEP_H
#define WEFT_PROXY_KEEP_H

#include "lib/loop.h"
#include "proxy/config.h"

#define KEEP_NAME "config"
#define KEEP_MAX  (64u << 20) /* bytes of the file; more is not written */

struct keep;

/* Feeds `c` with what the directory holds, then follows its changes. Both must outlive it. */
struct keep *keep_new(struct loop *loop, struct config *c, const char *dir);
void keep_free(struct keep **k);    /* writes what is not yet written */
void keep_discard(struct keep **k); /* does not: another process keeps the file now */

#endif

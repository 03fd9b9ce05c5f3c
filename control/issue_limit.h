/* SPDX-License-Identifier: Apache-2.0 */
/* issue_limit.h: how often a source address may be refused: 20 at once, then one in 3 s. A bounded table: what was refused
 * longest ago makes room. It keeps floods away from signatures and disk; secrets have 256 bits and need no such help. */
#ifndef WEFT_CONTROL_ISSUE_LIMIT_H
#define WEFT_CONTROL_ISSUE_LIMIT_H

#include "lib/sock.h"

#define ISSUE_LIMIT_BURST   20
#define ISSUE_LIMIT_EACH_MS 3000
#define ISSUE_LIMIT_SOURCES 1024

struct issue_limit;

struct issue_limit *issue_limit_new(void);
void issue_limit_free(struct issue_limit **l);
/* 0: may ask; otherwise milliseconds until it may. An IPv6 source stands for its /64. */
uint64_t issue_limit_wait_ms(struct issue_limit *l, const struct ip *from, uint64_t now_ms);
void issue_limit_refused(struct issue_limit *l, const struct ip *from, uint64_t now_ms);
size_t issue_limit_sources(const struct issue_limit *l);

#endif

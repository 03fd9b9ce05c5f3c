/* SPDX-License-Identifier: Apache-2.0 */
/* list.h: the explicit list of ports that capture in the machine's own network namespace takes; which ports can never be on it. Knows no
 * kernel: that nothing else is captured is kept by the programs (WEFT_LISTED in state.h). */
#ifndef WEFT_BPF_LIST_H
#define WEFT_BPF_LIST_H

#include "bpf/spec.h"

/* `host`: why the namespace is taken for the machine's own (struct netns), NULL: it is a workload's. On a host: there is a list, and nothing on
 * it locks the operator or Weft itself out (ERR_INVALID). Elsewhere: none of its options was given, since everything is captured there
 * (ERR_UNSUPPORTED). */
bool list_check(const struct spec *s, const char *host, struct err *err);
bool list_has_cidrs(const struct spec *s); /* outbound is narrowed to --capture-out-cidrs */
/* A number for who it is and what is captured: equal for equal lists in any order. */
uint64_t list_sum(const struct spec *s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* gone.h: taking workloads out: those that the operator detaches and those whose network namespace is no more. */
#ifndef WEFT_BPF_GONE_H
#define WEFT_BPF_GONE_H

#include "bpf/node.h"
#include "bpf/workload.h"

/* Leftovers of namespaces that have ended, and of an exec or detach that was killed. Takes the node's lock for granted. Says nothing: what cannot be removed now is tried the next time. */
void gone_collect(const struct node *n);

/* `weft-capture detach`: by --name, --all, or the namespace that it runs in; prints what was removed. `err` must not be NULL. */
bool gone_run(const struct options *o, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* gone.h: taking workloads out: those that the operator detaches and those whose network namespace is no more. */
#ifndef WEFT_BPF_GONE_H
#define WEFT_BPF_GONE_H

#include "bpf/node.h"
#include "bpf/workload.h"

/* Rows, links and pins of one namespace; its connections are plain from then on, those that the proxy carries go on. */
bool gone_detach(const struct node *n, const struct maps *m, uint64_t cookie, struct err *err);
/* Every workload, and then the shared programs and maps. */
bool gone_detach_all(const struct node *n, struct err *err);
/* Leftovers of namespaces that have ended. Says nothing: what cannot be removed now is tried the next time. */
void gone_collect(const struct node *n);

/* `weft-capture detach`: by --name, --all, or the namespace that it runs in. `err` must not be NULL. */
bool gone_run(const struct options *o, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* exec.h: `weft-capture exec [options] -- weft-proxy ...`: meshes this network namespace and becomes the proxy. */
#ifndef WEFT_BPF_EXEC_H
#define WEFT_BPF_EXEC_H

#include "bpf/options.h"

/* Returns only on failure. Once the namespace is meshed it stays so: then nothing passes until another exec, or detach. */
bool exec_run(const struct options *o, struct err *err);

#endif

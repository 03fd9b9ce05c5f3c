/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: `weft-capture status`: the workloads of this machine, what was counted for them, and the programs in force. */
#ifndef WEFT_BPF_STATUS_H
#define WEFT_BPF_STATUS_H

#include "bpf/options.h"

bool status_run(const struct options *o, struct err *err);

#endif

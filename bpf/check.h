/* SPDX-License-Identifier: Apache-2.0 */
/* check.h: `weft-capture check`: whether capture works on this machine and in this namespace, and what would undermine it. */
#ifndef WEFT_BPF_CHECK_H
#define WEFT_BPF_CHECK_H

#include "bpf/options.h"

/* Prints a line for each row; false (code ERR_UNSUPPORTED) when one of them forbids capture. Changes nothing. */
bool check_run(const struct options *o, struct err *err);

#endif

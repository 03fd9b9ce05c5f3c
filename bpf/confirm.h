/* SPDX-License-Identifier: Apache-2.0 */
/* confirm.h: `weft-capture confirm`: an attach to the machine's own namespace stays. */
#ifndef WEFT_BPF_CONFIRM_H
#define WEFT_BPF_CONFIRM_H

#include "bpf/options.h"

/* By --name, --all, or the namespace that it runs in; says what stays. False when one of them cannot be confirmed: the deadline has passed
 * (ERR_CONFLICT), its proxy does not run (ERR_CONFLICT), or it is not attached (ERR_NOT_FOUND). `err` must not be NULL. */
bool confirm_run(const struct options *o, struct err *err);

#endif

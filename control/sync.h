/* SPDX-License-Identifier: Apache-2.0 */
/* sync.h: what is applied, from the store into compile.h: everything at the start, then each change as it is committed. */
#ifndef WEFT_CONTROL_SYNC_H
#define WEFT_CONTROL_SYNC_H

#include "control/compile.h"

struct sync;

/* Loads everything; false and err when the store cannot be read: nothing may be pushed then. */
struct sync *sync_new(struct store *store, struct compile *compile, struct err *err);
void sync_free(struct sync **s);

#endif

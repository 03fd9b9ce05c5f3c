/* SPDX-License-Identifier: Apache-2.0 */
/* slow_writer.h: another thread with a connection of its own, within a transaction that writes the Service shop/slow. One at a time. */
#ifndef WEFT_TESTS_SLOW_WRITER_H
#define WEFT_TESTS_SLOW_WRITER_H

#include "control/store.h"

/* Returns when it is within its transaction. */
void slow_writer_begin(struct store *store);
/* It may commit. Any thread. */
void slow_writer_let_go(void);
/* Waits until it has, and closes its connection. */
void slow_writer_join(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* store_world.h: weftd's store for fuzzers, the same at the start of every input. */
#ifndef WEFT_TESTS_FUZZ_STORE_WORLD_H
#define WEFT_TESTS_FUZZ_STORE_WORLD_H

#include "certs/ca.h"
#include "control/store.h"

#define STORE_WORLD_TD "weft.test"

/* The one store, in memory (/dev/shm), with that CA and nothing else in it. Closing it empties it again; one at a time. */
struct store *store_world_open(void);
void store_world_close(struct store **s);
const struct ca_material *store_world_ca(void);

#endif

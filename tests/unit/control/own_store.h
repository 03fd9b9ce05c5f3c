/* SPDX-License-Identifier: Apache-2.0 */
/* own_store.h: a store in a folder of its own, for one test at a time. */
#ifndef WEFT_TESTS_OWN_STORE_H
#define WEFT_TESTS_OWN_STORE_H

#include "control/store.h"

/* What it is made with: mesh.test, the ranges of virtual addresses and 10.1.0.0/16; keys that sign nothing ("abc", "def", "ghi", "jkl"). */
struct store_mesh own_store_mesh(void);
struct ca_material own_store_ca(void);

/* Makes it, opens it; the test fails when that does. The caller's until own_store_drop(). */
struct store *own_store_make(void);
const char *own_store_path(void);
/* Closes and opens it again. */
void own_store_reopen(struct store **s);
/* Closes it and removes the folder. */
void own_store_drop(struct store **s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* checked.h: one object of YAML text through object_check(), for the suites of kinds. */
#ifndef WEFT_TESTS_CHECKED_H
#define WEFT_TESTS_CHECKED_H

#include "control/document.h"
#include "control/kind.h"

/* What the last check_yaml() left: the object, or the error. */
extern struct checked {
	struct documents docs;
	struct object object;
	struct err err;
} checked;

/* Whether it is taken, in the namespace "default" unless it names one. */
bool check_yaml(const char *yaml);
void checked_done(void); /* teardown */

#endif

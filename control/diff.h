/* SPDX-License-Identifier: Apache-2.0 */
/* diff.h: two texts compared line by line, as `diff -u` shows it. Knows no objects. */
#ifndef WEFT_CONTROL_DIFF_H
#define WEFT_CONTROL_DIFF_H

#include "lib/base.h"

#include <stdio.h>

struct diff_colours {
	const char *removed, *added, *plain; /* escape sequences; "" for none */
};
/* Prints hunks with three lines around each change; nothing when the texts are equal. Returns how many lines differ. Texts of
 * which more than some thousand lines differ are shown as all removed, then all added. */
size_t diff_print(FILE *out, const char *before, const char *after, const struct diff_colours *colours);

#endif

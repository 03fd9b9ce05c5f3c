/* SPDX-License-Identifier: Apache-2.0 */
/* base.c: the end of a program whose own guarantee did not hold. */
#include "lib/base.h"

#include <stdio.h>
#include <stdlib.h>

void must_fail(const char *cond, const char *file, int line, const char *func)
{
	fprintf(stderr, "%s:%d: %s: MUST(%s) does not hold\n", file, line, func, cond);
	abort();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.h: "did you mean": the name of a list that is nearest to what somebody typed. */
#ifndef WEFT_CONTROL_NEAREST_H
#define WEFT_CONTROL_NEAREST_H

#include <stddef.h>

/* at(i) gives the names, NULL behind the last. NULL when none is near enough to help. */
const char *nearest(const char *typed, const char *(*at)(size_t i));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_out.h: JSON trees as YAML, such that every reader of YAML 1.1 and 1.2 reads back the same. */
#ifndef WEFT_CONTROL_YAML_OUT_H
#define WEFT_CONTROL_YAML_OUT_H

#include "lib/base.h"

#include <jansson.h>
#include <stdio.h>

/* Each tree is a document of its own; "---" stands between them. False when out refuses. */
bool yaml_write(FILE *out, json_t *const *roots, size_t n);

#endif

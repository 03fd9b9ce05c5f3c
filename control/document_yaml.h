/* SPDX-License-Identifier: Apache-2.0 */
/* document_yaml.h: from libyaml's events to JSON trees, for document.c alone. */
#ifndef WEFT_CONTROL_DOCUMENT_YAML_H
#define WEFT_CONTROL_DOCUMENT_YAML_H

#include "lib/err.h"
#include "lib/str.h"

#include <jansson.h>

/* Calls `each` for every document that is not empty (root is borrowed; take a reference to keep it); it returns false and err
 * to stop. Errors begin with "line:column: ". */
bool yaml_read(struct str text, bool (*each)(void *ctx, json_t *root, unsigned line, struct err *err), void *ctx,
	       struct err *err);

#endif

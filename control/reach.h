/* SPDX-License-Identifier: Apache-2.0 */
/* reach.h: which services an object is about: those whose resources change when it does. */
#ifndef WEFT_CONTROL_REACH_H
#define WEFT_CONTROL_REACH_H

#include "lib/base.h"

#include <jansson.h>

/* Adds "namespace/name" of each service that the object touches to the set `services` (an object; values are of no meaning).
 * body NULL: not known (deleted), its own name counts. */
void reach_add(json_t *services, const char *kind, const char *ns, const char *name, const json_t *body);

#endif

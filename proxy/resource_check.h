/* SPDX-License-Identifier: Apache-2.0 */
/* resource_check.h: what may stand in each pushed message. Called by resource.c only. */
#ifndef WEFT_PROXY_RESOURCE_CHECK_H
#define WEFT_PROXY_RESOURCE_CHECK_H

#include "proxy/resource.h"

#include <protobuf-c/protobuf-c.h>

bool resource_check(const struct resource_from *from, const ProtobufCMessage *m, struct err *err);
bool resource_name_valid(struct str name); /* "namespace/name" */

#endif

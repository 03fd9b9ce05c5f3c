/* SPDX-License-Identifier: Apache-2.0 */
/* file.h: -f and -t: a proxy's whole configuration and identity from one JSON file, without a control plane. What stands in
 * it goes through the same checks as what weftd pushes. Format: docs of `weft-proxy -f`. */
#ifndef WEFT_PROXY_FILE_H
#define WEFT_PROXY_FILE_H

#include "lib/err.h"

#define CONFIG_FILE_MAX (16u << 20) /* bytes of the file */

struct config;
struct identity;

/* Reads, checks and applies all of it, or nothing is promised about `c` and `id`: at start only. Both NULL: checks alone (-t).
 * `id` may be left without a credential when the file names none. False and err: "FILE: services[1].ports[0].port: ...". */
bool config_file_load(const char *path, struct config *c, struct identity *id, struct err *err);

#endif

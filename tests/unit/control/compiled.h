/* SPDX-License-Identifier: Apache-2.0 */
/* compiled.h: a compile.h of its own for one test at a time, and the resources that it has made: what a proxy would get. */
#ifndef WEFT_TESTS_COMPILED_H
#define WEFT_TESTS_COMPILED_H

#include "control/compile.h"

#include <check.h>

extern struct compiled {
	struct compile *c;
	size_t n_there;                         /* resources */
	unsigned sets, removes, warns, dirties; /* hooks that were called; a set that changes nothing does not count */
} compiled;

void compiled_setup(void);
void compiled_teardown(void);

/* Addresses of a service, as compiled_apply() takes them. */
#define VIPS "[\"240.0.0.1\", \"fd77:6566:7400:1::1\"]"

/* As the store would have it: checked, normalised, with the addresses that the store gives (JSON, NULL: none). */
void compiled_apply(const char *text, const char *vips);
/* All but the first `n` resources that are there. */
void compiled_forget(size_t n);
void compiled_delete(const char *kind, const char *name);

bool compiled_is_there(enum pushed_type type, const char *key);
/* The resource, which must be there. */
const struct pushed *compiled_there(enum pushed_type type, const char *key);
/* The message inside, unpacked by its descriptor. */
void *compiled_open(const struct pushed *r, const ProtobufCMessageDescriptor *d);
#define DONE(m) protobuf_c_message_free_unpacked(&(m)->base, NULL)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* kind_field.h: checks of single fields that several kinds share. Each names path, value and what was expected. */
#ifndef WEFT_CONTROL_KIND_FIELD_H
#define WEFT_CONTROL_KIND_FIELD_H

#include "lib/json.h"
#include "lib/sock.h"

/* "path: text" with the path of `name` (NULL: of `at` itself). Returns false. */
bool field_bad(const struct jpath *at, const char *name, struct err *err, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* A port number, 1 to 65535. Absent: untouched, unless required. */
bool field_port(const json_t *obj, const char *name, bool required, const struct jpath *at, uint16_t *ret,
		struct err *err);
/* A name by its rules: DNS label (63), or DNS subdomain (253). */
bool field_label(const char *value, const struct jpath *at, const char *name, struct err *err);
bool field_subdomain(const char *value, const struct jpath *at, const char *name, struct err *err);
/* One of the words (NULL-terminated), else refused with all of them named. Absent: untouched. */
bool field_word(const json_t *obj, const char *name, const char *const *words, const struct jpath *at, const char **ret,
		struct err *err);
/* Refuses the fields that Kubernetes has and Weft does not have yet (NULL-terminated). */
bool field_none_of(const json_t *obj, const char *const *names, const struct jpath *at, struct err *err);
/* An address as text; refused when it can be nobody's endpoint or virtual address (loopback, multicast, link-local, 0). */
bool field_ip(const char *value, const struct jpath *at, struct ip *ret, struct err *err);
/* A map of label keys to values. */
bool field_labels(const json_t *labels, const struct jpath *at, struct err *err);
/* A map of label keys to any text. */
bool field_annotations(const json_t *annotations, const struct jpath *at, struct err *err);
/* Copies a field when it is there and not null. */
void field_copy(json_t *to, const json_t *from, const char *name);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* base.h: what every file of Weft may use: assertions, attributes, small macros. Knows nothing of meshes. */
#ifndef WEFT_LIB_BASE_H
#define WEFT_LIB_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a)                   (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, field) ((type *)((char *)(ptr)-offsetof(type, field)))
#define MIN(a, b)                      ((a) < (b) ? (a) : (b))
#define MAX(a, b)                      ((a) > (b) ? (a) : (b))

#define PRINTF_LIKE(fmt, first)        __attribute__((format(printf, fmt, first)))
#define MUST_USE                       __attribute__((warn_unused_result))
#define NORETURN                       __attribute__((noreturn))

/* MUST states what we guarantee ourselves; it stays in release builds. Never about bytes that a peer, a file or an
 * operator sent: those are refused with a `struct err`. */
#define MUST(cond)                     ((cond) ? (void)0 : must_fail(#cond, __FILE__, __LINE__, __func__))
NORETURN void must_fail(const char *cond, const char *file, int line, const char *func);

/* Long-lived structs begin with `uint32_t magic`; check it at the entry of functions that take one by callback. */
#define MUST_BE(ptr, magic_value) MUST((ptr) != NULL && (ptr)->magic == (magic_value))

#endif

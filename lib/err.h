/* SPDX-License-Identifier: Apache-2.0 */
/* err.h: how a function says why it failed. A function that can fail returns bool or a pointer and takes a
 * `struct err *err` last (NULL allowed: the caller does not care). Library code fills it and never logs; the one who
 * handles it logs once. The text names the thing, the place, why, and what to do next. */
#ifndef WEFT_LIB_ERR_H
#define WEFT_LIB_ERR_H

#include "lib/base.h"

enum err_code {
#define ERR(name, text) ERR_##name,
#include "lib/err.tbl.h"
#undef ERR
	ERR_COUNT
};

#define ERR_TEXT_MAX 512

struct err {
	enum err_code code;
	char text[ERR_TEXT_MAX]; /* one line, UTF-8, control bytes from outside replaced by '?', cut with "..." */
};

/* Fills *err (if any) and returns false, so that a function can `return err_set(err, ERR_INVALID, "...")`. */
bool err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same for a failed system call: appends ": strerror(errno)". Code ERR_SYSTEM. */
bool err_errno(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts "prefix: " before the text that is there: each layer says its place. Returns false. */
bool err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* They return false, and the compiler may know it: values that are only set on success are then never "maybe unset". */
#define err_set(...)                    \
	({                              \
		(err_set)(__VA_ARGS__); \
		false;                  \
	})
#define err_errno(...)                    \
	({                                \
		(err_errno)(__VA_ARGS__); \
		false;                    \
	})
#define err_prefix(...)                    \
	({                                 \
		(err_prefix)(__VA_ARGS__); \
		false;                     \
	})
const char *err_code_text(enum err_code code);

#endif

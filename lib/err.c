/* SPDX-License-Identifier: Apache-2.0 */
/* err.c: filling a struct err: one clean line, cut with "...". */
#include "lib/err.h"

#include "lib/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Room to see that a text is too long, and where. */
#define WIDE (2 * ERR_TEXT_MAX)

static void store(struct err *err, const char *wide, size_t len)
{
	if (len >= ERR_TEXT_MAX) {
		len = utf8_cut(wide, ERR_TEXT_MAX - sizeof("..."));
		memcpy(err->text, wide, len);
		memcpy(err->text + len, "...", sizeof("..."));
	} else {
		memcpy(err->text, wide, len);
		err->text[len] = 0;
	}
	utf8_clean(err->text);
}

static size_t clamp(int printed, size_t room)
{
	if (printed < 0)
		return 0;
	return MIN((size_t)printed, room - 1);
}

bool(err_set)(struct err *err, enum err_code code, const char *fmt, ...)
{
	char wide[WIDE];
	va_list ap;

	if (!err)
		return false;
	va_start(ap, fmt);
	size_t len = clamp(vsnprintf(wide, sizeof(wide), fmt, ap), sizeof(wide));
	va_end(ap);
	err->code = code;
	store(err, wide, len);
	return false;
}

bool(err_errno)(struct err *err, const char *fmt, ...)
{
	int saved = errno;
	char wide[WIDE], why[128];
	va_list ap;

	if (!err)
		return false;
	va_start(ap, fmt);
	size_t len = clamp(vsnprintf(wide, sizeof(wide), fmt, ap), sizeof(wide));
	va_end(ap);
	len += clamp(snprintf(wide + len, sizeof(wide) - len, ": %s", strerror_r(saved, why, sizeof(why))),
		     sizeof(wide) - len);
	err->code = ERR_SYSTEM;
	store(err, wide, len);
	errno = saved;
	return false;
}

bool(err_prefix)(struct err *err, const char *fmt, ...)
{
	char wide[WIDE];
	va_list ap;

	if (!err)
		return false;
	va_start(ap, fmt);
	size_t len = clamp(vsnprintf(wide, sizeof(wide), fmt, ap), sizeof(wide));
	va_end(ap);
	len += clamp(snprintf(wide + len, sizeof(wide) - len, ": %s", err->text), sizeof(wide) - len);
	store(err, wide, len);
	return false;
}

const char *err_code_text(enum err_code code)
{
	static const char *const texts[ERR_COUNT] = {
#define ERR(name, text) [ERR_##name] = text,
#include "lib/err.tbl.h"
#undef ERR
	};

	MUST(code < ERR_COUNT);
	return texts[code];
}

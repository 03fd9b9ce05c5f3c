/* SPDX-License-Identifier: Apache-2.0 */
/* str.h: text as pointer and length, not NUL-terminated, not owned. Bounded number parsing. */
#ifndef WEFT_LIB_STR_H
#define WEFT_LIB_STR_H

#include "lib/base.h"

#include <string.h>

struct str {
	const char *p; /* may be NULL when len is 0 */
	size_t len;
};

#define STR(lit)   ((struct str){(lit), sizeof(lit) - 1})
#define STR_FMT    "%.*s"
#define STR_ARG(s) (int)(s).len, (s).p ? (s).p : ""

static inline struct str str_of(const char *z)
{
	return (struct str){z, z ? strlen(z) : 0};
}
static inline struct str str_make(const void *p, size_t len)
{
	return (struct str){p, len};
}
static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}
static inline bool str_is(struct str a, const char *z)
{
	return str_eq(a, str_of(z));
}

bool str_same_letters(const char *a, const char *b, size_t len); /* ASCII case-insensitive */
/* False: the two are no spellings of one letter. True says little. Most names that are compared differ in the first. */
static inline bool str_letter_may_be(char a, char b)
{
	return ((a ^ b) & ~0x20) == 0;
}
static inline bool str_ieq(struct str a, struct str b) /* the same; names differ in length, mostly */
{
	return a.len == b.len && (a.len == 0 || str_letter_may_be(a.p[0], b.p[0])) && str_same_letters(a.p, b.p, a.len);
}
bool str_starts(struct str s, struct str prefix);
bool str_find(struct str s, char c, size_t *ret_at); /* first c */
struct str str_trim(struct str s);                   /* spaces and tabs at both ends (RFC 9110 OWS) */
/* Splits at the first `sep`: *ret_head before it, *rest behind it. False (head = all, rest empty) when absent. */
bool str_cut(struct str s, char sep, struct str *ret_head, struct str *ret_rest);
/* Decimal digits only: no sign, no space, no leading "+"; at most max. False otherwise, *ret untouched. */
bool str_to_u64(struct str s, uint64_t max, uint64_t *ret);
#define STR_U64_MAX 20
/* The decimal digits of v, written to the end of `out`; the result points into it. */
struct str str_from_u64(uint64_t v, char out[static STR_U64_MAX]);
/* "250ms", "10s", "5m", "24h", "7d" -> milliseconds; a bare number is refused. False on anything else or overflow. */
bool str_to_ms(struct str s, uint64_t *ret_ms);
/* A size in bytes: digits and nothing, K, M or G (powers of 1,024; Ki, Mi and Gi are the same). False when it is none or does not fit. */
bool str_to_bytes(struct str s, uint64_t *ret);
bool str_is_dns_label(struct str s); /* RFC 1123 label: a-z0-9-, 1 to 63, no - at the ends */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* str.c: comparing, cutting and reading numbers from text that is not NUL-terminated. ASCII only, no locale. */
#include "lib/str.h"

static uint8_t lower(char c)
{
	uint8_t b = (uint8_t)c;

	return b >= 'A' && b <= 'Z' ? (uint8_t)(b + 32) : b;
}

bool str_same_letters(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
			return false;
	return true;
}

bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.p, prefix.p, prefix.len) == 0);
}

bool str_find(struct str s, char c, size_t *ret_at)
{
	const char *at = s.len ? memchr(s.p, c, s.len) : NULL;

	if (!at)
		return false;
	*ret_at = (size_t)(at - s.p);
	return true;
}

static bool is_ows(char c)
{
	return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
	while (s.len > 0 && is_ows(s.p[0])) {
		s.p++;
		s.len--;
	}
	while (s.len > 0 && is_ows(s.p[s.len - 1]))
		s.len--;
	return s;
}

bool str_cut(struct str s, char sep, struct str *ret_head, struct str *ret_rest)
{
	size_t at;

	if (!str_find(s, sep, &at)) {
		*ret_head = s;
		*ret_rest = (struct str){0};
		return false;
	}
	*ret_head = str_make(s.p, at);
	*ret_rest = str_make(s.p + at + 1, s.len - at - 1);
	return true;
}

bool str_to_u64(struct str s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		uint64_t digit = (uint64_t)(s.p[i] - '0');
		if (v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	if (v > max)
		return false;
	*ret = v;
	return true;
}

struct str str_from_u64(uint64_t v, char out[static STR_U64_MAX])
{
	size_t at = STR_U64_MAX;
	do
		out[--at] = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	return str_make(out + at, STR_U64_MAX - at);
}

struct unit {
	const char *name;
	uint64_t factor;
};

/* Digits and one of the units behind them. */
static bool with_unit(struct str s, const struct unit *units, size_t n, uint64_t *ret)
{
	size_t digits = 0;
	uint64_t v;

	while (digits < s.len && s.p[digits] >= '0' && s.p[digits] <= '9')
		digits++;
	struct str unit = str_make(s.p + digits, s.len - digits);
	for (size_t i = 0; i < n; i++) {
		if (!str_is(unit, units[i].name))
			continue;
		if (!str_to_u64(str_make(s.p, digits), UINT64_MAX / units[i].factor, &v))
			return false;
		*ret = v * units[i].factor;
		return true;
	}
	return false;
}

bool str_to_ms(struct str s, uint64_t *ret_ms)
{
	static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};

	return with_unit(s, units, ARRAY_LEN(units), ret_ms);
}

bool str_to_bytes(struct str s, uint64_t *ret)
{
	static const struct unit units[] = {
	    {"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30},
	};

	return with_unit(s, units, ARRAY_LEN(units), ret);
}

bool str_is_dns_label(struct str s)
{
	if (s.len < 1 || s.len > 63 || s.p[0] == '-' || s.p[s.len - 1] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
	}
	return true;
}

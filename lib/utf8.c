/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.c: recognising UTF-8. */
#include "lib/utf8.h"

size_t utf8_len(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint8_t low = 0x80, high = 0xbf; /* what the second byte may be */
	size_t len;

	if (n == 0)
		return 0;
	if (b[0] < 0x80)
		return 1;
	if (b[0] >= 0xc2 && b[0] <= 0xdf)
		len = 2;
	else if (b[0] >= 0xe0 && b[0] <= 0xef)
		len = 3;
	else if (b[0] >= 0xf0 && b[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (n < len)
		return 0;
	if (b[0] == 0xe0)
		low = 0xa0;
	if (b[0] == 0xed)
		high = 0x9f;
	if (b[0] == 0xf0)
		low = 0x90;
	if (b[0] == 0xf4)
		high = 0x8f;
	if (b[1] < low || b[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (b[i] < 0x80 || b[i] > 0xbf)
			return 0;
	return len;
}

void utf8_clean(char *text)
{
	for (char *p = text; *p;) {
		uint8_t c = (uint8_t)*p;
		size_t len = 0;

		if (c >= 0x20 && c != 0x7f)
			for (size_t have = 1; len == 0 && have <= 4 && p[have - 1]; have++)
				len = utf8_len(p, have);
		if (len == 0)
			*p = '?';
		p += len ? len : 1;
	}
}

size_t utf8_cut(const char *text, size_t n)
{
	size_t start = n;

	/* step back over continuation bytes to the last lead byte; keep it if its sequence ends within n */
	while (start > 0 && n - start < 4 && ((uint8_t)text[start - 1] & 0xc0) == 0x80)
		start--;
	if (start == 0 || ((uint8_t)text[start - 1] & 0x80) == 0)
		return n;
	start--;
	return utf8_len(text + start, n - start) == n - start ? n : start;
}

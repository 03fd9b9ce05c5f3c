/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.c: Levenshtein distance without case, of short names. */
#include "control/nearest.h"

#include "lib/base.h"

#include <string.h>

#define NAME_MAX_LEN 63
#define FAR          4 /* a distance from which on a name is no help */

static size_t distance(const char *a, const char *b)
{
	size_t row[NAME_MAX_LEN + 1], la = strlen(a), lb = strlen(b);

	if (la > NAME_MAX_LEN || lb > NAME_MAX_LEN)
		return FAR;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t cost = (a[i - 1] | 0x20) != (b[j - 1] | 0x20);
			size_t best = MIN(MIN(row[j], row[j - 1]) + 1, diagonal + cost);
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[lb];
}

const char *nearest(const char *typed, const char *(*at)(size_t i))
{
	const char *best = NULL, *name;
	size_t least = MIN((strlen(typed) + 1) / 2 + 1, FAR);

	for (size_t i = 0; (name = at(i)); i++) {
		size_t d = distance(typed, name);
		if (d < least) {
			least = d;
			best = name;
		}
	}
	return best;
}

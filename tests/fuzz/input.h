/* SPDX-License-Identifier: Apache-2.0 */
/* input.h: a fuzzer's bytes read as numbers and texts. At the end everything is 0 or empty, so each input means something. */
#ifndef WEFT_TESTS_FUZZ_INPUT_H
#define WEFT_TESTS_FUZZ_INPUT_H

#include "lib/str.h"

struct input {
	const uint8_t *p;
	size_t left;
};

static inline size_t input_byte(struct input *in)
{
	return in->left ? (in->left--, *in->p++) : 0;
}

static inline struct str input_text(struct input *in, size_t n)
{
	n = n < in->left ? n : in->left;
	struct str s = str_make(in->p, n);
	in->p += n;
	in->left -= n;
	return s;
}

/* Behind its length, one byte or two. */
static inline struct str input_short(struct input *in)
{
	return input_text(in, input_byte(in));
}
static inline struct str input_long(struct input *in)
{
	size_t n = input_byte(in) << 8;
	return input_text(in, n | input_byte(in));
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h: how long the well-formed UTF-8 sequence at p is (RFC 3629: no overlong forms, no surrogates). For texts that
 * go to people and logs. */
#ifndef WEFT_LIB_UTF8_H
#define WEFT_LIB_UTF8_H

#include "lib/base.h"

/* 1 to 4 bytes; 0 when the n bytes at p do not begin with a whole, valid sequence. */
size_t utf8_len(const void *p, size_t n);
/* Replaces control bytes (below 0x20, 0x7f) and bytes that are not UTF-8 by '?', in place. */
void utf8_clean(char *text);
/* The most of n bytes that ends at a sequence's end. For cutting. */
size_t utf8_cut(const char *text, size_t n);

#endif

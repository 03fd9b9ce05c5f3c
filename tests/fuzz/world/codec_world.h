/* SPDX-License-Identifier: Apache-2.0 */
/* codec_world.h: a codec between a hostile peer and wilful owners, for the fuzzers of both HTTP versions. */
#ifndef WEFT_TESTS_FUZZ_CODEC_WORLD_H
#define WEFT_TESTS_FUZZ_CODEC_WORLD_H

#include "lib/http/codec.h"

/* One connection of `ops` on a real socket pair and a real loop, from its first byte to its end. Of the input the first four bytes say
 * what owners do and when (enum bits in codec_world.c), the others are what the peer sends. What codec.h promises of the order of
 * events, and of none after an end, is checked in each. */
void codec_world_run(const struct codec_ops *ops, const uint8_t *data, size_t size);

#endif

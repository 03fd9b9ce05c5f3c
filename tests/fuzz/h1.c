/* SPDX-License-Identifier: Apache-2.0 */
/* h1.c (fuzz): bytes of a hostile peer into codec_h1, both roles, with owners that answer, stall, reset and close in the middle of
 * callbacks. The connection is a real socket pair on a real loop: nothing is stubbed. */
#include "tests/fuzz/world/codec_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	codec_world_run(&codec_h1, data, size);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz document: any bytes as a policy file, through reading, checking and normalising. The first byte picks YAML or JSON. What
 * was accepted must be accepted again after normalising, unchanged. */
#include "control/document.h"
#include "control/kind.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_twice(const json_t *root)
{
	struct object once, twice;

	if (!object_check(root, "default", &once, NULL))
		return;
	MUST(object_check(once.body, "default", &twice, NULL));
	MUST(json_equal(once.body, twice.body));
	json_decref(once.body);
	json_decref(twice.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct documents d = {0};
	struct err err;

	if (size == 0)
		return 0;
	if (documents_add_text(&d, data[0] & 1 ? "f.yaml" : "f.json", str_make(data + 1, size - 1), &err))
		for (size_t i = 0; i < d.len; i++)
			check_twice(d.v[i].root);
	documents_done(&d);
	return 0;
}

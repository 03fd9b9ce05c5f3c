/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz spiffe: any bytes as a SPIFFE ID. What is accepted is exactly what was given, and is made of its parts. */
#include "certs/spiffe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spiffe id, made;
	struct err err;
	if (!spiffe_parse(str_make(data, size), &id, &err))
		return 0;
	MUST(str_eq(str_of(id.id), str_make(data, size)));
	MUST(spiffe_make(id.trust_domain, id.ns, id.sa, &made, &err));
	MUST(str_eq(str_of(made.id), str_of(id.id)));
	return 0;
}

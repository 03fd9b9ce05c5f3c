/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz token: any text as a join token; also, any JSON behind a good prefix. What is accepted has one spelling of its parts. */
#include "certs/token.h"

#include "lib/mem.h"

#include <openssl/evp.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct str text)
{
	struct token t, again;
	char out[TOKEN_TEXT_MAX];
	struct err err;
	if (!token_parse(text, &t, &err))
		return;
	MUST(token_format(&t, out, &err));
	MUST(token_parse(str_of(out), &again, &err));
	MUST(memcmp(&t, &again, sizeof(t)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check(str_make(data, size));
	if (size > 3000)
		return 0;
	/* The fuzzer does not find base64 by itself. */
	char text[TOKEN_TEXT_MAX + 8] = "weft1.";
	int n = EVP_EncodeBlock((unsigned char *)text + 6, data, (int)size);
	for (char *p = text; *p; p++)
		*p = (char)(*p == '+' ? '-' : *p == '/' ? '_' : *p);
	while (n > 0 && text[6 + n - 1] == '=')
		n--;
	check(str_make(text, (size_t)n + 6));
	return 0;
}

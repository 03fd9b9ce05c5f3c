/* SPDX-License-Identifier: Apache-2.0 */
/* token.h: the join token: "weft1." + base64url(JSON) without padding. It says which weftd to trust and carries the secret; what it
 * allows is in weftd's store (the secret is the key), the copies inside are for humans and for the proxy's own checks. */
#ifndef WEFT_CERTS_TOKEN_H
#define WEFT_CERTS_TOKEN_H

#include "lib/err.h"
#include "lib/str.h"

#define TOKEN_TEXT_MAX 4096

struct token {
	char id[33];           /* 16 random bytes, hex: the name of the row in the store */
	char secret[65];       /* 32 random bytes, hex */
	uint8_t root_hash[32]; /* SHA-256 of a root certificate of weftd's CA */
	char trust_domain[256];
	char ns[64], sa[64];
	int64_t not_after; /* seconds since 1970 */
	char server[128];  /* "host:4810" of weftd; may be empty (then --control says) */
	char cidrs[512];   /* mesh CIDRs, comma-separated */
};
/* 32 random bytes in hex: the secret of a token, and of a rejoin. */
bool token_secret_new(char out[static 65], struct err *err);
/* SHA-256 of the 64 hex digits: what the store keeps of a secret. */
void token_secret_hash(const char *secret, uint8_t out[static 32]);
/* Text into out (NUL-terminated). */
bool token_format(const struct token *t, char out[static TOKEN_TEXT_MAX], struct err *err);
/* Unknown fields refused; lengths and character sets checked. Wipe *ret with mem_wipe after use. */
bool token_parse(struct str text, struct token *ret, struct err *err);

#endif

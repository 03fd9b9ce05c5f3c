/* SPDX-License-Identifier: Apache-2.0 */
/* token.c: the join token as text. The text is a secret: no error of this file shows a byte of what was read. */
#include "certs/token.h"
#include "certs/spiffe.h"

#include "lib/json.h"
#include "lib/mem.h"

#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>

#define PREFIX "weft1."

/* --- base64url without padding (RFC 4648 section 5), canonical only: one text for one value --- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Writes 4/3 of n, rounded up; no NUL. */
static size_t b64_encode(const char *in, size_t n, char *out)
{
	size_t len = 0;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)(uint8_t)in[i] << 16;
		size_t left = n - i;
		if (left > 1)
			v |= (uint32_t)(uint8_t)in[i + 1] << 8;
		if (left > 2)
			v |= (uint8_t)in[i + 2];
		for (size_t k = 0; k < (left > 2 ? 4 : left + 1); k++)
			out[len++] = alphabet[v >> (18 - 6 * k) & 63];
	}
	return len;
}

static bool b64_decode(struct str in, char *out, size_t *ret_len)
{
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t len = 0;
	if (in.len % 4 == 1)
		return false;
	for (size_t i = 0; i < in.len; i++) {
		const char *at = in.p[i] ? strchr(alphabet, in.p[i]) : NULL;
		if (!at)
			return false;
		acc = (acc << 6 | (uint32_t)(at - alphabet)) & 0xffffff;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[len++] = (char)(acc >> bits & 0xff);
		}
	}
	if (acc & ((1u << bits) - 1))
		return false;
	*ret_len = len;
	return true;
}

/* --- fields --- */

static bool hex_only(const char *s, size_t len)
{
	return strlen(s) == len && strspn(s, "0123456789abcdef") == len;
}

static int hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* What is read must be what may be written: the same check both ways. */
static bool token_check(const struct token *t, struct err *err)
{
	if (!hex_only(t->id, 32))
		return err_set(err, ERR_INVALID, "join token: id is not 32 digits of lower-case hex");
	if (!hex_only(t->secret, 64))
		return err_set(err, ERR_INVALID, "join token: secret is not 64 digits of lower-case hex");
	if (!trust_domain_valid(str_of(t->trust_domain)))
		return err_set(err, ERR_INVALID,
			       "join token: trust_domain is not one (1 to 255 of a-z, 0-9, '.', '-', '_')");
	if (!str_is_dns_label(str_of(t->ns)))
		return err_set(err, ERR_INVALID, "join token: namespace is not a DNS label");
	struct spiffe id;
	if (!spiffe_make(str_of(t->trust_domain), str_of(t->ns), str_of(t->sa), &id, NULL))
		return err_set(err, ERR_INVALID, "join token: service_account is not a DNS name");
	if (t->not_after <= 0)
		return err_set(err, ERR_INVALID, "join token: not_after is not a time");
	static const char server_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]";
	if (strspn(t->server, server_chars) != strlen(t->server))
		return err_set(err, ERR_INVALID, "join token: server is not host:port");
	if (strspn(t->cidrs, "0123456789abcdefABCDEF.:/,") != strlen(t->cidrs))
		return err_set(err, ERR_INVALID, "join token: cidrs is not a comma-separated list of CIDRs");
	return true;
}

bool token_secret_new(char out[static 65], struct err *err)
{
	uint8_t b[32];
	if (RAND_bytes(b, sizeof(b)) != 1)
		return err_set(err, ERR_SYSTEM, "no random bytes for a secret");
	for (size_t i = 0; i < sizeof(b); i++)
		snprintf(out + 2 * i, 3, "%02x", b[i]);
	mem_wipe(b, sizeof(b));
	return true;
}

void token_secret_hash(const char *secret, uint8_t out[static 32])
{
	SHA256((const unsigned char *)secret, strlen(secret), out);
}

bool token_format(const struct token *t, char out[static TOKEN_TEXT_MAX], struct err *err)
{
	char root[65], json[TOKEN_TEXT_MAX];
	if (!token_check(t, err))
		return false;
	for (size_t i = 0; i < 32; i++)
		snprintf(root + 2 * i, 3, "%02x", t->root_hash[i]);
	/* Every string has passed token_check: none holds a character that JSON would escape. */
	int n = snprintf(
	    json, sizeof(json),
	    "{\"id\":\"%s\",\"secret\":\"%s\",\"root\":\"%s\",\"trust_domain\":\"%s\",\"namespace\":\"%s\","
	    "\"service_account\":\"%s\",\"not_after\":%lld,\"server\":\"%s\",\"cidrs\":\"%s\"}",
	    t->id, t->secret, root, t->trust_domain, t->ns, t->sa, (long long)t->not_after, t->server, t->cidrs);
	bool fits = n > 0 && (size_t)n < sizeof(json) && sizeof(PREFIX) + ((size_t)n + 2) / 3 * 4 < TOKEN_TEXT_MAX;
	if (fits) {
		memcpy(out, PREFIX, sizeof(PREFIX) - 1);
		size_t len = sizeof(PREFIX) - 1 + b64_encode(json, (size_t)n, out + sizeof(PREFIX) - 1);
		out[len] = 0;
	}
	mem_wipe(json, sizeof(json));
	return fits || err_set(err, ERR_LIMIT, "join token: longer than %d characters", TOKEN_TEXT_MAX - 1);
}

static bool copy_field(const json_t *obj, const char *name, char *out, size_t size, struct err *err)
{
	const json_t *v = json_object_get(obj, name);
	if (!json_is_string(v))
		return err_set(err, ERR_INVALID, "join token: %s is missing or not a text", name);
	size_t len = json_string_length(v);
	if (len >= size || memchr(json_string_value(v), 0, len))
		return err_set(err, ERR_INVALID, "join token: %s is longer than %zu characters", name, size - 1);
	memcpy(out, json_string_value(v), len + 1);
	return true;
}

static bool fields(const json_t *obj, struct token *t, struct err *err)
{
	static const char *const names[] = {
	    "id",     "secret", "root", "trust_domain", "namespace", "service_account", "not_after",
	    "server", "cidrs",  NULL};
	char root[65];
	if (!json_is_object(obj))
		return err_set(err, ERR_INVALID, "join token: not a JSON object");
	if (!json_fields_known(obj, names, NULL, NULL))
		return err_set(err, ERR_INVALID,
			       "join token: has a field that this version does not know (made by a newer weft?)");
	if (!copy_field(obj, "id", t->id, sizeof(t->id), err) ||
	    !copy_field(obj, "secret", t->secret, sizeof(t->secret), err) ||
	    !copy_field(obj, "root", root, sizeof(root), err) ||
	    !copy_field(obj, "trust_domain", t->trust_domain, sizeof(t->trust_domain), err) ||
	    !copy_field(obj, "namespace", t->ns, sizeof(t->ns), err) ||
	    !copy_field(obj, "service_account", t->sa, sizeof(t->sa), err) ||
	    !copy_field(obj, "server", t->server, sizeof(t->server), err) ||
	    !copy_field(obj, "cidrs", t->cidrs, sizeof(t->cidrs), err))
		return false;
	if (!hex_only(root, 64))
		return err_set(err, ERR_INVALID, "join token: root is not 64 digits of lower-case hex");
	for (size_t i = 0; i < 32; i++)
		t->root_hash[i] = (uint8_t)(hex_digit(root[2 * i]) << 4 | hex_digit(root[2 * i + 1]));
	if (!json_is_integer(json_object_get(obj, "not_after")))
		return err_set(err, ERR_INVALID, "join token: not_after is missing or not a number");
	t->not_after = json_integer_value(json_object_get(obj, "not_after"));
	return token_check(t, err);
}

bool token_parse(struct str text, struct token *ret, struct err *err)
{
	char json[TOKEN_TEXT_MAX];
	size_t len;
	struct token t = {0};
	if (text.len >= TOKEN_TEXT_MAX)
		return err_set(err, ERR_LIMIT, "join token: longer than %d characters", TOKEN_TEXT_MAX - 1);
	if (!str_starts(text, STR(PREFIX)))
		return err_set(err, ERR_INVALID,
			       "join token: does not begin with \"" PREFIX "\"; `weft token create` makes one");
	bool ok = b64_decode(str_make(text.p + sizeof(PREFIX) - 1, text.len - (sizeof(PREFIX) - 1)), json, &len);
	/* json_read's own words may quote the text, that is, the secret: they are not used. */
	json_t *obj = ok ? json_read(str_make(json, len), NULL) : NULL;
	ok = obj && fields(obj, &t, err);
	if (!obj)
		err_set(err, ERR_INVALID, "join token: damaged (was it copied whole?)");
	json_decref(obj);
	mem_wipe(json, sizeof(json));
	if (ok)
		*ret = t;
	mem_wipe(&t, sizeof(t));
	return ok;
}

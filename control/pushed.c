/* SPDX-License-Identifier: Apache-2.0 */
/* pushed.c: packs a resource with its version into the bytes that every subscriber gets. One allocation holds the struct,
 * its texts and the packed message. */
#include "control/pushed.h"

#include "lib/mem.h"
#include "lib/proto/xds.pb-c.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
	const char *url, *label;
} types[PUSHED_TYPES] = {
#define PUSHED(name, message) [PUSHED_##name] = {PUSHED_TYPE_PREFIX message, message},
#include "control/pushed.tbl.h"
#undef PUSHED
};

const char *pushed_type_url(enum pushed_type type)
{
	return types[type].url;
}

const char *pushed_type_label(enum pushed_type type)
{
	return types[type].label;
}

bool pushed_type_of(struct str type_url, enum pushed_type *ret)
{
	for (size_t i = 0; i < PUSHED_TYPES; i++)
		if (str_is(type_url, types[i].url)) {
			*ret = (enum pushed_type)i;
			return true;
		}
	return false;
}

const char *pushed_alias(const struct ip *ip, char out[static PUSHED_ALIAS_MAX])
{
	char text[IP_TEXT_MAX];
	snprintf(out, PUSHED_ALIAS_MAX, "addr:%s", ip_text(ip, text));
	return out;
}

/* Aliases count: the resource that a VIP left has other subscribers, although its value may be the same bytes. */
static void hash(struct str value, const char *const *aliases, size_t n, char out[static PUSHED_VERSION_LEN + 1])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	MUST(ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1);
	MUST(EVP_DigestUpdate(ctx, value.p, value.len) == 1);
	for (size_t i = 0; i < n; i++)
		MUST(EVP_DigestUpdate(ctx, aliases[i], strlen(aliases[i]) + 1) == 1);
	MUST(EVP_DigestFinal_ex(ctx, md, NULL) == 1);
	EVP_MD_CTX_free(ctx);
	for (size_t i = 0; i < PUSHED_VERSION_LEN / 2; i++)
		snprintf(out + 2 * i, 3, "%02x", md[i]);
}

static char *put_text(char **at, const char *text)
{
	size_t n = strlen(text) + 1;
	char *p = memcpy(*at, text, n);
	*at += n;
	return p;
}

struct pushed *pushed_new(enum pushed_type type, const char *key, const char *name, const char *const *aliases,
			  size_t n_aliases, struct str value)
{
	MUST(type < PUSHED_TYPES && name && *name && strlen(name) <= PUSHED_NAME_MAX);
	char version[PUSHED_VERSION_LEN + 1];
	hash(value, aliases, n_aliases, version);

	Envoy__Service__Discovery__V3__Any any = ENVOY__SERVICE__DISCOVERY__V3__ANY__INIT;
	any.type_url = (char *)types[type].url;
	any.value = (ProtobufCBinaryData){value.len, (uint8_t *)value.p};
	Envoy__Service__Discovery__V3__Resource m = ENVOY__SERVICE__DISCOVERY__V3__RESOURCE__INIT;
	m.version = version;
	m.resource = &any;
	m.name = (char *)name;
	m.aliases = (char **)aliases;
	m.n_aliases = n_aliases;
	size_t packed = envoy__service__discovery__v3__resource__get_packed_size(&m);

	size_t texts = strlen(name) + 1 + (key ? strlen(key) + 1 : 0);
	for (size_t i = 0; i < n_aliases; i++)
		texts += strlen(aliases[i]) + 1;
	struct pushed *r = mem_zalloc(sizeof(*r) + n_aliases * sizeof(char *) + texts + packed);
	const char **list = (const char **)(r + 1);
	char *at = (char *)(list + n_aliases);
	r->refs = 1;
	r->type = type;
	r->name = put_text(&at, name);
	r->key = key ? put_text(&at, key) : r->name;
	for (size_t i = 0; i < n_aliases; i++)
		list[i] = put_text(&at, aliases[i]);
	r->aliases = list;
	r->n_aliases = n_aliases;
	memcpy(r->version, version, sizeof(version));
	r->packed = str_make(at, envoy__service__discovery__v3__resource__pack(&m, (uint8_t *)at));
	MUST(r->packed.len == packed);
	return r;
}

struct pushed *pushed_ref(struct pushed *r)
{
	MUST(r && r->refs > 0);
	r->refs++;
	return r;
}

void pushed_unref(struct pushed **r)
{
	if (*r && --(*r)->refs == 0)
		mem_free(*r);
	*r = NULL;
}

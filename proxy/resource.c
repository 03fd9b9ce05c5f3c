/* SPDX-License-Identifier: Apache-2.0 */
/* resource.c: a pushed resource from bytes to a checked, counted thing; its types as rows. What may stand in each message
 * is checked in resource_check.c. Unpacked messages are short-lived (many small allocations); the bytes are what is kept. */
#include "proxy/resource.h"

#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "lib/proto_arena.h"
#include "proxy/resource_check.h"

#define UNPACKED_MAX (48u << 20) /* bytes while a message is checked: the longest gRPC message, unpacked */

static const struct {
	const char *name, *url;
	const ProtobufCMessageDescriptor *descriptor;
	const char *followed;
} rows[RESOURCE_COUNT] = {
#define RESOURCE(name, message, descriptor, followed) {message, RESOURCE_TYPE_PREFIX message, &descriptor, followed},
#include "proxy/resource.tbl.h"
#undef RESOURCE
};

const char *resource_type_name(enum resource_type t)
{
	MUST(t < RESOURCE_COUNT);
	return rows[t].name;
}

const char *resource_type_url(enum resource_type t)
{
	MUST(t < RESOURCE_COUNT);
	return rows[t].url;
}

const char *resource_followed(enum resource_type t)
{
	MUST(t < RESOURCE_COUNT);
	return rows[t].followed;
}

bool resource_on_demand(enum resource_type t)
{
	const char *followed = resource_followed(t);
	return followed == NULL || followed[0] == '\0';
}

bool resource_type_parse(struct str url, enum resource_type *ret)
{
	for (size_t i = 0; i < RESOURCE_COUNT; i++)
		if (str_is(url, rows[i].url)) {
			*ret = (enum resource_type)i;
			return true;
		}
	return false;
}

/* --- aliases --- */

const char *resource_alias(const struct ip *ip, char out[static RESOURCE_ALIAS_MAX])
{
	memcpy(out, "addr:", 5);
	ip_text(ip, out + 5);
	return out;
}

bool resource_alias_parse(struct str s, struct ip *ret)
{
	if (!str_starts(s, STR("addr:")))
		return false;
	return ip_parse(str_make(s.p + 5, s.len - 5), ret);
}

bool resource_ip(const uint8_t *bytes, size_t len, struct ip *ret)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	if ((len != 4 && len != 16) || (len == 16 && memcmp(bytes, mapped, sizeof(mapped)) == 0))
		return false;
	*ret = (struct ip){.len = (uint8_t)len};
	memcpy(ret->b, bytes, len);
	return true;
}

/* --- unpacking --- */

static bool check_bytes(const struct resource_from *from, struct err *err)
{
	struct proto_arena memory;
	proto_arena_init(&memory, UNPACKED_MAX);
	ProtobufCMessage *m = proto_unpack(&memory, rows[from->type].descriptor, from->bytes, err);
	bool ok = m ? resource_check(from, m, err) : err_prefix(err, "not a message of type %s", rows[from->type].name);
	proto_arena_done(&memory);
	return ok;
}

void *resource_message(const struct resource *r)
{
	void *m = protobuf_c_message_unpack(rows[r->type].descriptor, NULL, r->bytes.len, (const uint8_t *)r->bytes.p);
	MUST(m != NULL);
	return m;
}

void resource_message_free(const struct resource *r, void *message)
{
	protobuf_c_message_free_unpacked(message, NULL);
}

/* --- making --- */

static bool check_envelope(const struct resource_from *from, struct err *err)
{
	MUST(from->type < RESOURCE_COUNT);
	if (from->version.len == 0 || from->version.len > RESOURCE_VERSION_MAX)
		return err_set(err, ERR_INVALID, "version: %zu bytes, must be 1 to %d", from->version.len,
			       RESOURCE_VERSION_MAX);
	for (size_t i = 0; i < from->version.len; i++)
		if (from->version.p[i] <= ' ' || from->version.p[i] > '~')
			return err_set(err, ERR_INVALID, "version: has a byte that is not printable ASCII");
	if (from->n_aliases > RESOURCE_ALIASES_MAX)
		return err_set(err, ERR_LIMIT, "aliases: %zu, at most %d", from->n_aliases, RESOURCE_ALIASES_MAX);
	const char *fixed = resource_on_demand(from->type) ? NULL : rows[from->type].followed;
	if (fixed && !str_is(from->name, fixed))
		return err_set(err, ERR_INVALID, "name: must be \"%s\" for %s", fixed, rows[from->type].name);
	if (!fixed && !resource_name_valid(from->name))
		return err_set(err, ERR_INVALID, "name: must be \"namespace/name\" of a-z, 0-9, - and .");
	return true;
}

struct resource *resource_new(const struct resource_from *from, struct err *err)
{
	if (!check_envelope(from, err) || !check_bytes(from, err))
		return NULL;

	size_t aliases = from->n_aliases * sizeof(struct ip);
	struct resource *r =
	    mem_alloc(sizeof(*r) + aliases + from->name.len + 1 + from->version.len + 1 + from->bytes.len);
	*r = (struct resource){.refs = 1, .type = from->type, .origin = from->origin};
	struct ip *ips = (struct ip *)(r + 1);
	for (size_t i = 0; i < from->n_aliases; i++)
		if (resource_alias_parse(from->aliases[i], &ips[r->n_aliases]))
			r->n_aliases++;
	r->aliases = ips;
	char *at = (char *)ips + aliases;
	r->name = memcpy(at, from->name.p, from->name.len);
	at[from->name.len] = '\0';
	at += from->name.len + 1;
	r->version = memcpy(at, from->version.p, from->version.len);
	at[from->version.len] = '\0';
	at += from->version.len + 1;
	if (from->bytes.len)
		memcpy(at, from->bytes.p, from->bytes.len);
	r->bytes = str_make(at, from->bytes.len);
	return r;
}

struct resource *resource_ref(struct resource *r)
{
	MUST(r->refs > 0);
	r->refs++;
	return r;
}

void resource_unref(struct resource **r)
{
	if (*r && --(*r)->refs == 0)
		mem_free(*r);
	*r = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* keep.c: the file: "WEFTKEEP", version (u32), number of addresses (u32), each as length (u8) and bytes; number of resources
 * (u32), each as type (u8), number of aliases (u16), lengths of name, version (u16 each) and content (u32), then name,
 * version, aliases like addresses, content; at the end SHA-256 of all before. Numbers in the machine's order: the file never
 * leaves it. What is read goes through the same checks as what is pushed. Not fsynced: after a power cut it may be damaged,
 * which the hash finds, and weftd is asked instead. */
#include "proxy/keep.h"

#include "lib/event.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/rejoin.h"

#include <openssl/evp.h>

#define KEEP_VERSION 1u
#define HASH_LEN     32
#define WRITE_MS     1000

static const char magic[8] = {'W', 'E', 'F', 'T', 'K', 'E', 'E', 'P'};

struct keep {
	struct config *config;
	struct config_watcher watcher;
	char *dir;
	struct timer write;
	bool failed; /* said once, until it works again */
};

/* --- writing --- */

struct out {
	uint8_t *p;
	size_t len, cap;
	uint32_t count;
};

static void put(struct out *o, const void *p, size_t n)
{
	if (o->len + n > o->cap) {
		o->cap = MAX(2 * o->cap, o->len + n + 4096);
		o->p = mem_realloc(o->p, o->cap);
	}
	if (n)
		memcpy(o->p + o->len, p, n);
	o->len += n;
}

static void put_ip(struct out *o, const struct ip *ip)
{
	put(o, &ip->len, 1);
	put(o, ip->b, ip->len);
}

static void put_address(void *ctx, const struct ip *ip)
{
	struct out *o = ctx;
	put_ip(o, ip);
	o->count++;
}

static void put_resource(void *ctx, const struct resource *r)
{
	struct out *o = ctx;
	uint8_t type = (uint8_t)r->type;
	uint16_t aliases = (uint16_t)r->n_aliases, name = (uint16_t)strlen(r->name),
		 version = (uint16_t)strlen(r->version);
	uint32_t content = (uint32_t)r->bytes.len;
	put(o, &type, 1);
	put(o, &aliases, 2);
	put(o, &name, 2);
	put(o, &version, 2);
	put(o, &content, 4);
	put(o, r->name, name);
	put(o, r->version, version);
	for (size_t i = 0; i < r->n_aliases; i++)
		put_ip(o, &r->aliases[i]);
	put(o, r->bytes.p, r->bytes.len);
	o->count++;
}

/* A list with its length before it. */
static void put_list(struct out *o, const struct config *c, void (*each)(const struct config *c, struct out *o))
{
	size_t at = o->len;
	uint32_t none = 0;
	put(o, &none, 4);
	o->count = 0;
	each(c, o);
	memcpy(o->p + at, &o->count, 4);
}

static void each_address(const struct config *c, struct out *o)
{
	config_each_address(c, false, put_address, o);
}

static void each_resource(const struct config *c, struct out *o)
{
	config_each_in_force(c, put_resource, o);
}

static void hash(const uint8_t *p, size_t n, uint8_t out[static HASH_LEN])
{
	MUST(EVP_Digest(p, n, out, NULL, EVP_sha256(), NULL) == 1);
}

static void write_now(struct timer *t)
{
	struct keep *k = CONTAINER_OF(t, struct keep, write);
	struct out o = {0};
	uint32_t version = KEEP_VERSION;
	uint8_t sum[HASH_LEN];
	struct err err;
	put(&o, magic, sizeof(magic));
	put(&o, &version, 4);
	put_list(&o, k->config, each_address);
	put_list(&o, k->config, each_resource);
	hash(o.p, o.len, sum);
	put(&o, sum, sizeof(sum));
	bool ok = o.len <= KEEP_MAX || err_set(&err, ERR_LIMIT, "%zu bytes are more than %u", o.len, KEEP_MAX);
	ok = ok && state_write(k->dir, KEEP_NAME, o.p, o.len, false, &err);
	if (!ok && !k->failed)
		event(EV_CONFIG_WARNING, "text=\"the configuration is not kept on disk: %s\"", err.text);
	k->failed = !ok;
	mem_free(o.p);
}

/* --- reading --- */

struct in {
	const uint8_t *p;
	size_t left;
	bool short_; /* something reached over the end */
};

static const uint8_t *get(struct in *i, size_t n)
{
	static const uint8_t nothing[16];
	if (i->short_ || n > i->left) {
		i->short_ = true;
		return nothing;
	}
	const uint8_t *p = i->p;
	i->p += n;
	i->left -= n;
	return p;
}

static uint32_t get_number(struct in *i, size_t n)
{
	uint32_t v = 0;
	memcpy(&v, get(i, n), n); /* little-endian machines only hold the low bytes first; see below */
	return v;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "get_number reads short numbers as little-endian");

static struct ip get_ip(struct in *i)
{
	struct ip ip = {.len = (uint8_t)get_number(i, 1)};
	if (ip.len != 4 && ip.len != 16)
		i->short_ = true;
	else
		memcpy(ip.b, get(i, ip.len), ip.len);
	return ip;
}

static struct str get_str(struct in *i, size_t n)
{
	const uint8_t *p = get(i, n);
	return str_make(p, i->short_ ? 0 : n);
}

/* One resource into the configuration; one that is refused now (by a stricter proxy) is left out. */
static void get_resource(struct in *i, struct config *c)
{
	char text[RESOURCE_ALIASES_MAX][RESOURCE_ALIAS_MAX];
	struct str aliases[RESOURCE_ALIASES_MAX];
	uint32_t type = get_number(i, 1), n_aliases = get_number(i, 2), name = get_number(i, 2),
		 version = get_number(i, 2), content = get_number(i, 4);
	struct resource_from from = {.aliases = aliases, .n_aliases = n_aliases};
	struct err err;
	from.name = get_str(i, name);
	from.version = get_str(i, version);
	if (type >= RESOURCE_COUNT || n_aliases > RESOURCE_ALIASES_MAX)
		i->short_ = true;
	for (size_t k = 0; k < n_aliases && !i->short_; k++) {
		struct ip ip = get_ip(i);
		if (!i->short_)
			aliases[k] = str_of(resource_alias(&ip, text[k]));
	}
	from.bytes = get_str(i, content);
	if (i->short_)
		return;
	from.type = (enum resource_type)type;
	if (!config_apply(c, &from, &err))
		event(EV_RESOURCE_REFUSED, "type=%s name=\"" STR_FMT "\" reason=\"from disk: %s\"",
		      resource_type_name(from.type), STR_ARG(from.name), err.text);
}

static bool load(struct config *c, const uint8_t *p, size_t len, struct err *err)
{
	uint8_t sum[HASH_LEN];
	if (len < sizeof(magic) + 4 + HASH_LEN || memcmp(p, magic, sizeof(magic)) != 0)
		return err_set(err, ERR_INVALID, "is not a kept configuration");
	hash(p, len - HASH_LEN, sum);
	if (memcmp(sum, p + len - HASH_LEN, HASH_LEN) != 0)
		return err_set(err, ERR_INVALID, "is damaged (checksum)");
	struct in i = {p + sizeof(magic), len - sizeof(magic) - HASH_LEN, false};
	uint32_t version = get_number(&i, 4);
	if (version != KEEP_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "is of version %u, this proxy reads %u", version, KEEP_VERSION);
	for (uint32_t n = get_number(&i, 4); n > 0 && !i.short_; n--) {
		struct ip ip = get_ip(&i);
		if (!i.short_)
			config_follow(c, &ip);
	}
	for (uint32_t n = get_number(&i, 4); n > 0 && !i.short_; n--)
		get_resource(&i, c);
	config_commit(c);
	return (!i.short_ && i.left == 0) || err_set(err, ERR_INVALID, "is damaged (lengths)");
}

static void keep_load(struct keep *k)
{
	uint8_t *bytes = NULL;
	size_t len = 0;
	struct err err = {0};
	bool ok = state_read(k->dir, KEEP_NAME, KEEP_MAX, &bytes, &len, &err);
	if (ok && !load(k->config, bytes, len, &err))
		ok = err_prefix(&err, "%s/%s", k->dir, KEEP_NAME);
	if (!ok && err.code != ERR_NOT_FOUND)
		event(EV_CONFIG_WARNING, "text=\"the kept configuration is ignored: %s\"", err.text);
	mem_free(bytes);
}

/* --- following --- */

static void on_swap(struct config_watcher *w, struct snapshot *now)
{
	struct keep *k = CONTAINER_OF(w, struct keep, watcher);
	(void)now;
	if (!timer_running(&k->write))
		timer_start(&k->write, WRITE_MS);
}

struct keep *keep_new(struct loop *loop, struct config *c, const char *dir)
{
	struct keep *k = NEW(struct keep);
	k->config = c;
	k->dir = mem_strdup(dir);
	timer_init(&k->write, loop, write_now);
	keep_load(k);
	k->watcher.on_swap = on_swap;
	config_watch(c, &k->watcher);
	return k;
}

void keep_free(struct keep **kp)
{
	struct keep *k = *kp;
	if (k && timer_running(&k->write))
		write_now(&k->write);
	keep_discard(kp);
}

void keep_discard(struct keep **kp)
{
	struct keep *k = *kp;
	*kp = NULL;
	if (!k)
		return;
	config_unwatch(&k->watcher);
	timer_stop(&k->write);
	mem_free(k->dir);
	mem_free(k);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* compiled.c: hooks that keep what is set. */
#include "tests/unit/control/compiled.h"

#include "control/kind.h"
#include "lib/json.h"
#include "lib/proto/xds.pb-c.h"

struct compiled compiled;
static struct pushed *now_there[128];

static struct pushed **find(enum pushed_type type, const char *key)
{
	for (size_t i = 0; i < compiled.n_there; i++)
		if (now_there[i]->type == type && strcmp(now_there[i]->key, key) == 0)
			return &now_there[i];
	return NULL;
}

static void hook_set(void *ctx, struct pushed *res)
{
	struct pushed **at = find(res->type, res->key);
	if (at && strcmp((*at)->version, res->version) == 0)
		return;
	compiled.sets++;
	if (at)
		pushed_unref(at);
	else
		at = &now_there[compiled.n_there++];
	*at = pushed_ref(res);
}

static void hook_remove(void *ctx, enum pushed_type type, const char *key)
{
	struct pushed **at = find(type, key);
	ck_assert_ptr_nonnull(at);
	compiled.removes++;
	pushed_unref(at);
	*at = now_there[--compiled.n_there];
}

static void hook_warn(void *ctx, const char *text)
{
	compiled.warns++;
}

static void hook_dirty(void *ctx)
{
	compiled.dirties++;
}

void compiled_setup(void)
{
	static const struct compile_hooks hooks = {hook_set, hook_remove, hook_warn, hook_dirty};
	compiled.sets = compiled.removes = compiled.warns = compiled.dirties = 0;
	compiled.n_there = 0;
	compiled.c = compile_new(&hooks, NULL);
}

void compiled_forget(size_t n)
{
	while (compiled.n_there > n)
		pushed_unref(&now_there[--compiled.n_there]);
}

void compiled_teardown(void)
{
	compile_free(&compiled.c);
	compiled_forget(0);
}

void compiled_apply(const char *text, const char *vips)
{
	struct err err;
	json_t *in = json_read(str_of(text), &err);
	ck_assert_msg(in != NULL, "%s", err.text);
	struct object o;
	ck_assert_msg(object_check(in, "default", &o, &err), "%s", err.text);
	if (vips)
		json_object_set_new(json_object_get(o.body, "spec"), "clusterIPs", json_read(str_of(vips), &err));
	ck_assert_msg(compile_object(compiled.c, o.kind->name, o.ns, o.name, o.body, &err), "%s", err.text);
	json_decref(o.body);
	json_decref(in);
}

void compiled_delete(const char *kind, const char *name)
{
	struct err err;
	ck_assert(compile_object(compiled.c, kind, "shop", name, NULL, &err));
}

bool compiled_is_there(enum pushed_type type, const char *key)
{
	return find(type, key) != NULL;
}

const struct pushed *compiled_there(enum pushed_type type, const char *key)
{
	struct pushed **at = find(type, key);
	ck_assert_msg(at != NULL, "%s %s is not there", pushed_type_label(type), key);
	return *at;
}

void *compiled_open(const struct pushed *r, const ProtobufCMessageDescriptor *d)
{
	Envoy__Service__Discovery__V3__Resource *m =
	    envoy__service__discovery__v3__resource__unpack(NULL, r->packed.len, (const uint8_t *)r->packed.p);
	ck_assert_ptr_nonnull(m);
	ck_assert_str_eq(m->version, r->version);
	ck_assert_str_eq(m->name, r->name);
	void *inside = protobuf_c_message_unpack(d, NULL, m->resource->value.len, m->resource->value.data);
	ck_assert_ptr_nonnull(inside);
	envoy__service__discovery__v3__resource__free_unpacked(m, NULL);
	return inside;
}

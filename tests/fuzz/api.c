/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz api: a sequence of calls of weftd's API, with any method, path, query and body, on a fresh store. Each answer must be JSON that can
 * be written, an error one with a code and a text; what was refused must have changed nothing; and whatever was taken, the
 * store must go on answering. An input is a sequence of method (1 byte), target (1 byte of length and bytes), body (2 and bytes). */
#include "control/api_call.h"
#include "control/kind.h"
#include "lib/mem.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/world/api_once.h"
#include "tests/fuzz/world/store_world.h"

#include <stdlib.h>

#define CALLS_MAX 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *progress(void *ctx, const json_t *services)
{
	return json_pack("{s:i, s:[], s:[]}", "waiting", 0, "resources", "behind");
}

static json_t *reach(void *ctx, const json_t *services)
{
	return json_pack("{s:[], s:[]}", "endpoints", "resources");
}

/* Of the answer, unless it is put off: the status. */
static unsigned call(const struct api_cfg *cfg, struct str method, struct str path, struct str body, json_t **ret)
{
	unsigned seconds = 0, status;
	*ret = NULL;
	status = api_once(cfg, method, path, body, true, ret, &seconds);
	if (status == API_LATER) {
		MUST(seconds > 0 && seconds <= 30);
		status = api_once(cfg, method, path, body, false, ret, &seconds);
	}
	MUST(status >= 200 && status <= 599 && json_is_object(*ret));
	char *text = json_dumps(*ret, JSON_COMPACT);
	MUST(text != NULL);
	free(text);
	const json_t *error = json_object_get(*ret, "error");
	MUST((status >= 300) == (error != NULL));
	if (error)
		MUST(json_string_length(json_object_get(error, "code")) &&
		     json_string_length(json_object_get(error, "text")));
	MUST(status != 500); /* nothing that is asked is weftd's own fault */
	return status;
}

static uint64_t revision(const struct api_cfg *cfg)
{
	uint64_t r;
	MUST(store_revision(cfg->store, &r, NULL));
	return r;
}

static void one(const struct api_cfg *cfg, struct input *in)
{
	static const char *const methods[] = {"GET", "POST", "DELETE", "PUT"};
	struct str method = str_of(methods[input_byte(in) % ARRAY_LEN(methods)]);
	struct str path = input_short(in), body = input_long(in);
	uint64_t before = revision(cfg);
	json_t *answer;
	unsigned status = call(cfg, method, path, body, &answer);
	bool dry = json_is_true(json_object_get(answer, "dryRun"));
	json_decref(answer);
	MUST(revision(cfg) <= before + 1);
	if (status >= 300 || dry || str_is(method, "GET") || str_is(method, "PUT"))
		MUST(revision(cfg) == before);
}

/* Every list and every object in it is there, and can be asked for by its name. */
static void look_around(const struct api_cfg *cfg)
{
	static const char *const pages[] = {"/v1/status", "/v1/revisions", "/v1/tokens", "/v1/workloads"};
	json_t *answer, *o, *again;
	size_t k;
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		MUST(call(cfg, STR("GET"), str_of(pages[i]), STR(""), &answer) == 200);
		json_decref(answer);
	}
	for (size_t i = 0; kind_at(i); i++) {
		char path[600];
		snprintf(path, sizeof(path), "/v1/objects/%s", kind_at(i)->plural);
		MUST(call(cfg, STR("GET"), str_of(path), STR(""), &answer) == 200);
		json_array_foreach(json_object_get(answer, "items"), k, o)
		{
			const json_t *meta = json_object_get(o, "metadata");
			snprintf(path, sizeof(path), "/v1/describe/%s/%s/%s", kind_at(i)->plural,
				 json_string_value(json_object_get(meta, "namespace")),
				 json_string_value(json_object_get(meta, "name")));
			MUST(call(cfg, STR("GET"), str_of(path), STR(""), &again) == 200);
			json_decref(again);
		}
		json_decref(answer);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct api_cfg cfg = {.progress = progress, .reach = reach, .store = store_world_open()};
	for (int i = 0; i < CALLS_MAX && in.left > 0; i++)
		one(&cfg, &in);
	look_around(&cfg);
	store_world_close(&cfg.store);
	return 0;
}

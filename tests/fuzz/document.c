/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz document: any bytes as a policy file, through reading, checking and normalising. The first byte picks YAML or JSON. What
 * was accepted must be accepted again after normalising, unchanged; must be readable for those who push and list it; and any tree that
 * was read must be the same when it is written as YAML and read again. */
#include "control/document.h"
#include "control/document_yaml.h"
#include "control/kind.h"
#include "control/kind_endpointslice.h"
#include "control/kind_httproute.h"
#include "control/kind_service.h"
#include "control/yaml_out.h"

#include <stdlib.h>

#define WRITE_MAX 4096 /* bytes of an input whose trees are written again */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What everyone behind the store takes for granted of an object. */
static void check_readable(const struct object *o)
{
	char text[200];
	for (size_t i = 0; o->kind->columns[i]; i++) {
		text[0] = 1;
		o->kind->cell(o->body, i, text, sizeof(text));
		MUST(text[0] != 1);
	}
	if (o->kind == &kind_service) {
		struct service s;
		MUST(service_read(o->body, &s, NULL) && s.ports_len > 0);
		service_selects(&s, object_meta(o->body, "labels"));
	} else if (o->kind == &kind_endpointslice) {
		struct slice s;
		MUST(slice_read(o->body, &s, NULL));
		slice_done(&s);
	} else {
		struct httproute r;
		MUST(o->kind == &kind_httproute && httproute_read(o->body, &r, NULL) && r.parents_len > 0);
	}
}

static void check_twice(const json_t *root)
{
	struct object once, twice;
	struct err err = {.text = ""};

	if (!object_check(root, "default", &once, &err)) {
		MUST(err.text[0]); /* what is refused is refused with a reason */
		return;
	}
	check_readable(&once);
	MUST(object_check(once.body, "default", &twice, NULL));
	MUST(json_equal(once.body, twice.body));
	json_decref(once.body);
	json_decref(twice.body);
}

static bool same(void *ctx, json_t *root, unsigned line, struct err *err)
{
	const json_t **want = ctx;
	MUST(json_equal(*want, root));
	*want = NULL;
	return true;
}

static void check_written(json_t *root)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	struct err err;
	const json_t *want = root;
	MUST(out && yaml_write(out, &root, 1));
	fclose(out);
	MUST(yaml_read(str_make(text, len), same, &want, &err) && !want);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct documents d = {0};
	struct err err = {.text = ""};

	if (size == 0)
		return 0;
	if (documents_add_text(&d, data[0] & 1 ? "f.yaml" : "f.json", str_make(data + 1, size - 1), &err))
		for (size_t i = 0; i < d.len; i++) {
			check_twice(d.v[i].root);
			if (size <= WRITE_MAX && json_is_object(d.v[i].root))
				check_written(d.v[i].root);
		}
	else
		MUST(err.text[0]);
	documents_done(&d);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_out.c: on libyaml's emitter. Trees come from json_read or yaml_read and are at most 64 deep, so recursion is bounded. */
#include "control/yaml_out.h"

#include "control/document.h"
#include "lib/mem.h"

#include <stdlib.h>

#include <string.h>
#include <strings.h>
#include <yaml.h>

/* Words that YAML 1.1 reads as something else than text. */
static bool is_word_of_1_1(const char *s)
{
	static const char *const words[] = {"y", "n", "yes", "no", "on", "off", "=", "<<", NULL};

	for (size_t i = 0; words[i]; i++)
		if (strcasecmp(s, words[i]) == 0)
			return true;
	return false;
}

/* Digits with "_", ":" or an exponent are numbers or times to YAML 1.1. */
static bool needs_quotes(const char *s)
{
	json_t *v = document_scalar(str_of(s), NULL);
	bool text = json_is_string(v);

	json_decref(v);
	return !text || is_word_of_1_1(s) ||
	       (strchr("+-.0123456789", s[0]) && strspn(s, "+-.0123456789_:eExob") == strlen(s));
}

static bool scalar(yaml_emitter_t *e, const char *text, bool quoted)
{
	yaml_event_t ev;

	return yaml_scalar_event_initialize(&ev, NULL, NULL, (yaml_char_t *)(uintptr_t)text, (int)strlen(text), 1, 1,
					    quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE) &&
	       yaml_emitter_emit(e, &ev);
}

static bool text_scalar(yaml_emitter_t *e, const char *text)
{
	return scalar(e, text, needs_quotes(text));
}

static bool value(yaml_emitter_t *e, json_t *v);

static bool array(yaml_emitter_t *e, json_t *v)
{
	yaml_event_t ev;
	size_t i;
	json_t *item;

	if (!yaml_sequence_start_event_initialize(&ev, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE) ||
	    !yaml_emitter_emit(e, &ev))
		return false;
	json_array_foreach(v, i, item)
	{
		if (!value(e, item))
			return false;
	}
	return yaml_sequence_end_event_initialize(&ev) && yaml_emitter_emit(e, &ev);
}

static bool object(yaml_emitter_t *e, json_t *v)
{
	yaml_event_t ev;
	const char *key;
	json_t *item;

	if (!yaml_mapping_start_event_initialize(&ev, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE) ||
	    !yaml_emitter_emit(e, &ev))
		return false;
	json_object_foreach(v, key, item)
	{
		if (!text_scalar(e, key) || !value(e, item))
			return false;
	}
	return yaml_mapping_end_event_initialize(&ev) && yaml_emitter_emit(e, &ev);
}

static bool value(yaml_emitter_t *e, json_t *v)
{
	if (json_is_array(v))
		return array(e, v);
	if (json_is_object(v))
		return object(e, v);
	if (json_is_string(v))
		return text_scalar(e, json_string_value(v));
	char *text = json_dumps(v, JSON_ENCODE_ANY);
	bool ok = text && scalar(e, text, false);
	free(text);
	return ok;
}

bool yaml_write(FILE *out, json_t *const *roots, size_t n)
{
	yaml_emitter_t e;
	yaml_event_t ev;

	if (!yaml_emitter_initialize(&e))
		return false;
	yaml_emitter_set_output_file(&e, out);
	yaml_emitter_set_unicode(&e, 1);
	yaml_emitter_set_width(&e, -1);
	bool ok = yaml_stream_start_event_initialize(&ev, YAML_UTF8_ENCODING) && yaml_emitter_emit(&e, &ev);
	for (size_t i = 0; ok && i < n; i++)
		ok = yaml_document_start_event_initialize(&ev, NULL, NULL, NULL, i == 0) &&
		     yaml_emitter_emit(&e, &ev) && value(&e, roots[i]) && yaml_document_end_event_initialize(&ev, 1) &&
		     yaml_emitter_emit(&e, &ev);
	ok = ok && yaml_stream_end_event_initialize(&ev) && yaml_emitter_emit(&e, &ev) && fflush(out) == 0;
	yaml_emitter_delete(&e);
	return ok;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* document_yaml.c: a stack of open collections, at most DOCUMENT_DEPTH_MAX, filled from libyaml's events: no recursion, no tree
 * of libyaml's own, no alias ever expanded. */
#include "control/document_yaml.h"

#include "control/document.h"
#include "lib/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#define STR_TAG "tag:yaml.org,2002:str"

struct open {
	json_t *node; /* array or object; owned by its parent, the first by the reader */
	char *key;    /* object: the key whose value comes next; NULL: a key comes next */
};

struct reader {
	yaml_parser_t parser;
	struct open stack[DOCUMENT_DEPTH_MAX];
	size_t depth, nodes;
	json_t *root;
	unsigned line; /* of the document's first node */
};

static bool bad(const yaml_event_t *ev, struct err *err, const char *text)
{
	return err_set(err, ERR_INVALID, "%zu:%zu: %s", ev->start_mark.line + 1, ev->start_mark.column + 1, text);
}

/* --- scalars --- */

static bool all_of(struct str s, const char *set)
{
	for (size_t i = 0; i < s.len; i++)
		if (!strchr(set, s.p[i]) || !s.p[i])
			return false;
	return s.len > 0;
}

static bool word(struct str s, const char *lower, const char *title, const char *upper)
{
	return str_is(s, lower) || str_is(s, title) || str_is(s, upper);
}

static json_t *integer(const char *digits, int base, struct err *err)
{
	errno = 0;
	long long v = strtoll(digits, NULL, base);
	if (errno) {
		err_set(err, ERR_INVALID, "%.40s is too large a number; put it in quotes if it is text", digits);
		return NULL;
	}
	return json_integer(v);
}

/* [-+]? ( \.[0-9]+ | [0-9]+ (\.[0-9]*)? ) ([eE][-+]?[0-9]+)? */
static bool is_float(struct str s)
{
	size_t i = 0, digits = 0, exponent = 0;

	if (i < s.len && strchr("+-", s.p[i]))
		i++;
	for (; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		digits++;
	if (i < s.len && s.p[i] == '.')
		for (i++; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++)
			digits++;
	if (digits == 0)
		return false;
	if (i == s.len)
		return true;
	if (s.p[i] != 'e' && s.p[i] != 'E')
		return false;
	i++;
	if (i < s.len && strchr("+-", s.p[i]))
		i++;
	for (; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		exponent++;
	return exponent > 0 && i == s.len;
}

static json_t *number(struct str s, struct err *err)
{
	char text[64];
	struct str digits = s;

	if (digits.len && strchr("+-", digits.p[0]))
		digits = (struct str){digits.p + 1, digits.len - 1};
	bool hex = s.len > 2 && s.p[0] == '0' && s.p[1] == 'x' &&
		   all_of(str_make(s.p + 2, s.len - 2), "0123456789abcdefABCDEF");
	bool octal = s.len > 2 && s.p[0] == '0' && s.p[1] == 'o' && all_of(str_make(s.p + 2, s.len - 2), "01234567");
	bool decimal = all_of(digits, "0123456789");
	if (!hex && !octal && !decimal && !is_float(s))
		return json_stringn(s.p, s.len);
	if (s.len >= sizeof(text)) {
		err_set(err, ERR_INVALID, "%.20s... is too long a number; put it in quotes if it is text", s.p);
		return NULL;
	}
	memcpy(text, s.p, s.len);
	text[s.len] = 0;
	if (decimal && digits.len > 1 && digits.p[0] == '0') {
		err_set(err, ERR_INVALID,
			"%s is octal to some readers of YAML and decimal to others; drop the zero or put it in quotes",
			text);
		return NULL;
	}
	if (hex || octal || decimal)
		return integer(decimal ? text : text + 2, hex ? 16 : octal ? 8 : 10, err);
	double v = strtod(text, NULL);
	if (isfinite(v))
		return json_real(v);
	err_set(err, ERR_INVALID, "%s is too large a number", text);
	return NULL;
}

json_t *document_scalar(struct str s, struct err *err)
{
	if (s.len == 0 || str_is(s, "~") || word(s, "null", "Null", "NULL"))
		return json_null();
	if (word(s, "true", "True", "TRUE"))
		return json_true();
	if (word(s, "false", "False", "FALSE"))
		return json_false();
	struct str rest = s;
	if (strchr("+-", rest.p[0]))
		rest = (struct str){rest.p + 1, rest.len - 1};
	if (word(rest, ".inf", ".Inf", ".INF") || word(s, ".nan", ".NaN", ".NAN")) {
		err_set(err, ERR_INVALID, STR_FMT " is not a number that a policy can have", STR_ARG(s));
		return NULL;
	}
	return number(s, err);
}

static json_t *scalar(const yaml_event_t *ev, struct err *err)
{
	struct str text = str_make(ev->data.scalar.value, ev->data.scalar.length);
	const char *tag = (const char *)ev->data.scalar.tag;
	struct err why;

	if (tag && strcmp(tag, STR_TAG) != 0) {
		bad(ev, err, "tags are not supported");
		return NULL;
	}
	if (memchr(text.p, 0, text.len)) {
		bad(ev, err, "a NUL byte in text");
		return NULL;
	}
	json_t *v = ev->data.scalar.plain_implicit ? document_scalar(text, &why) : json_stringn(text.p, text.len);
	if (!v && ev->data.scalar.plain_implicit)
		bad(ev, err, why.text);
	else if (!v)
		bad(ev, err, "text is not UTF-8");
	return v;
}

/* --- building the tree --- */

static bool take_key(struct open *o, const yaml_event_t *ev, struct err *err)
{
	if (ev->type != YAML_SCALAR_EVENT)
		return bad(ev, err, "a field's name must be text");
	const char *key = (const char *)ev->data.scalar.value;
	size_t len = ev->data.scalar.length;
	/* "" is a name, as it is in JSON; nothing at all before the colon is none */
	bool none = len == 0 && ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	if (none || memchr(key, 0, len))
		return bad(ev, err, "a field without a name");
	if (json_object_getn(o->node, key, len)) {
		char text[160];
		snprintf(text, sizeof(text), "the field \"%.100s\" is there twice", key);
		return bad(ev, err, text);
	}
	o->key = mem_strndup(key, len);
	return true;
}

/* Gives the node (taken over) its place. */
static bool place(struct reader *r, const yaml_event_t *ev, json_t *node, struct err *err)
{
	if (++r->nodes > DOCUMENT_NODES_MAX) {
		json_decref(node);
		return err_set(err, ERR_LIMIT, "%zu:%zu: more than %d values in one file", ev->start_mark.line + 1,
			       ev->start_mark.column + 1, DOCUMENT_NODES_MAX);
	}
	if (r->depth == 0) {
		r->root = node;
		r->line = (unsigned)ev->start_mark.line + 1;
		return true;
	}
	struct open *o = &r->stack[r->depth - 1];
	bool ok = o->key ? json_object_set_new(o->node, o->key, node) == 0 : json_array_append_new(o->node, node) == 0;
	FREE(&o->key);
	return ok || bad(ev, err, "text is not UTF-8");
}

static bool push(struct reader *r, const yaml_event_t *ev, json_t *node, const yaml_char_t *tag, struct err *err)
{
	if (tag || r->depth == DOCUMENT_DEPTH_MAX) {
		json_decref(node);
		if (tag)
			return bad(ev, err, "tags are not supported");
		return err_set(err, ERR_LIMIT, "%zu:%zu: nested deeper than %d", ev->start_mark.line + 1,
			       ev->start_mark.column + 1, DOCUMENT_DEPTH_MAX);
	}
	if (!place(r, ev, node, err))
		return false;
	r->stack[r->depth++] = (struct open){.node = node};
	return true;
}

static bool value(struct reader *r, const yaml_event_t *ev, struct err *err)
{
	json_t *node;

	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		node = scalar(ev, err);
		return node && place(r, ev, node, err);
	case YAML_SEQUENCE_START_EVENT:
		return push(r, ev, json_array(), ev->data.sequence_start.tag, err);
	case YAML_MAPPING_START_EVENT:
		return push(r, ev, json_object(), ev->data.mapping_start.tag, err);
	default:
		return bad(ev, err, "aliases (*name) are not supported; write the value out");
	}
}

static void drop_root(struct reader *r)
{
	for (size_t i = 0; i < r->depth; i++)
		FREE(&r->stack[i].key);
	r->depth = 0;
	json_decref(r->root);
	r->root = NULL;
}

static bool take(struct reader *r, const yaml_event_t *ev, bool (*each)(void *, json_t *, unsigned, struct err *),
		 void *ctx, struct err *err)
{
	struct open *o = r->depth ? &r->stack[r->depth - 1] : NULL;
	bool ok = true;

	switch (ev->type) {
	case YAML_SCALAR_EVENT:
	case YAML_ALIAS_EVENT:
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		if (o && json_is_object(o->node) && !o->key)
			return ev->type == YAML_ALIAS_EVENT ? value(r, ev, err) : take_key(o, ev, err);
		return value(r, ev, err);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		r->depth--;
		return true;
	case YAML_DOCUMENT_END_EVENT:
		if (r->root && !json_is_null(r->root))
			ok = each(ctx, r->root, r->line, err);
		drop_root(r);
		return ok;
	default:
		return true;
	}
}

static bool parse_failed(const yaml_parser_t *p, struct err *err)
{
	if (p->error == YAML_READER_ERROR)
		return err_set(err, ERR_INVALID, "%zu:1: %s (byte %zu)", p->mark.line + 1,
			       p->problem ? p->problem : "not UTF-8", p->problem_offset);
	if (p->error == YAML_MEMORY_ERROR)
		return err_set(err, ERR_LIMIT, "1:1: out of memory");
	return err_set(err, ERR_INVALID, "%zu:%zu: %s%s%s", p->problem_mark.line + 1, p->problem_mark.column + 1,
		       p->problem ? p->problem : "not YAML", p->context ? ", " : "", p->context ? p->context : "");
}

bool yaml_read(struct str text, bool (*each)(void *ctx, json_t *root, unsigned line, struct err *err), void *ctx,
	       struct err *err)
{
	struct reader r = {.depth = 0};
	bool ok = true, end = false;

	if (!yaml_parser_initialize(&r.parser))
		return err_set(err, ERR_LIMIT, "1:1: out of memory");
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.p, text.len);
	while (ok && !end) {
		yaml_event_t ev;
		if (!yaml_parser_parse(&r.parser, &ev)) {
			ok = parse_failed(&r.parser, err);
			break;
		}
		end = ev.type == YAML_STREAM_END_EVENT;
		ok = take(&r, &ev, each, ctx, err);
		yaml_event_delete(&ev);
	}
	drop_root(&r);
	yaml_parser_delete(&r.parser);
	return ok;
}

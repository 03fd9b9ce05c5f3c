/* SPDX-License-Identifier: Apache-2.0 */
/* kind_field.c: names, ports, addresses and label maps as Kubernetes defines them (RFC 1123 names, label syntax). */
#include "control/kind_field.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PATH_MAX_TEXT   200
#define LABELS_MAX      64
#define ANNOTATIONS_MAX (256 * 1024) /* bytes in all, as Kubernetes has it */

bool field_bad(const struct jpath *at, const char *name, struct err *err, const char *fmt, ...)
{
	struct jpath here = {.up = at, .field = name};
	char path[PATH_MAX_TEXT], text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return err_set(err, ERR_INVALID, "%s: %s", jpath_text(name ? &here : at, path, sizeof(path)), text);
}

/* A JSON value as an error shows it. */
static const char *shown(const json_t *v, char *out, size_t size)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);

	snprintf(out, size, "%s", text ? text : "?");
	if (text && strlen(text) >= size)
		memcpy(out + size - 4, "...", 4);
	free(text);
	return out;
}

bool field_port(const json_t *obj, const char *name, bool required, const struct jpath *at, uint16_t *ret,
		struct err *err)
{
	const json_t *v = json_object_get(obj, name);
	char text[64];

	if (!v || json_is_null(v))
		return !required || field_bad(at, name, err, "it is missing; a port (1 to 65535) is required");
	if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > 65535)
		return field_bad(at, name, err, "%s is not a port (1 to 65535)", shown(v, text, sizeof(text)));
	*ret = (uint16_t)json_integer_value(v);
	return true;
}

bool field_label(const char *value, const struct jpath *at, const char *name, struct err *err)
{
	return str_is_dns_label(str_of(value)) ||
	       field_bad(at, name, err, "\"%.80s\" is not a name (1 to 63 of a-z, 0-9 and -, no - at the ends)", value);
}

static bool is_subdomain(struct str s)
{
	struct str head, rest = s;

	if (s.len == 0 || s.len > 253 || s.p[s.len - 1] == '.')
		return false;
	while (rest.len) {
		str_cut(rest, '.', &head, &rest);
		if (!str_is_dns_label(head))
			return false;
	}
	return true;
}

bool field_subdomain(const char *value, const struct jpath *at, const char *name, struct err *err)
{
	return is_subdomain(str_of(value)) ||
	       field_bad(at, name, err,
			 "\"%.80s\" is not a name (labels of a-z, 0-9 and - with dots between, at most 253 bytes)",
			 value);
}

bool field_word(const json_t *obj, const char *name, const char *const *words, const struct jpath *at, const char **ret,
		struct err *err)
{
	const char *value = NULL;
	char all[200] = "";

	if (!json_get_str(obj, name, false, at, &value, err))
		return false;
	if (!value)
		return true;
	for (size_t i = 0; words[i]; i++) {
		if (strcmp(words[i], value) == 0) {
			*ret = words[i];
			return true;
		}
		size_t len = strlen(all);
		snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", words[i]);
	}
	return field_bad(at, name, err, "\"%.80s\" is not supported; expected %s%s", value, words[1] ? "one of " : "",
			 all);
}

bool field_none_of(const json_t *obj, const char *const *names, const struct jpath *at, struct err *err)
{
	for (size_t i = 0; names[i]; i++)
		if (json_object_get(obj, names[i]))
			return field_bad(at, names[i], err, "not supported yet");
	return true;
}

bool field_ip(const char *value, const struct jpath *at, struct ip *ret, struct err *err)
{
	struct ip ip;

	if (!ip_parse(str_of(value), &ip))
		return field_bad(at, NULL, err, "\"%.80s\" is not an IP address", value);
	static const uint8_t zero[16];
	bool odd = ip_is_loopback(&ip) || memcmp(ip.b, zero, ip.len) == 0;
	if (ip.len == 4)
		odd = odd || (ip.b[0] & 0xf0) == 0xe0 || ip.b[0] == 0 || (ip.b[0] == 169 && ip.b[1] == 254) ||
		      memcmp(ip.b, "\xff\xff\xff\xff", 4) == 0;
	else
		odd = odd || ip.b[0] == 0xff || (ip.b[0] == 0xfe && (ip.b[1] & 0xc0) == 0x80);
	if (odd)
		return field_bad(at, NULL, err, "%s is a loopback, link-local, multicast or unspecified address",
				 value);
	*ret = ip;
	return true;
}

/* Letters, digits, "-", "_", "."; letters or digits at the ends; at most 63. */
static bool is_label_part(const char *p, size_t len)
{
	if (len == 0 || len > 63 || !isalnum((unsigned char)p[0]) || !isalnum((unsigned char)p[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)p[i]) && p[i] != '-' && p[i] != '_' && p[i] != '.')
			return false;
	return true;
}

static bool is_label_key(const char *key)
{
	struct str head, rest;

	if (!str_cut(str_of(key), '/', &head, &rest))
		return is_label_part(head.p, head.len);
	return is_subdomain(head) && is_label_part(rest.p, rest.len);
}

bool field_labels(const json_t *labels, const struct jpath *at, struct err *err)
{
	const char *key;
	json_t *value;
	char text[80];

	if (json_object_size(labels) > LABELS_MAX)
		return field_bad(at, NULL, err, "there are %zu labels; at most %d", json_object_size(labels),
				 LABELS_MAX);
	json_object_foreach((json_t *)(uintptr_t)labels, key, value)
	{
		const char *v = json_string_value(value);
		if (!is_label_key(key))
			return field_bad(at, NULL, err, "\"%.80s\" is not a label's key ([prefix/]name)", key);
		if (!v)
			return field_bad(at, key, err, "%s is not text; put it in quotes",
					 shown(value, text, sizeof(text)));
		if (*v && !is_label_part(v, strlen(v)))
			return field_bad(at, key, err,
					 "\"%.80s\" is not a label's value (at most 63 letters, digits, -, _ and .)",
					 v);
	}
	return true;
}

bool field_annotations(const json_t *annotations, const struct jpath *at, struct err *err)
{
	const char *key;
	json_t *value;
	size_t total = 0;
	char text[80];

	json_object_foreach((json_t *)(uintptr_t)annotations, key, value)
	{
		if (!is_label_key(key))
			return field_bad(at, NULL, err, "\"%.80s\" is not an annotation's key ([prefix/]name)", key);
		if (!json_is_string(value))
			return field_bad(at, key, err, "%s is not text; put it in quotes",
					 shown(value, text, sizeof(text)));
		total += strlen(key) + json_string_length(value);
	}
	return total <= ANNOTATIONS_MAX ||
	       field_bad(at, NULL, err, "they are larger than %d KiB", ANNOTATIONS_MAX / 1024);
}

void field_copy(json_t *to, const json_t *from, const char *name)
{
	json_t *v = json_object_get(from, name);

	if (v && !json_is_null(v))
		json_object_set_new(to, name, json_deep_copy(v));
}

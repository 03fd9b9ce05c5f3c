/* SPDX-License-Identifier: Apache-2.0 */
/* option.c: reads `--name value`, `--name=value`, `-n value`, `-nvalue`, mixed with words. */
#include "control/option.h"

#include "control/nearest.h"
#include "lib/mem.h"

#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 64
#define ENV_MAX  16384 /* bytes of all lists in the environment */

struct reading {
	const struct option *rows;
	size_t n;
	char *to;
	bool given[ROWS_MAX];
	struct err *err;
};

static bool add(struct option_list *l, const char *value, const char *what, struct err *err)
{
	if (l->len == OPTION_LIST_MAX)
		return err_set(err, ERR_INVALID, "%s: more than %d of them", what, OPTION_LIST_MAX);
	l->v[l->len++] = value;
	return true;
}

static bool store(struct reading *r, size_t i, const char *value)
{
	const struct option *o = &r->rows[i];
	void *member = r->to + o->offset;

	r->given[i] = true;
	switch (o->type) {
	case OPTION_FLAG:
		*(bool *)member = true;
		return true;
	case OPTION_TEXT:
		*(const char **)member = value;
		return true;
	case OPTION_LIST:
		return add(member, value, o->name, r->err);
	}
	return false;
}

/* For nearest(), which knows no context: weft and weftd read one command line. */
static const struct reading *current;

static const char *name_at(size_t i)
{
	return i < current->n ? current->rows[i].name : NULL;
}

static bool unknown(struct reading *r, const char *typed, const char *name)
{
	current = r;
	const char *near = name ? nearest(name, name_at) : NULL;
	return err_set(r->err, ERR_INVALID, "unknown option %.80s%s%s%s", typed, near ? "; did you mean --" : "",
		       near ? near : "", near ? "?" : "");
}

static bool find(const struct reading *r, const char *name, size_t len, char letter, size_t *ret)
{
	for (size_t i = 0; i < r->n; i++)
		if (name ? strlen(r->rows[i].name) == len && memcmp(r->rows[i].name, name, len) == 0
			 : r->rows[i].letter == letter) {
			*ret = i;
			return true;
		}
	return false;
}

/* One argument that begins with "-"; *at is its index and moves over a value of its own. */
static bool read_one(struct reading *r, int argc, char **argv, int *at)
{
	const char *arg = argv[*at], *value = NULL;
	size_t i;

	if (arg[1] == '-') {
		const char *eq = strchr(arg, '=');
		size_t len = eq ? (size_t)(eq - arg) - 2 : strlen(arg) - 2;
		if (!find(r, arg + 2, len, 0, &i)) {
			char *name = mem_strndup(arg + 2, len);
			unknown(r, arg, name);
			mem_free(name);
			return false;
		}
		value = eq ? eq + 1 : NULL;
	} else {
		if (!find(r, NULL, 0, arg[1], &i))
			return unknown(r, arg, NULL);
		value = arg[2] ? arg + 2 : NULL;
	}
	if (r->rows[i].type == OPTION_FLAG)
		return !value ? store(r, i, NULL)
			      : err_set(r->err, ERR_INVALID, "--%s takes no value", r->rows[i].name);
	if (!value && ++*at < argc)
		value = argv[*at];
	if (!value)
		return err_set(r->err, ERR_INVALID, "--%s wants a value: %s", r->rows[i].name, r->rows[i].arg);
	return store(r, i, value);
}

static bool read_env(struct reading *r, size_t i)
{
	const struct option *o = &r->rows[i];
	const char *value = o->env && !r->given[i] ? getenv(o->env) : NULL;

	if (!value || !*value)
		return true;
	if (o->type == OPTION_TEXT)
		return store(r, i, value);
	if (o->type == OPTION_FLAG)
		return strcmp(value, "1") != 0 || store(r, i, NULL);
	/* The items are handed out as pointers that live as long as the program. */
	static char kept[ENV_MAX];
	static size_t used;
	size_t len = strlen(value) + 1;
	if (len > sizeof(kept) - used)
		return err_set(r->err, ERR_INVALID, "%s: too long", o->env);
	char *rest = memcpy(kept + used, value, len), *item;
	used += len;
	while ((item = strsep(&rest, ",")))
		if (*item && !store(r, i, item))
			return false;
	return true;
}

bool options_read(const struct option *rows, size_t n, int argc, char **argv, void *to, struct option_list *ret_words,
		  struct err *err)
{
	struct reading r = {.rows = rows, .n = n, .to = to, .err = err};
	bool options = true;

	MUST(n <= ROWS_MAX);
	ret_words->len = 0;
	for (int i = 0; i < argc; i++) {
		bool option = options && argv[i][0] == '-' && argv[i][1];
		if (option && strcmp(argv[i], "--") == 0)
			options = false;
		else if (option ? !read_one(&r, argc, argv, &i) : !add(ret_words, argv[i], "arguments", err))
			return false;
	}
	for (size_t i = 0; i < n; i++)
		if (!read_env(&r, i))
			return false;
	return true;
}

void option_help(FILE *out, const struct option *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct option *o = &rows[i];
		char left[80];
		snprintf(left, sizeof(left), "%c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
			 o->letter ? "," : " ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		fprintf(out, "  %-34s %s%s%s%s\n", left, o->text, o->env ? " [" : "", o->env ? o->env : "",
			o->env ? "]" : "");
	}
}

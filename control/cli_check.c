/* SPDX-License-Identifier: Apache-2.0 */
/* cli_check.c: `weft check`: what is wrong with this mesh as seen from here, in categories, each line with a hint of what to do.
 * A check is a row of cli_check.tbl.h; it looks at what was gathered once (configuration, version, status), and changes nothing. */
#include "control/cli.h"
#include "control/cli_check.h"
#include "lib/mem.h"

#include <locale.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum category {
#define CATEGORY(symbol, name) CATEGORY_##symbol,
#define CHECK(function, category, description)
#include "control/cli_check.tbl.h"
#undef CATEGORY
#undef CHECK
	CATEGORIES
};

static const char *const categories[] = {
#define CATEGORY(symbol, name) name,
#define CHECK(function, category, description)
#include "control/cli_check.tbl.h"
#undef CATEGORY
#undef CHECK
};

static const struct check {
	enum category category;
	void (*run)(struct check_facts *facts, struct check_out *out);
} checks[] = {
#define CATEGORY(symbol, name)
#define CHECK(function, category, description) {CATEGORY_##category, check_##function},
#include "control/cli_check.tbl.h"
#undef CATEGORY
#undef CHECK
};

/* --- what a check says --- */

static const char *const result_words[] = {
    [CHECK_GOOD] = "success", [CHECK_WARNING] = "warning", [CHECK_ERROR] = "error"};

void check_say(struct check_out *out, enum check_result result, const char *hint, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_t *line = json_pack("{s:s, s:s}", "description", text, "result", result_words[result]);
	if (!line) /* words of others may be anything */
		line = json_pack("{s:s, s:s}", "description", "(not UTF-8)", "result", result_words[result]);
	if (hint)
		json_object_set_new(line, "hint", json_string(hint));
	json_array_append_new(out->lines, line);
	out->worst = MAX(out->worst, result);
}

/* --- printing --- */

static bool utf8(void)
{
	return setlocale(LC_CTYPE, "") && strcasecmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

static const char *sign_of(const char *result, bool wide)
{
	if (strcmp(result, "success") == 0)
		return wide ? "√" : "ok  ";
	if (strcmp(result, "warning") == 0)
		return wide ? "‼" : "warn";
	return wide ? "×" : "FAIL";
}

static const char *colour_of(const char *result)
{
	return strcmp(result, "success") == 0 ? cli_green() : strcmp(result, "warning") == 0 ? cli_yellow() : cli_red();
}

static void print_category(const json_t *category, bool wide)
{
	const char *name = json_string_value(json_object_get(category, "categoryName"));
	size_t i;
	json_t *line;

	printf("%s\n", name);
	for (i = 0; i < strlen(name); i++)
		putchar('-');
	putchar('\n');
	json_array_foreach(json_object_get(category, "checks"), i, line)
	{
		const char *result = json_string_value(json_object_get(line, "result"));
		const char *hint = json_string_value(json_object_get(line, "hint"));
		printf("%s%s%s %s\n", colour_of(result), sign_of(result, wide), cli_plain(),
		       json_string_value(json_object_get(line, "description")));
		if (hint)
			printf("    %s\n", hint);
	}
	putchar('\n');
}

static void print_all(const json_t *report, enum check_result worst)
{
	bool wide = utf8();
	const char *result = result_words[worst];
	size_t i;
	json_t *category;

	json_array_foreach(json_object_get(report, "categories"), i, category) print_category(category, wide);
	printf("Status check results are %s%s%s\n", colour_of(result), sign_of(result, wide), cli_plain());
}

enum cli_exit cli_check(struct cli *c, struct err *err)
{
	enum check_result worst = CHECK_GOOD;
	json_t *list = json_array();

	if (!cli_output_ok(c, err) || c->words.len) {
		if (c->words.len)
			err_set(err, ERR_INVALID, "check: it takes no arguments; see `weft check --help`");
		json_decref(list);
		return CLI_USAGE;
	}
	struct check_facts facts = {.c = c};
	check_gather(&facts);
	for (size_t k = 0; k < CATEGORIES; k++) {
		json_t *lines = json_array();
		for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
			struct check_out out = {.lines = lines};
			if (checks[i].category != k)
				continue;
			checks[i].run(&facts, &out);
			worst = MAX(worst, out.worst);
		}
		/* what does not apply here says nothing */
		if (json_array_size(lines))
			json_array_append_new(list,
					      json_pack("{s:s, s:O}", "categoryName", categories[k], "checks", lines));
		json_decref(lines);
	}
	check_facts_done(&facts);
	json_t *report = json_pack("{s:b, s:o}", "success", worst != CHECK_ERROR, "categories", list);
	if (!cli_print_as(c->output, report))
		print_all(report, worst);
	json_decref(report);
	return worst == CHECK_ERROR ? CLI_FAILED : CLI_OK;
}

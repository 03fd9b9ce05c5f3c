/* SPDX-License-Identifier: Apache-2.0 */
/* options.c: see options.h. An option wins over its environment variable, that over the default. */
#include "bpf/options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
	const char *name, *arg, *commands, *text;
};

static const struct row rows[OPT_COUNT] = {
#define OPTION(id, name_, arg_, commands_, text_) [OPT_##id] = {name_, arg_, commands_, text_},
#include "bpf/option.tbl.h"
#undef OPTION
};

static const char *const defaults[OPT_COUNT] = {
    [OPT_NAMESPACE] = "default", [OPT_STATE_DIR] = "/var/lib/weft/proxy",
    [OPT_RUN_DIR] = "/run/weft", [OPT_PIN_DIR] = "/sys/fs/bpf/weft",
    [OPT_CGROUP] = "weft",       [OPT_OUTPUT] = "table",
};

static void env_name(const char *name, char out[static 64])
{
	size_t n = (size_t)snprintf(out, 64, "WEFT_%s", name);

	for (size_t i = 0; i < n && i < 63; i++)
		out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

static void from_environment(char letter, struct options *o)
{
	for (int i = 0; i < OPT_COUNT; i++) {
		char name[64];
		const char *v;

		o->v[i] = defaults[i];
		if (!strchr(rows[i].commands, letter))
			continue;
		env_name(rows[i].name, name);
		v = getenv(name);
		if (v && *v)
			o->v[i] = v;
	}
}

/* "--name", "--name=value" or "-o": the row, and the value when it is attached. */
static int find(const char *word, char letter, const char **ret_value)
{
	const char *name = word + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);

	*ret_value = eq ? eq + 1 : NULL;
	for (int i = 0; i < OPT_COUNT; i++) {
		if (strchr(rows[i].commands, letter) && strlen(rows[i].name) == len &&
		    !strncmp(rows[i].name, name, len))
			return i;
	}
	return -1;
}

bool options_parse(char **argv, char letter, struct options *ret, struct err *err)
{
	from_environment(letter, ret);
	for (; *argv && **argv == '-'; argv++) {
		const char *word = strcmp(*argv, "-o") ? *argv : "--output", *value;
		int i;

		if (!strcmp(word, "--")) {
			argv++;
			break;
		}
		i = strncmp(word, "--", 2) ? -1 : find(word, letter, &value);
		if (i < 0)
			return err_set(err, ERR_INVALID, "%s: no such option here; --help lists them", word);
		if (!rows[i].arg && value)
			return err_set(err, ERR_INVALID, "--%s takes no value", rows[i].name);
		if (rows[i].arg && !value && !(value = *++argv))
			return err_set(err, ERR_INVALID, "--%s: %s is missing", rows[i].name, rows[i].arg);
		ret->v[i] = rows[i].arg ? value : "true";
	}
	ret->rest = argv;
	return true;
}

void options_help(char letter)
{
	for (int i = 0; i < OPT_COUNT; i++) {
		char left[64], env[64];

		if (!strchr(rows[i].commands, letter))
			continue;
		env_name(rows[i].name, env);
		snprintf(left, sizeof(left), "--%s %s", rows[i].name, rows[i].arg ? rows[i].arg : "");
		printf("  %-38s %s [%s]\n", left, rows[i].text, env);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* cli_manual.c: docs/cli.md, made of the rows of commands and options (`make docs`). */
#include "control/cli.h"

#include <string.h>

/* A pipe divides cells, also within code. */
static void cell(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '|')
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void option_row(FILE *out, const struct option *o)
{
	fprintf(out, "| `");
	if (o->letter)
		fprintf(out, "-%c`, `", o->letter);
	fprintf(out, "--%s", o->name);
	if (o->arg) {
		fputc(' ', out);
		cell(out, o->arg);
	}
	fprintf(out, "` | ");
	cell(out, o->text);
	fprintf(out, "%s%s%s |\n", o->env ? " (`" : "", o->env ? o->env : "", o->env ? "`)" : "");
}

/* Options that every command has are said once. */
static bool everywhere(const char *name)
{
	static const struct cli_command any = {.options = 0};
	struct option rows[CLI_OPTIONS_MAX];
	size_t n = cli_options_of(&any, rows);

	for (size_t i = 0; i < n; i++)
		if (strcmp(rows[i].name, name) == 0)
			return true;
	return false;
}

static void option_table(FILE *out, const struct cli_command *cmd, bool common)
{
	struct option rows[CLI_OPTIONS_MAX];
	size_t n = cli_options_of(cmd, rows), shown = 0;

	for (size_t i = 0; i < n; i++)
		if (common || !everywhere(rows[i].name)) {
			if (shown++ == 0)
				fprintf(out, "\n| option | |\n|---|---|\n");
			option_row(out, &rows[i]);
		}
}

/* What `weft check` looks at. */
static void check_list(FILE *out)
{
	static const char *const descriptions[] = {
#define CATEGORY(symbol, name)
#define CHECK(function, category, description) description,
#include "control/cli_check.tbl.h"
#undef CATEGORY
#undef CHECK
	};

	fputc('\n', out);
	for (size_t i = 0; i < ARRAY_LEN(descriptions); i++)
		fprintf(out, "* %s\n", descriptions[i]);
}

void cli_manual(FILE *out)
{
	static const struct cli_command any = {.options = 0};

	fprintf(out,
		"# weft: the command line\n\n"
		"Made by `make docs` from `control/cli.tbl.h` and `control/cli_option.tbl.h`; do not edit it here.\n\n"
		"Data goes to standard output, everything else to standard error. Exit code 0: done; 1: failed; 2: "
		"wrong usage\n"
		"(`diff`: 0 no difference, 1 differences, 2 failed; `check`: 1 on an error, 0 on warnings). Colour "
		"only on a terminal,\n"
		"and never with `NO_COLOR`. Options may stand before the command. Every option with a variable in "
		"brackets can be\n"
		"given by it.\n\nEvery command has:\n");
	option_table(out, &any, true);
	fprintf(out, "\n| command | |\n|---|---|\n");
	for (size_t i = 0; cli_command_at(i); i++) {
		const struct cli_command *cmd = cli_command_at(i);
		fprintf(out, "| `weft %s` | ", cmd->words);
		cell(out, cmd->text);
		fprintf(out, " |\n");
	}
	for (size_t i = 0; cli_command_at(i); i++) {
		const struct cli_command *cmd = cli_command_at(i);
		fprintf(out, "\n## weft %s%s%s\n\n%c%s.\n", cmd->words, *cmd->args ? " " : "", cmd->args,
			cmd->text[0] & ~0x20, cmd->text + 1);
		if (cmd->run == cli_check)
			check_list(out);
		option_table(out, cmd, false);
		fprintf(out, "\n```\n%s\n```\n", cmd->example);
	}
}

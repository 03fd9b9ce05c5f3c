/* SPDX-License-Identifier: Apache-2.0 */
/* cli.c: finds the command, reads its options, prints help, turns a failure into a line and an exit code. */
#include "control/cli.h"

#include "control/nearest.h"
#include "lib/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct cli_command commands[] = {
#define CLI(function, words, args, options, text, example) {words, args, options, text, example, cli_##function},
#include "control/cli.tbl.h"
#undef CLI
};

static const struct {
	unsigned bit;
	struct option option;
} options[] = {
#define CLI_OPTION(bit, member, type, letter, name, arg, env, text) \
	{bit, {OPTION_##type, offsetof(struct cli, member), name, letter, arg, env, text}},
#include "control/cli_option.tbl.h"
#undef CLI_OPTION
};

size_t cli_options_of(const struct cli_command *cmd, struct option out[static CLI_OPTIONS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if ((cmd->options | CLI_ANY) & options[i].bit)
			out[n++] = options[i].option;
	return n;
}

const struct cli_command *cli_command_at(size_t i)
{
	return i < ARRAY_LEN(commands) ? &commands[i] : NULL;
}

static void help_all(FILE *out)
{
	fprintf(out, "weft: manages a Weft mesh\n\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		char left[64];
		snprintf(left, sizeof(left), "%s %s", commands[i].words, commands[i].args);
		fprintf(out, "  weft %-38s %s\n", left, commands[i].text);
	}
	fprintf(out, "\n`weft COMMAND --help` lists a command's options.\n");
}

static void help_one(const struct cli_command *cmd)
{
	struct option rows[CLI_OPTIONS_MAX];

	printf("weft %s %s\n  %s\n\nOptions:\n", cmd->words, cmd->args, cmd->text);
	option_help(stdout, rows, cli_options_of(cmd, rows));
	printf("\nExamples:\n");
	for (struct str line, rest = str_of(cmd->example); rest.len;) {
		str_cut(rest, '\n', &line, &rest);
		printf("  " STR_FMT "\n", STR_ARG(line));
	}
}

static const char *name_at(size_t i)
{
	return i < ARRAY_LEN(commands) ? commands[i].words : NULL;
}

/* The command whose words argv begins with; *ret_words is how many. */
static const struct cli_command *find(int argc, char **argv, int *ret_words)
{
	char two[64] = "";

	if (argc > 1)
		snprintf(two, sizeof(two), "%s %s", argv[0], argv[1]);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		*ret_words = strcmp(commands[i].words, two) == 0 ? 2 : strcmp(commands[i].words, argv[0]) == 0 ? 1 : 0;
		if (*ret_words)
			return &commands[i];
	}
	return NULL;
}

static int unknown(int argc, char **argv)
{
	char typed[64];
	size_t len = strlen(argv[0]);

	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strncmp(commands[i].words, argv[0], len) == 0 &&
		    commands[i].words[len] == ' ') { /* "token" alone */
			cli_say("%s: which one? %s", argv[0], argc > 1 ? "" : "it wants another word:");
			for (; i < ARRAY_LEN(commands); i++)
				if (strncmp(commands[i].words, argv[0], len) == 0)
					cli_say("  weft %s %s", commands[i].words, commands[i].args);
			return CLI_USAGE;
		}
	snprintf(typed, sizeof(typed), "%s", argv[0]);
	const char *near = nearest(typed, name_at);
	cli_say("unknown command %s%s%s%s; `weft --help` lists them", typed, near ? "; did you mean " : "",
		near ? near : "", near ? "?" : "");
	return CLI_USAGE;
}

static bool takes_value(const char *arg)
{
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		const struct option *o = &options[i].option;
		if (o->type != OPTION_FLAG &&
		    (arg[1] == '-' ? strcmp(arg + 2, o->name) == 0 : arg[1] == o->letter && !arg[2]))
			return true;
	}
	return false;
}

/* Options may stand before the command: they are moved behind it. Returns how many there were. */
static int move_options(int argc, char **argv)
{
	int n = 0;

	while (n < argc && argv[n][0] == '-' && argv[n][1])
		n += takes_value(argv[n]) ? 2 : 1;
	n = MIN(n, argc);
	char **front = mem_dup(argv, (size_t)argc * sizeof(*argv));
	memmove(argv, argv + n, (size_t)(argc - n) * sizeof(*argv));
	memcpy(argv + argc - n, front, (size_t)n * sizeof(*argv));
	mem_free(front);
	return n;
}

static bool given(const char *arg, const char *a, const char *b)
{
	return strcmp(arg, a) == 0 || strcmp(arg, b) == 0;
}

_Static_assert(ARRAY_LEN(options) <= CLI_OPTIONS_MAX, "room for every option");

int cli_main(int argc, char **argv)
{
	struct cli c = {.ns = NULL};
	struct option rows[CLI_OPTIONS_MAX];
	struct err err = {.code = ERR_NONE};
	char *only_version[] = {(char *)(uintptr_t) "version", (char *)(uintptr_t) "--client"};
	int words = 0;

	argc--, argv++;
	if (argc == 0) {
		help_all(stderr);
		return CLI_USAGE;
	}
	if (argc == 2 && strcmp(argv[0], "help") == 0 && strcmp(argv[1], "markdown") == 0) {
		cli_manual(stdout);
		return CLI_OK;
	}
	if (argc > 1 && strcmp(argv[0], "help") == 0) {
		const struct cli_command *about = find(argc - 1, argv + 1, &words);
		if (!about)
			return unknown(argc - 1, argv + 1);
		help_one(about);
		return CLI_OK;
	}
	if (given(argv[0], "--help", "-h") || strcmp(argv[0], "help") == 0) {
		help_all(stdout);
		return CLI_OK;
	}
	if (strcmp(argv[0], "--version") == 0)
		argc = 2, argv = only_version;
	int before = move_options(argc, argv);
	if (before == argc) {
		cli_say("a command is missing; `weft --help` lists them");
		return CLI_USAGE;
	}
	const struct cli_command *cmd = find(argc, argv, &words);
	if (!cmd) {
		/* What looks like the command may be the value of a misspelt option before it. */
		for (size_t i = 0; i < ARRAY_LEN(options); i++)
			rows[i] = options[i].option;
		bool known = options_read(rows, ARRAY_LEN(options), before, argv + argc - before, &c, &c.words, &err);
		if (known)
			return unknown(argc - before, argv);
		cli_say("%s; `weft --help` lists the commands", err.text);
		return CLI_USAGE;
	}
	if (!options_read(rows, cli_options_of(cmd, rows), argc - words, argv + words, &c, &c.words, &err)) {
		cli_say("%s: %s; `weft %s --help` lists the options", cmd->words, err.text, cmd->words);
		return CLI_USAGE;
	}
	if (c.help) {
		help_one(cmd);
		return CLI_OK;
	}
	enum cli_exit code = cmd->run(&c, &err);
	if (code != CLI_OK && err.code != ERR_NONE)
		cli_say("%s", err.text);
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == CLI_OK) {
		cli_say("standard output: %s", strerror(errno));
		code = CLI_FAILED;
	}
	return code;
}

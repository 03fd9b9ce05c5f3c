/* SPDX-License-Identifier: Apache-2.0 */
/* cli_complete.c: `weft completion`: scripts for shells, made of the rows of commands, options and kinds. */
#include "control/cli.h"
#include "control/kind.h"
#include "control/nearest.h"

#include <string.h>

/* Lists that `weft get` has beside kinds. */
#define LISTS "workloads tokens"

/* In single quotes of a shell; zsh and fish take the same form. */
static void quoted(const char *text, const char *more)
{
	putchar('\'');
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else if (more && strchr(more, *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
	putchar('\'');
}

static void print_kinds(void)
{
	for (size_t i = 0; kind_at(i); i++)
		printf("%s ", kind_at(i)->plural);
	printf(LISTS);
}

static bool takes_kind(const struct cli_command *cmd)
{
	return strstr(cmd->args, "KIND") != NULL;
}

static bool takes_shell(const struct cli_command *cmd)
{
	return strstr(cmd->args, "bash|") != NULL;
}

static void print_options(const struct cli_command *cmd)
{
	struct option rows[CLI_OPTIONS_MAX];
	size_t n = cli_options_of(cmd, rows);

	for (size_t i = 0; i < n; i++)
		printf("%s--%s", i ? " " : "", rows[i].name);
}

/* First words, each once: "token create" and "token list" are one. */
static bool first_of_its_word(size_t i)
{
	size_t len = strcspn(cli_command_at(i)->words, " ");

	return i == 0 || strncmp(cli_command_at(i - 1)->words, cli_command_at(i)->words, len) != 0 ||
	       strcspn(cli_command_at(i - 1)->words, " ") != len;
}

/* --- bash --- */

static void bash(void)
{
	printf("# bash completion of weft; made by `weft completion bash`\n_weft()\n{\n\tlocal cur prev "
	       "words\n\tcur=${COMP_WORDS[COMP_CWORD]}\n"
	       "\tprev=${COMP_WORDS[COMP_CWORD-1]}\n\tCOMPREPLY=()\n"
	       "\tcase $prev in\n\t-f|--filename|--config|--socket|--certificate|--key|--roots)\n"
	       "\t\tCOMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n\tesac\n\tif [ \"$COMP_CWORD\" -eq 1 ]; "
	       "then\n\t\twords='");
	for (size_t i = 0; cli_command_at(i); i++)
		if (first_of_its_word(i))
			printf("%s%.*s", i ? " " : "", (int)strcspn(cli_command_at(i)->words, " "),
			       cli_command_at(i)->words);
	printf("'\n\telse\n\t\tcase \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
	for (size_t i = 0; cli_command_at(i); i++) {
		const struct cli_command *cmd = cli_command_at(i);
		printf("\t\t'%s'*) words='", cmd->words);
		print_options(cmd);
		if (takes_kind(cmd)) {
			putchar(' ');
			print_kinds();
		}
		if (takes_shell(cmd))
			printf(" bash zsh fish");
		printf("' ;;\n");
	}
	for (size_t i = 0; cli_command_at(i); i++) {
		size_t len = strcspn(cli_command_at(i)->words, " ");
		if (!cli_command_at(i)->words[len] || !first_of_its_word(i))
			continue;
		printf("\t\t'%.*s '*) words='", (int)len, cli_command_at(i)->words);
		for (size_t k = i;
		     cli_command_at(k) && strncmp(cli_command_at(k)->words, cli_command_at(i)->words, len + 1) == 0;
		     k++)
			printf("%s ", cli_command_at(k)->words + len + 1);
		printf("' ;;\n");
	}
	printf("\t\t*) words='' ;;\n\t\tesac\n\tfi\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -F "
	       "_weft weft\n");
}

/* --- zsh --- */

static void zsh_arguments(const struct cli_command *cmd)
{
	struct option rows[CLI_OPTIONS_MAX];
	size_t n = cli_options_of(cmd, rows);

	printf("\t\t_arguments -s");
	for (size_t i = 0; i < n; i++) {
		char spec[400];
		snprintf(spec, sizeof(spec), "%s--%s[%s]%s%s%s", rows[i].type == OPTION_LIST ? "*" : "", rows[i].name,
			 "@", rows[i].arg ? ":" : "", rows[i].arg ? rows[i].arg : "",
			 !rows[i].arg                                                      ? ""
			 : strstr(rows[i].arg, "FILE") || strcmp(rows[i].arg, "PATH") == 0 ? ":_files"
											   : ":");
		/* the text goes where the @ is, with what zsh reads escaped */
		char *at = strchr(spec, '@');
		*at = 0;
		printf(" \\\n\t\t\t'%s", spec);
		for (const char *p = rows[i].text; *p; p++)
			if (*p == '\'')
				fputs("'\\''", stdout);
			else
				printf("%s%c", strchr("[]:\\", *p) ? "\\" : "", *p);
		printf("%s'", at + 1);
	}
	if (takes_kind(cmd)) {
		printf(" \\\n\t\t\t'*:kind:(");
		print_kinds();
		printf(")'");
	} else if (takes_shell(cmd))
		printf(" \\\n\t\t\t'*:shell:(bash zsh fish)'");
	printf(" ;;\n");
}

static void zsh(void)
{
	printf("#compdef weft\n# zsh completion of weft; made by `weft completion zsh`\n_weft()\n{\n\tlocal -a "
	       "commands\n\tcommands=(\n");
	for (size_t i = 0; cli_command_at(i); i++)
		if (first_of_its_word(i)) {
			char text[400];
			snprintf(text, sizeof(text), "%.*s:%s", (int)strcspn(cli_command_at(i)->words, " "),
				 cli_command_at(i)->words, cli_command_at(i)->text);
			/* only the first colon divides */
			char *colon = strchr(text, ':');
			printf("\t\t");
			*colon = 0;
			printf("'%s:'", text);
			quoted(colon + 1, ":");
			putchar('\n');
		}
	printf("\t)\n\tif (( CURRENT == 2 )); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n\tcase "
	       "\"$words[2] $words[3]\" in\n");
	for (size_t i = 0; cli_command_at(i); i++) {
		printf("\t('%s'*)\n", cli_command_at(i)->words);
		zsh_arguments(cli_command_at(i));
	}
	for (size_t i = 0; cli_command_at(i); i++) {
		size_t len = strcspn(cli_command_at(i)->words, " ");
		if (!cli_command_at(i)->words[len] || !first_of_its_word(i))
			continue;
		printf("\t('%.*s '*)\n\t\t_values command", (int)len, cli_command_at(i)->words);
		for (size_t k = i;
		     cli_command_at(k) && strncmp(cli_command_at(k)->words, cli_command_at(i)->words, len + 1) == 0;
		     k++)
			printf(" %s", cli_command_at(k)->words + len + 1);
		printf(" ;;\n");
	}
	printf("\tesac\n}\n_weft \"$@\"\n");
}

/* --- fish --- */

static void fish_condition(const struct cli_command *cmd)
{
	const char *space = strchr(cmd->words, ' ');

	if (space)
		printf(" -n '__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s'",
		       (int)(space - cmd->words), cmd->words, space + 1);
	else
		printf(" -n '__fish_seen_subcommand_from %s'", cmd->words);
}

static void fish_options(const struct cli_command *cmd)
{
	struct option rows[CLI_OPTIONS_MAX];
	size_t n = cli_options_of(cmd, rows);

	for (size_t i = 0; i < n; i++) {
		printf("complete -c weft");
		fish_condition(cmd);
		if (rows[i].letter)
			printf(" -s %c", rows[i].letter);
		printf(" -l %s", rows[i].name);
		if (rows[i].type != OPTION_FLAG)
			printf(rows[i].arg && (strstr(rows[i].arg, "FILE") || strcmp(rows[i].arg, "PATH") == 0)
				   ? " -r -F"
				   : " -r");
		printf(" -d ");
		quoted(rows[i].text, "\\");
		putchar('\n');
	}
	if (takes_kind(cmd) || takes_shell(cmd)) {
		printf("complete -c weft");
		fish_condition(cmd);
		printf(" -a '");
		if (takes_kind(cmd))
			print_kinds();
		else
			printf("bash zsh fish");
		printf("'\n");
	}
}

static void fish(void)
{
	printf("# fish completion of weft; made by `weft completion fish`\ncomplete -c weft -f\n");
	for (size_t i = 0; cli_command_at(i); i++) {
		const struct cli_command *cmd = cli_command_at(i);
		const char *space = strchr(cmd->words, ' ');
		int len = (int)strcspn(cmd->words, " ");
		if (first_of_its_word(i)) {
			printf("complete -c weft -n __fish_use_subcommand -a %.*s -d ", len, cmd->words);
			quoted(space ? "" : cmd->text, "\\");
			putchar('\n');
		}
		if (space) {
			printf("complete -c weft -n '__fish_seen_subcommand_from %.*s' -a %s -d ", len, cmd->words,
			       space + 1);
			quoted(cmd->text, "\\");
			putchar('\n');
		}
		fish_options(cmd);
	}
}

static const struct {
	const char *name;
	void (*print)(void);
} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

static const char *shell_at(size_t i)
{
	return i < ARRAY_LEN(shells) ? shells[i].name : NULL;
}

enum cli_exit cli_completion(struct cli *c, struct err *err)
{
	for (size_t i = 0; c->words.len == 1 && i < ARRAY_LEN(shells); i++)
		if (strcmp(c->words.v[0], shells[i].name) == 0) {
			shells[i].print();
			return CLI_OK;
		}
	const char *near = c->words.len == 1 ? nearest(c->words.v[0], shell_at) : NULL;
	err_set(err, ERR_INVALID, "completion: expected bash, zsh or fish%s%s%s", near ? "; did you mean " : "",
		near ? near : "", near ? "?" : "");
	return CLI_USAGE;
}

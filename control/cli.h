/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h: the `weft` command line: what a command gets, and what all of them share. Data goes to stdout, everything else to
 * stderr; exit 0 done, 1 failed, 2 wrong usage. */
#ifndef WEFT_CONTROL_CLI_H
#define WEFT_CONTROL_CLI_H

#include "control/option.h"
#include "lib/str.h"

#include <jansson.h>

enum cli_bit {
	CLI_FILE = 1,
	CLI_NS = 2,
	CLI_ALL = 4,
	CLI_OUTPUT = 8,
	CLI_STATUS_OUTPUT = 16,
	CLI_DRY_RUN = 32,
	CLI_TOKEN = 64,
	CLI_CLIENT = 128,
	CLI_ANY = 256,
};

struct cli {
	/* options, filled from the rows of cli_option.tbl.h */
	struct option_list files, labels;
	const char *ns, *output, *sa, *ttl, *server, *config, *timeout;
	bool all, dry_run, client, help;
	struct option_list words; /* behind the command */
};
enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

int cli_main(int argc, char **argv);

/* The commands: one function a row of cli.tbl.h. On CLI_FAILED and CLI_USAGE err says why (code ERR_NONE: it was said). */
#define CLI(function, words, args, options, text, example) enum cli_exit cli_##function(struct cli *c, struct err *err);
#include "control/cli.tbl.h"
#undef CLI

/* cli_call.c: one call of the API. body NULL: none. *ret is the answer's JSON (a new reference). An error of the API comes
 * back in err; *ret_object (if any) is the index that it is about, -1 for none. */
bool cli_call(const struct cli *c, const char *method, const char *path, const json_t *body, json_t **ret,
	      json_int_t *ret_object, struct err *err);
/* The file that says how to reach weftd; NULL and err when there is none. mem_free. */
char *cli_config_path(const struct cli *c, struct err *err);

/* cli_print.c */
/* "weft: text" on stderr. */
void cli_say(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* Prints `v` as asked by -o json or yaml; false when the output is another. */
bool cli_print_as(const char *output, json_t *v);
/* A table whose columns are as wide as they must be; rows[i][k] are owned by the caller. */
struct cli_table {
	const char *const *heads;
	size_t columns, rows, cap;
	char **cells; /* rows * columns */
};
void cli_table_row(struct cli_table *t, const char *const *cells);
void cli_table_print(struct cli_table *t); /* and frees the cells */
/* The escape sequences for red, or "" when stdout is no terminal or NO_COLOR is set. */
const char *cli_red(void);
const char *cli_plain(void);
/* "5s", "3m", "2h", "4d" of milliseconds */
const char *cli_age(int64_t ms, char *out, size_t size);

#endif

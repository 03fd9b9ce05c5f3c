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
	CLI_WATCH = 512,
	CLI_WAIT = 1024,
	CLI_HISTORY = 2048,
	CLI_SOCKET = 4096,
	CLI_RENDER = 8192,
	CLI_CHECK = 16384,
	CLI_IDENTITY = 32768,
};

struct cli {
	/* options, filled from the rows of cli_option.tbl.h */
	struct option_list files, labels, cidrs, ports;
	const char *ns, *output, *sa, *ttl, *server, *config, *timeout, *revision, *limit, *socket, *run_dir, *name,
	    *trust_domain, *certificate, *key, *roots;
	bool all, dry_run, client, help, watch;
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

/* cli_apply.c */
struct documents;
/* Every document of -f. */
bool cli_read_files(const struct cli *c, struct documents *d, struct err *err);
/* The checked objects of these; what is wrong is said, then NULL. */
json_t *cli_checked_objects(const struct cli *c, const struct documents *d);
/* {kind, namespace, name} of each; NULL and err. */
json_t *cli_filed_objects(const struct cli *c, const struct documents *d, struct err *err);
/* Of the words KIND NAME... from `first` on. */
json_t *cli_named_objects(const struct cli *c, size_t first, struct err *err);
/* "Kind ns/name created" for each. */
void cli_print_results(const json_t *answer);

/* cli_get.c */
bool cli_name_ok(const char *name, struct err *err); /* may stand in a path */

struct kind;
/* cli_watch.c: `weft get KIND -w`, until it is interrupted. */
enum cli_exit cli_watch_kind(const struct cli *c, const struct kind *kind, struct err *err);

/* cli.c: for completion and for the manual, which are made of the same rows. */
struct cli_command {
	const char *words, *args;
	unsigned options;
	const char *text, *example;
	enum cli_exit (*run)(struct cli *c, struct err *err);
};
const struct cli_command *cli_command_at(size_t i); /* NULL behind the last */
#define CLI_OPTIONS_MAX 64
size_t cli_options_of(const struct cli_command *cmd, struct option out[static CLI_OPTIONS_MAX]);
/* cli_manual.c: docs/cli.md */
void cli_manual(FILE *out);

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
	bool bare;    /* without the headings */
};
void cli_table_row(struct cli_table *t, const char *const *cells);
void cli_table_print(struct cli_table *t); /* and frees the cells */
/* The escape sequences of colours, or "" when stdout is no terminal or NO_COLOR is set. */
const char *cli_red(void);
const char *cli_green(void);
const char *cli_yellow(void);
const char *cli_plain(void);
/* "table", "json", "yaml" (or NULL); others are refused. */
bool cli_output_ok(const struct cli *c, struct err *err);
/* "5s", "3m", "2h", "4d" of milliseconds */
const char *cli_age(int64_t ms, char *out, size_t size);

#endif

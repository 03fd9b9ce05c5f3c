/* SPDX-License-Identifier: Apache-2.0 */
/* options.h: command line and environment of weft-capture as rows; says nothing about what a value means. */
#ifndef WEFT_BPF_OPTIONS_H
#define WEFT_BPF_OPTIONS_H

#include "lib/err.h"

enum option_id {
#define OPTION(id, name, arg, commands, text) OPT_##id,
#include "bpf/option.tbl.h"
#undef OPTION
	OPT_COUNT
};

struct options {
	const char *v[OPT_COUNT]; /* borrowed from argv or the environment; NULL: not given and no default */
	char **rest;              /* behind "--" or the first word that is no option; NULL-terminated */
};

/* argv[0] is the command's first argument. `letter`: which options it takes. */
bool options_parse(char **argv, char letter, struct options *ret, struct err *err);
void options_help(char letter); /* rows to stdout */

#endif

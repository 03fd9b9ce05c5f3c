/* SPDX-License-Identifier: Apache-2.0 */
/* option.h: command lines as rows: what an option is called, where its value goes, what --help says. For weft and weftd. */
#ifndef WEFT_CONTROL_OPTION_H
#define WEFT_CONTROL_OPTION_H

#include "lib/err.h"

#include <stdio.h>

#define OPTION_LIST_MAX 64

enum option_type {
	OPTION_FLAG, /* bool */
	OPTION_TEXT, /* const char *, the last one wins */
	OPTION_LIST, /* struct option_list */
};
struct option_list {
	const char *v[OPTION_LIST_MAX];
	size_t len;
};
struct option {
	enum option_type type;
	size_t offset;    /* of the member in the struct that is filled */
	const char *name; /* without "--" */
	char letter;      /* 0: none */
	const char *arg;  /* how --help calls the value */
	const char *env;  /* read when the option is not given; NULL: none. Lists: separated by commas */
	const char *text;
};

/* Fills `to` from argv[0..argc) and the environment; the words that are no options stay in *ret_words (pointers into argv; "--"
 * ends the options). ERR_INVALID names the option and the nearest.  */
bool options_read(const struct option *rows, size_t n, int argc, char **argv, void *to, struct option_list *ret_words,
		  struct err *err);
void option_help(FILE *out, const struct option *rows, size_t n);

#endif

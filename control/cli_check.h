/* SPDX-License-Identifier: Apache-2.0 */
/* cli_check.h: between cli_check.c (rows, printing) and cli_check_rows.c (what is looked at). */
#ifndef WEFT_CONTROL_CLI_CHECK_H
#define WEFT_CONTROL_CLI_CHECK_H

#include "control/cli.h"

enum check_result { CHECK_GOOD, CHECK_WARNING, CHECK_ERROR };

/* Gathered once. */
struct check_facts {
	const struct cli *c;
	char *config;         /* its path; NULL: none, see config_err */
	json_t *admin;        /* what stands in it; NULL */
	unsigned config_mode; /* its permissions */
	struct err config_err;
	json_t *version, *status; /* weftd's answers; NULL: see call_err */
	int64_t skew_ms;          /* weftd's clock minus ours */
	int64_t slack_ms;         /* by which that may be wrong */
	struct err call_err;
};
void check_gather(struct check_facts *f);
void check_facts_done(struct check_facts *f);

/* Where a check puts its lines: none when it does not apply. */
struct check_out {
	json_t *lines;
	enum check_result worst;
};
void check_say(struct check_out *out, enum check_result result, const char *hint, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

#define CATEGORY(symbol, name)
#define CHECK(function, category, description) void check_##function(struct check_facts *facts, struct check_out *out);
#include "control/cli_check.tbl.h"
#undef CATEGORY
#undef CHECK

/* Pure, for tests: how far two versions "major.minor.patch" are apart in minor steps; majors apart: 1000; not readable: -1. */
int check_versions_apart(const char *a, const char *b);

#endif

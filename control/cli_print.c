/* SPDX-License-Identifier: Apache-2.0 */
/* cli_print.c: lines, tables, JSON and YAML for people and for scripts. */
#include "control/cli.h"
#include "control/yaml_out.h"
#include "lib/mem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cli_say(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("weft: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static bool colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && (!no || !*no) && (!term || strcmp(term, "dumb") != 0);
}

const char *cli_red(void)
{
	return colour() ? "\033[31m" : "";
}

const char *cli_green(void)
{
	return colour() ? "\033[32m" : "";
}

const char *cli_yellow(void)
{
	return colour() ? "\033[33m" : "";
}

const char *cli_plain(void)
{
	return colour() ? "\033[0m" : "";
}

bool cli_print_as(const char *output, json_t *v)
{
	if (output && strcmp(output, "json") == 0) {
		json_dumpf(v, stdout, JSON_INDENT(2));
		putchar('\n');
		return true;
	}
	return output && strcmp(output, "yaml") == 0 && yaml_write(stdout, &v, 1);
}

bool cli_output_ok(const struct cli *c, struct err *err)
{
	return !c->output || strcmp(c->output, "table") == 0 || strcmp(c->output, "json") == 0 ||
	       strcmp(c->output, "yaml") == 0 ||
	       err_set(err, ERR_INVALID, "-o %.40s: expected table, json or yaml", c->output);
}

void cli_table_row(struct cli_table *t, const char *const *cells)
{
	if (t->rows == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 16;
		t->cells = mem_realloc(t->cells, t->cap * t->columns * sizeof(*t->cells));
	}
	for (size_t k = 0; k < t->columns; k++)
		t->cells[t->rows * t->columns + k] = mem_strdup(cells[k]);
	t->rows++;
}

/* Characters of UTF-8, not bytes. */
static size_t width_of(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static void print_row(const struct cli_table *t, const char *const *cells, const size_t *width)
{
	for (size_t k = 0; k < t->columns; k++) {
		/* the last one is not padded */
		size_t pad = k + 1 < t->columns ? width[k] + 3 - width_of(cells[k]) : 0;
		printf("%s%*s", cells[k], (int)pad, "");
	}
	putchar('\n');
}

void cli_table_print(struct cli_table *t)
{
	size_t width[16] = {0};

	MUST(t->columns <= ARRAY_LEN(width));
	for (size_t k = 0; k < t->columns; k++)
		width[k] = width_of(t->heads[k]);
	for (size_t i = 0; i < t->rows * t->columns; i++)
		width[i % t->columns] = MAX(width[i % t->columns], width_of(t->cells[i]));
	if (!t->bare)
		print_row(t, t->heads, width);
	for (size_t i = 0; i < t->rows; i++)
		print_row(t, (const char *const *)&t->cells[i * t->columns], width);
	for (size_t i = 0; i < t->rows * t->columns; i++)
		mem_free(t->cells[i]);
	FREE(&t->cells);
	t->rows = t->cap = 0;
}

const char *cli_age(int64_t ms, char *out, size_t size)
{
	static const struct {
		int64_t ms;
		char unit;
	} units[] = {{86400000, 'd'}, {3600000, 'h'}, {60000, 'm'}, {1000, 's'}};

	snprintf(out, size, "0s");
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (ms >= units[i].ms) {
			snprintf(out, size, "%lld%c", (long long)(ms / units[i].ms), units[i].unit);
			break;
		}
	return out;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* diff.c: common head and tail are taken off; what is between goes through the table of longest common subsequences, when that
 * stays small. */
#include "control/diff.h"

#include "lib/mem.h"
#include "lib/str.h"

#include <string.h>

#define AROUND    3
#define TABLE_MAX (4u << 20) /* cells of 4 bytes */

struct line {
	struct str text;
	char op; /* ' ', '-', '+' */
};
struct script {
	struct line *v;
	size_t len;
};
struct lines {
	struct str *v;
	size_t len;
};

static struct lines split(const char *text)
{
	size_t n = 1;
	for (const char *p = text; *p; p++)
		n += *p == '\n';
	struct lines l = {mem_alloc(n * sizeof(*l.v)), 0};
	struct str rest = str_of(text), head;
	while (rest.len) {
		str_cut(rest, '\n', &head, &rest);
		l.v[l.len++] = head;
	}
	return l;
}

static void put(struct script *s, char op, const struct str *lines, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s->v[s->len++] = (struct line){lines[i], op};
}

/* at[i * (m + 1) + j]: how long the longest common subsequence of a[i..] and b[j..] is. */
static void compare(struct script *s, const struct str *a, size_t n, const struct str *b, size_t m)
{
	if (n == 0 || m == 0 || n + 1 > TABLE_MAX / (m + 1)) {
		put(s, '-', a, n);
		put(s, '+', b, m);
		return;
	}
	uint32_t *at = mem_zalloc((n + 1) * (m + 1) * sizeof(*at));
	for (size_t i = n; i-- > 0;)
		for (size_t j = m; j-- > 0;) {
			uint32_t *cell = &at[i * (m + 1) + j];
			*cell = str_eq(a[i], b[j]) ? cell[m + 2] + 1 : MAX(cell[m + 1], cell[1]);
		}
	size_t i = 0, j = 0;
	while (i < n && j < m) {
		const uint32_t *cell = &at[i * (m + 1) + j];
		if (str_eq(a[i], b[j])) {
			put(s, ' ', &a[i++], 1);
			j++;
		} else if (cell[m + 1] >= cell[1])
			put(s, '-', &a[i++], 1);
		else
			put(s, '+', &b[j++], 1);
	}
	put(s, '-', a + i, n - i);
	put(s, '+', b + j, m - j);
	mem_free(at);
}

/* One hunk from `from` on; returns where the next one may begin. */
static size_t print_hunk(FILE *out, const struct script *s, size_t from, size_t *line_a, size_t *line_b,
			 const struct diff_colours *c)
{
	size_t end = from, last = from, in_a = 0, in_b = 0;

	for (; end < s->len && end - last <= 2 * AROUND; end++)
		if (s->v[end].op != ' ')
			last = end;
	end = MIN(s->len, last + 1 + AROUND);
	size_t begin = from;
	for (size_t i = begin; i < end; i++) {
		in_a += s->v[i].op != '+';
		in_b += s->v[i].op != '-';
	}
	/* an empty side is named by the line before it */
	fprintf(out, "@@ -%zu,%zu +%zu,%zu @@\n", *line_a + (in_a > 0), in_a, *line_b + (in_b > 0), in_b);
	for (size_t i = begin; i < end; i++) {
		const struct line *l = &s->v[i];
		const char *colour = l->op == '-' ? c->removed : l->op == '+' ? c->added : "";
		fprintf(out, "%s%c" STR_FMT "%s\n", colour, l->op, STR_ARG(l->text), *colour ? c->plain : "");
	}
	*line_a += in_a;
	*line_b += in_b;
	return end;
}

static size_t print_script(FILE *out, const struct script *s, const struct diff_colours *c)
{
	size_t changed = 0, line_a = 0, line_b = 0, at = 0;

	for (size_t i = 0; i < s->len; i++)
		changed += s->v[i].op != ' ';
	for (size_t i = 0; i < s->len; i++) {
		if (s->v[i].op == ' ')
			continue;
		size_t from = i - at > AROUND ? i - AROUND : at;
		line_a += from - at;
		line_b += from - at;
		at = print_hunk(out, s, from, &line_a, &line_b, c);
		i = at - 1;
	}
	return changed;
}

size_t diff_print(FILE *out, const char *before, const char *after, const struct diff_colours *colours)
{
	struct lines a = split(before), b = split(after);
	struct script s = {mem_alloc((a.len + b.len + 1) * sizeof(*s.v)), 0};
	size_t head = 0, tail = 0, least = MIN(a.len, b.len);

	while (head < least && str_eq(a.v[head], b.v[head]))
		head++;
	while (tail < least - head && str_eq(a.v[a.len - 1 - tail], b.v[b.len - 1 - tail]))
		tail++;
	put(&s, ' ', a.v, head);
	compare(&s, a.v + head, a.len - head - tail, b.v + head, b.len - head - tail);
	put(&s, ' ', a.v + a.len - tail, tail);
	size_t changed = print_script(out, &s, colours);
	mem_free(s.v);
	mem_free(a.v);
	mem_free(b.v);
	return changed;
}

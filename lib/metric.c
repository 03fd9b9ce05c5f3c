/* SPDX-License-Identifier: Apache-2.0 */
/* metric.c: a registry is a map of families; a family is a map of label sets, keyed by their values. */
#include "lib/metric.h"

#include "lib/map.h"
#include "lib/mem.h"
#include "lib/utf8.h"

#define BUCKETS     14
#define VALUE_MAX_B 256 /* of a label value; longer ones are cut */

static const uint64_t bucket_us[BUCKETS] = {1000,   2000,   5000,    10000,   25000,   50000,    100000,
					    250000, 500000, 1000000, 2500000, 5000000, 10000000, 60000000};
static const char *const bucket_le[BUCKETS] = {"0.001", "0.002", "0.005", "0.01", "0.025", "0.05", "0.1",
					       "0.25",  "0.5",   "1",     "2.5",  "5",     "10",   "60"};

struct metric {
	struct map_node node; /* in sets, by key */
	struct metric *next;  /* in the order made */
	enum metric_kind kind;
	uint64_t value; /* counter; observations of a histogram */
	int64_t gauge;
	uint64_t sum_us;
	uint64_t *buckets; /* not cumulative; NULL unless a histogram */
	size_t key_len;
	char key[]; /* label values, each with a NUL behind it */
};

struct family {
	struct map_node node; /* by the row's address */
	struct family *next;
	const struct metric_family *row;
	struct map sets;
	struct metric *first, **last;
	struct metric *overflow;
};

struct metrics {
	struct map families;
	struct family *first, **last;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = NEW(struct metrics);

	map_init(&m->families);
	m->last = &m->first;
	return m;
}

void metrics_free(struct metrics **m)
{
	if (!*m)
		return;
	for (struct family *f = (*m)->first, *f_next; f; f = f_next) {
		f_next = f->next;
		for (struct metric *s = f->first, *s_next; s; s = s_next) {
			s_next = s->next;
			mem_free(s->buckets);
			mem_free(s);
		}
		map_done(&f->sets);
		mem_free(f);
	}
	map_done(&(*m)->families);
	FREE(m);
}

static struct family *family_get(struct metrics *m, const struct metric_family *row)
{
	struct map_node *n = map_get(&m->families, str_make(&row, sizeof(row)));

	if (n)
		return CONTAINER_OF(n, struct family, node);
	struct family *f = NEW(struct family);
	f->row = row;
	f->last = &f->first;
	map_init(&f->sets);
	map_put(&m->families, &f->node, str_make(&f->row, sizeof(f->row)));
	*m->last = f;
	m->last = &f->next;
	return f;
}

static struct metric *set_new(struct family *f, struct str key)
{
	struct metric *s = mem_zalloc(sizeof(*s) + key.len);

	s->kind = f->row->kind;
	s->key_len = key.len;
	if (key.len > 0)
		memcpy(s->key, key.p, key.len);
	if (s->kind == METRIC_HISTOGRAM)
		s->buckets = mem_zalloc(BUCKETS * sizeof(uint64_t));
	*f->last = s;
	f->last = &s->next;
	return s;
}

static size_t label_count(const struct metric_family *row)
{
	size_t n = 0;

	while (row->labels[n])
		n++;
	return n;
}

static struct metric *overflow_get(struct family *f)
{
	char key[METRIC_LABELS_MAX * sizeof("overflow")];
	size_t len = 0;

	if (f->overflow)
		return f->overflow;
	for (size_t i = label_count(f->row); i > 0; i--, len += sizeof("overflow"))
		memcpy(key + len, "overflow", sizeof("overflow"));
	f->overflow = set_new(f, str_make(key, len));
	return f->overflow;
}

static struct metric *set_get(struct family *f, struct str key)
{
	struct map_node *n = map_get(&f->sets, key);

	if (n)
		return CONTAINER_OF(n, struct metric, node);
	if (f->sets.len >= METRIC_SETS_MAX)
		return overflow_get(f);
	struct metric *s = set_new(f, key);
	map_put(&f->sets, &s->node, str_make(s->key, s->key_len));
	return s;
}

/* Label values come from peers: UTF-8 without NUL, capped. */
static size_t put_clean(char *to, struct str value)
{
	size_t len = 0;

	for (size_t i = 0; i < value.len;) {
		size_t n = utf8_len(value.p + i, value.len - i);
		bool odd = n == 0 || value.p[i] == 0;

		if (len + MAX(n, 1) > VALUE_MAX_B)
			break;
		if (odd)
			to[len++] = '?';
		else
			memcpy(to + len, value.p + i, n), len += n;
		i += MAX(n, 1);
	}
	to[len] = 0;
	return len + 1;
}

struct metric *metric_get(struct metrics *m, const struct metric_family *f, const struct str *values)
{
	char key[METRIC_LABELS_MAX * (VALUE_MAX_B + 1)];
	size_t len = 0;

	for (size_t i = 0; f->labels[i]; i++)
		len += put_clean(key + len, values[i]);
	return set_get(family_get(m, f), str_make(key, len));
}

void metric_add(struct metric *m, uint64_t n)
{
	MUST(m->kind == METRIC_COUNTER);
	m->value += n;
}

void metric_set(struct metric *m, int64_t v)
{
	MUST(m->kind == METRIC_GAUGE);
	m->gauge = v;
}

void metric_observe_us(struct metric *m, uint64_t us)
{
	MUST(m->kind == METRIC_HISTOGRAM);
	m->value++;
	m->sum_us += us;
	for (size_t i = 0; i < BUCKETS; i++) {
		if (us <= bucket_us[i]) {
			m->buckets[i]++;
			return;
		}
	}
}

uint64_t metric_value(const struct metric *m)
{
	return m->kind == METRIC_GAUGE ? (uint64_t)m->gauge : m->value;
}

void metrics_sum(struct metrics *into, const struct metrics *from)
{
	for (const struct family *f = from->first; f; f = f->next) {
		struct family *to = family_get(into, f->row);
		for (const struct metric *s = f->first; s; s = s->next) {
			struct metric *t =
			    s == f->overflow ? overflow_get(to) : set_get(to, str_make(s->key, s->key_len));
			t->value += s->value;
			t->gauge += s->gauge;
			t->sum_us += s->sum_us;
			for (size_t i = 0; s->buckets && i < BUCKETS; i++)
				t->buckets[i] += s->buckets[i];
		}
	}
}

/* --- the page --- */

static void put_escaped(struct buf *out, const char *p, bool quotes)
{
	while (*p) {
		size_t n = strcspn(p, quotes ? "\\\n\"" : "\\\n");

		buf_add(out, p, n);
		p += n;
		if (!*p)
			break;
		buf_add(out, "\\", 1);
		buf_add(out, *p == '\n' ? "n" : p, 1);
		p++;
	}
}

/* {a="b",le="0.1"}; le may be NULL. */
static void put_labels(struct buf *out, const struct metric_family *row, const char *value, const char *le)
{
	const char *sep = "{";

	for (size_t i = 0; row->labels[i]; i++, value += strlen(value) + 1) {
		buf_printf(out, "%s%s=\"", sep, row->labels[i]);
		put_escaped(out, value, true);
		buf_add(out, "\"", 1);
		sep = ",";
	}
	if (le)
		buf_printf(out, "%sle=\"%s\"", sep, le);
	if (le || *sep == ',')
		buf_add(out, "}", 1);
}

static void put_histogram(struct buf *out, const struct metric_family *row, const struct metric *s)
{
	uint64_t sum = 0;

	for (size_t i = 0; i <= BUCKETS; i++) {
		sum = i < BUCKETS ? sum + s->buckets[i] : s->value;
		buf_printf(out, "%s_bucket", row->name);
		put_labels(out, row, s->key, i < BUCKETS ? bucket_le[i] : "+Inf");
		buf_printf(out, " %llu\n", (unsigned long long)sum);
	}
	buf_printf(out, "%s_sum", row->name);
	put_labels(out, row, s->key, NULL);
	buf_printf(out, " %llu.%06u\n", (unsigned long long)(s->sum_us / 1000000), (unsigned)(s->sum_us % 1000000));
	buf_printf(out, "%s_count", row->name);
	put_labels(out, row, s->key, NULL);
	buf_printf(out, " %llu\n", (unsigned long long)s->value);
}

static void put_family(struct buf *out, const struct family *f)
{
	static const char *const kinds[] = {"counter", "gauge", "histogram"};
	const struct metric_family *row = f->row;

	buf_printf(out, "# HELP %s ", row->name);
	put_escaped(out, row->help, false);
	buf_printf(out, "\n# TYPE %s %s\n", row->name, kinds[row->kind]);
	for (const struct metric *s = f->first; s; s = s->next) {
		if (row->kind == METRIC_HISTOGRAM) {
			put_histogram(out, row, s);
			continue;
		}
		buf_add(out, row->name, strlen(row->name));
		put_labels(out, row, s->key, NULL);
		if (row->kind == METRIC_GAUGE)
			buf_printf(out, " %lld\n", (long long)s->gauge);
		else
			buf_printf(out, " %llu\n", (unsigned long long)s->value);
	}
}

void metrics_page(const struct metrics *m, struct buf *out)
{
	for (const struct family *f = m->first; f; f = f->next)
		put_family(out, f);
}

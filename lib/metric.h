/* SPDX-License-Identifier: Apache-2.0 */
/* metric.h: counters, gauges and histograms with bounded label sets, and their Prometheus text page (exposition format
 * 0.0.4). A family is a static row; its label sets live in a map with a cap, past which everything counts in one set
 * whose label values are "overflow". Not thread-safe: one registry a thread, summed when the page is written. */
#ifndef WEFT_LIB_METRIC_H
#define WEFT_LIB_METRIC_H

#include "lib/buf.h"

#define METRIC_LABELS_MAX 8
#define METRIC_SETS_MAX   200 /* label sets a family */

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_family {
	const char *name; /* "weft_requests_total" */
	const char *help;
	enum metric_kind kind;
	const char *labels[METRIC_LABELS_MAX + 1]; /* names, NULL-terminated */
};

struct metrics; /* a registry */
struct metric;  /* one label set of one family: keep the pointer, adding is one addition */

struct metrics *metrics_new(void);
void metrics_free(struct metrics **m);
/* Finds or makes the set with these values (as many as the family has labels). Never NULL. */
struct metric *metric_get(struct metrics *m, const struct metric_family *f, const struct str *values);
void metric_add(struct metric *m, uint64_t n);         /* counter */
void metric_set(struct metric *m, int64_t v);          /* gauge */
void metric_observe_us(struct metric *m, uint64_t us); /* histogram in seconds: 1 ms ... 60 s, 14 buckets */
uint64_t metric_value(const struct metric *m);         /* counter or gauge; observations of a histogram */
/* Adds every value of `from` to `into` (of the same thread by now): how the page gets the sum of several threads. */
void metrics_sum(struct metrics *into, const struct metrics *from);
void metrics_page(const struct metrics *m, struct buf *out);

#endif

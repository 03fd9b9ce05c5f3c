/* SPDX-License-Identifier: Apache-2.0 */
/* metric_test.c: the page, hostile label values, the cap of label sets, sums of registries. */
#include "lib/metric.h"

#include <check.h>
#include <stdio.h>

static const struct metric_family requests = {"weft_requests_total", "Requests.", METRIC_COUNTER, {"route", "code"}};
static const struct metric_family open_now = {"weft_open", "Open\nnow.", METRIC_GAUGE, {NULL}};
static const struct metric_family latency = {"weft_latency_seconds", "Latency.", METRIC_HISTOGRAM, {"route"}};

static struct str page(const struct metrics *m, struct buf *out)
{
	buf_init(out, SIZE_MAX);
	metrics_page(m, out);
	buf_add(out, "", 1);
	return buf_pullup(out, out->len);
}

START_TEST(the_page_escapes_what_peers_chose)
{
	struct metrics *m = metrics_new();
	struct buf out;

	metric_add(metric_get(m, &requests, (struct str[]){STR("a\"b\\c\nd\xff"), STR("200")}), 3);
	metric_add(metric_get(m, &requests, (struct str[]){STR("a\"b\\c\nd\xff"), STR("200")}), 4);
	metric_set(metric_get(m, &open_now, NULL), -2);
	ck_assert_str_eq(page(m, &out).p, "# HELP weft_requests_total Requests.\n# TYPE weft_requests_total counter\n"
					  "weft_requests_total{route=\"a\\\"b\\\\c\\nd?\",code=\"200\"} 7\n"
					  "# HELP weft_open Open\\nnow.\n# TYPE weft_open gauge\nweft_open -2\n");
	buf_done(&out);
	metrics_free(&m);
}
END_TEST

START_TEST(a_histogram_is_cumulative)
{
	struct metrics *m = metrics_new();
	struct metric *h = metric_get(m, &latency, (struct str[]){STR("r")});
	struct buf out;

	metric_observe_us(h, 1000);
	metric_observe_us(h, 1001);
	metric_observe_us(h, 61000000);
	const char *p = page(m, &out).p;
	ck_assert_ptr_nonnull(strstr(p, "_bucket{route=\"r\",le=\"0.001\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(p, "_bucket{route=\"r\",le=\"60\"} 2\n"));
	ck_assert_ptr_nonnull(strstr(p, "_bucket{route=\"r\",le=\"+Inf\"} 3\n"));
	ck_assert_ptr_nonnull(strstr(p, "_sum{route=\"r\"} 61.002001\n"));
	ck_assert_ptr_nonnull(strstr(p, "_count{route=\"r\"} 3\n"));
	ck_assert_uint_eq(metric_value(h), 3);
	buf_done(&out);
	metrics_free(&m);
}
END_TEST

START_TEST(label_sets_are_capped_and_overflow_counts_the_rest)
{
	struct metrics *m = metrics_new(), *sum = metrics_new();
	struct metric *over = NULL;
	char name[16];

	for (int i = 0; i < METRIC_SETS_MAX + 50; i++) {
		snprintf(name, sizeof(name), "r%d", i);
		over = metric_get(m, &requests, (struct str[]){str_of(name), STR("200")});
		metric_add(over, 1);
	}
	ck_assert_uint_eq(metric_value(over), 50);
	metrics_sum(sum, m);
	metrics_sum(sum, m);
	ck_assert_uint_eq(metric_value(metric_get(sum, &requests, (struct str[]){STR("r7"), STR("200")})), 2);
	ck_assert_uint_eq(metric_value(metric_get(sum, &requests, (struct str[]){STR("none"), STR("200")})), 100);
	metrics_free(&m);
	metrics_free(&sum);
	metrics_free(&sum);
}
END_TEST

START_TEST(a_long_value_is_cut_at_a_character)
{
	struct metrics *m = metrics_new();
	char big[1000];
	struct buf out;

	memset(big, 0xc3, sizeof(big));
	for (size_t i = 1; i < sizeof(big); i += 2)
		big[i] = (char)0xa4;
	metric_add(metric_get(m, &requests, (struct str[]){str_make(big, sizeof(big)), STR("")}), 1);
	ck_assert_uint_lt(page(m, &out).len, 500);
	buf_done(&out);
	metrics_free(&m);
}
END_TEST

Suite *metric_suite(void);
Suite *metric_suite(void)
{
	Suite *s = suite_create("metric");
	TCase *t = tcase_create("metric");

	tcase_add_test(t, the_page_escapes_what_peers_chose);
	tcase_add_test(t, a_histogram_is_cumulative);
	tcase_add_test(t, label_sets_are_capped_and_overflow_counts_the_rest);
	tcase_add_test(t, a_long_value_is_cut_at_a_character);
	suite_add_tcase(s, t);
	return s;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* event_test.c: what a hostile value can do to a log line: nothing. stderr is a pipe meanwhile. */
#include "lib/event.h"

#include <check.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int out[2], saved;
static char text[65536];

static void capture(const char *format)
{
	setenv("WEFT_LOG_FORMAT", format, 1);
	unsetenv("WEFT_LOG_LEVEL");
	event_init("unit");
	ck_assert_int_eq(pipe2(out, O_NONBLOCK), 0);
	saved = dup(STDERR_FILENO);
	dup2(out[1], STDERR_FILENO);
}

static const char *captured(void)
{
	dup2(saved, STDERR_FILENO);
	ssize_t n = read(out[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	close(out[0]);
	close(out[1]);
	close(saved);
	return text;
}

static size_t lines(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

START_TEST(a_value_cannot_forge_a_line_or_a_pair)
{
	capture("text");
	event(EV_LINK_UP, "peer=\"%s\" n=%d big=%llu %.*s=%x%%", "a\" level=\"x\n2026 error\\\xff", -5, ~0ull, 2,
	      "keys", 255u);
	const char *got = captured();
	ck_assert_uint_eq(lines(got), 1);
	const char *at = strstr(got, "Z info unit link_up ");
	ck_assert_ptr_nonnull(at);
	ck_assert_str_eq(at + 20,
			 "peer=\"a\\\" level=\\\"x\\u000a2026 error\\\\?\" n=-5 big=18446744073709551615 ke=ff%\n");
}
END_TEST

START_TEST(json_lines_parse_and_hold_the_same)
{
	capture("json");
	event(EV_LINK_UP, "peer=\"%s\" n=%d word=%s", "a\"b\n\x01", 42, "x");
	event(EV_LINK_DOWN, "some words and=\"%s\"", "y z");
	event(EV_READY, "%s", "");
	char *rest = (char *)captured();
	json_t *first = json_loads(strsep(&rest, "\n"), 0, NULL), *second = json_loads(strsep(&rest, "\n"), 0, NULL);
	json_t *third = json_loads(strsep(&rest, "\n"), 0, NULL);
	ck_assert_str_eq(json_string_value(json_object_get(first, "peer")), "a\"b\n\x01");
	ck_assert_int_eq(json_integer_value(json_object_get(first, "n")), 42);
	ck_assert_str_eq(json_string_value(json_object_get(first, "word")), "x");
	ck_assert_str_eq(json_string_value(json_object_get(first, "event")), "link_up");
	ck_assert_str_eq(json_string_value(json_object_get(second, "and")), "y z");
	ck_assert_str_eq(json_string_value(json_object_get(third, "level")), "info");
	json_decref(first);
	json_decref(second);
	json_decref(third);
}
END_TEST

START_TEST(a_long_line_is_cut_within_its_quotes)
{
	char big[5000];

	memset(big, '"', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	capture(_i ? "json" : "text");
	event(EV_LINK_UP, "peer=\"%s\" more=\"%s\"", big, "x");
	char *got = (char *)captured();
	ck_assert_uint_eq(lines(got), 1);
	ck_assert_uint_lt(strlen(got), 1200);
	ck_assert_ptr_nonnull(strstr(got, _i ? "...\"}\n" : "...\"\n"));
}
END_TEST

START_TEST(levels_hide_and_floods_are_counted)
{
	enum event_level level;

	capture("text");
	event(EV_REQUEST_END, "status=%d", 200); /* debug */
	for (int i = 0; i < 350; i++)
		event(EV_LINK_UP, "n=%d", i);
	const char *got = captured();
	ck_assert_ptr_null(strstr(got, "request_end"));
	ck_assert_uint_ge(lines(got), 100);
	ck_assert_uint_le(lines(got), 201); /* the second may turn in between */
	ck_assert(event_level_parse("debug", &level) && level == EVENT_DEBUG && !event_level_parse("loud", &level));
	event_set_level(EVENT_DEBUG);
	ck_assert(event_enabled(EV_REQUEST_END));
	event_set_level(EVENT_ERROR);
	ck_assert(!event_enabled(EV_LINK_DOWN));
}
END_TEST

Suite *event_suite(void);
Suite *event_suite(void)
{
	Suite *s = suite_create("event");
	TCase *t = tcase_create("event");

	tcase_add_test(t, a_value_cannot_forge_a_line_or_a_pair);
	tcase_add_test(t, json_lines_parse_and_hold_the_same);
	tcase_add_loop_test(t, a_long_line_is_cut_within_its_quotes, 0, 2);
	tcase_add_test(t, levels_hide_and_floods_are_counted);
	suite_add_tcase(s, t);
	return s;
}

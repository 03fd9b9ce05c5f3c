/* SPDX-License-Identifier: Apache-2.0 */
/* fdtable_test.c: what the kernel says of the table (FDSize of /proc/self/status). */
#include "lib/fdtable.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>

static unsigned size_now(void)
{
	char line[256];
	unsigned size = 0;
	FILE *f = fopen("/proc/self/status", "r");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "FDSize: %u", &size) != 1)
		;
	fclose(f);
	return size;
}

static unsigned open_now(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");
	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

START_TEST(there_is_room_for_as_many_and_none_is_left_open)
{
	unsigned open_before = open_now();
	ck_assert_uint_lt(size_now(), 1000);
	fdtable_reserve(1000);
	ck_assert_uint_ge(size_now(), 1000);
	ck_assert_uint_eq(open_now(), open_before);
}
END_TEST

START_TEST(more_than_the_process_may_have_is_as_many_as_it_may)
{
	struct rlimit few = {600, 600};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	fdtable_reserve(1u << 30);
	ck_assert_uint_ge(size_now(), 600);
	ck_assert_uint_lt(size_now(), 2048);
}
END_TEST

Suite *fdtable_suite(void);
Suite *fdtable_suite(void)
{
	Suite *s = suite_create("fdtable");
	TCase *tc = tcase_create("fdtable");
	tcase_add_test(tc, there_is_room_for_as_many_and_none_is_left_open);
	tcase_add_test(tc, more_than_the_process_may_have_is_as_many_as_it_may);
	suite_add_tcase(s, tc);
	return s;
}

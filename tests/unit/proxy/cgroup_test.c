/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's limit in each layout of /sys/fs/cgroup, on trees made of files. */
#include "proxy/cgroup.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define V2      "30 1 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1      "40 1 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
#define UNIFIED "41 1 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"

static char root[64];

static void setup(void)
{
	strcpy(root, "/tmp/weft-cgroup-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
}

static void teardown(void)
{
	char cmd[128];
	snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
	ck_assert_int_eq(system(cmd), 0);
}

/* A file and the folders on the way to it. */
static void put(const char *path, const char *text)
{
	char full[PATH_MAX];
	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		mkdir(full, 0755);
		*p = '/';
	}
	FILE *f = fopen(full, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

START_TEST(where_nothing_is_mounted_there_is_no_limit)
{
	ck_assert_uint_eq(cgroup_memory_limit(root), 0);
	put("/proc/self/cgroup", "0::/\n");
	put("/proc/self/mountinfo", "20 1 0:20 / /proc rw - proc proc rw\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 0);
}
END_TEST

START_TEST(v2_the_smallest_limit_on_the_way_up_counts)
{
	put("/proc/self/cgroup", "0::/pod/weft\n");
	put("/proc/self/mountinfo", "20 1 0:20 / /proc rw - proc proc rw\n" V2);
	put("/sys/fs/cgroup/pod/weft/memory.max", "max\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 0);
	put("/sys/fs/cgroup/pod/memory.max", "67108864\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 67108864);
	put("/sys/fs/cgroup/pod/weft/memory.max", "33554432\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 33554432);
}
END_TEST

START_TEST(v2_in_a_container_the_mounted_part_begins_at_its_own_group)
{
	put("/proc/self/cgroup", "0::/docker/abc\n");
	put("/proc/self/mountinfo", "30 1 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
	put("/sys/fs/cgroup/memory.max", "50000000\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 50000000);
	put("/proc/self/cgroup", "0::/\n"); /* with a cgroup namespace */
	ck_assert_uint_eq(cgroup_memory_limit(root), 50000000);
}
END_TEST

START_TEST(v1_its_none_is_a_very_large_number)
{
	put("/proc/self/cgroup", "5:devices:/\n4:cpu,memory:/job/7\n");
	put("/proc/self/mountinfo", V1);
	put("/sys/fs/cgroup/memory/job/7/memory.limit_in_bytes", "9223372036854771712\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 0);
	put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "104857600\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 104857600);
}
END_TEST

START_TEST(v1_with_cgroup2_beside_it_the_smaller_of_both_counts)
{
	put("/proc/self/cgroup", "4:memory:/job\n0::/other\n");
	put("/proc/self/mountinfo", V1 UNIFIED);
	put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "104857600\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 104857600);
	put("/sys/fs/cgroup/unified/other/memory.max", "50331648\n");
	ck_assert_uint_eq(cgroup_memory_limit(root), 50331648);
}
END_TEST

Suite *cgroup_suite(void)
{
	Suite *s = suite_create("cgroup");
	TCase *c = tcase_create("limit");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, where_nothing_is_mounted_there_is_no_limit);
	tcase_add_test(c, v2_the_smallest_limit_on_the_way_up_counts);
	tcase_add_test(c, v2_in_a_container_the_mounted_part_begins_at_its_own_group);
	tcase_add_test(c, v1_its_none_is_a_very_large_number);
	tcase_add_test(c, v1_with_cgroup2_beside_it_the_smaller_of_both_counts);
	suite_add_tcase(s, c);
	return s;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU quota of a cgroup: both versions, groups above, containers that see a part of the hierarchy. */
#include "proxy/cpus.h"

#include "lib/base.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char top[] = "/tmp/weft-cpus-XXXXXX", cgroup[128], mounts[128];

static void put(const char *path, const char *text)
{
	char full[512];
	snprintf(full, sizeof(full), "%s/%s", top, path);
	for (char *p = full + strlen(top) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		mkdir(full, 0755);
		*p = '/';
	}
	FILE *f = fopen(full, "we");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

/* One mounted hierarchy: v2 at `mount` below top, or v1 with the options given. */
static void mounted(const char *mount, const char *root, const char *type, const char *super)
{
	char line[512];
	snprintf(line, sizeof(line),
		 "25 1 0:1 / / rw - ext4 /dev/x rw\n33 25 0:29 %s %s/%s rw,relatime shared:9 - %s cg %s\n", root, top,
		 mount, type, super);
	put("mountinfo", line);
}

static void setup(void)
{
	strcpy(top + strlen(top) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(cgroup, sizeof(cgroup), "%s/cgroup", top);
	snprintf(mounts, sizeof(mounts), "%s/mountinfo", top);
}

static void teardown(void)
{
	char command[256];
	snprintf(command, sizeof(command), "rm -rf %s", top);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(version_2_is_rounded_up)
{
	put("cgroup", "0::/kubepods/pod1\n");
	put("cg/kubepods/pod1/cpu.max", "150000 100000\n");
	mounted("cg", "/", "cgroup2", "rw,nsdelegate");
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 2);
	put("cg/kubepods/pod1/cpu.max", "10000 100000\n");
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 1);
	put("cg/kubepods/pod1/cpu.max", "max 100000\n");
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 0);
}
END_TEST

START_TEST(the_least_of_the_groups_above_counts)
{
	put("cgroup", "0::/a/b/c\n");
	put("cg/a/b/c/cpu.max", "800000 100000\n");
	put("cg/a/b/cpu.max", "max 100000\n");
	put("cg/a/cpu.max", "300000 100000\n");
	mounted("cg", "/", "cgroup2", "rw");
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 3);
}
END_TEST

START_TEST(version_1_counts_where_cpu_is_its_controller)
{
	put("cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/docker/1\n0::/\n");
	put("cpu/docker/1/cpu.cfs_quota_us", "250000\n");
	put("cpu/docker/1/cpu.cfs_period_us", "100000\n");
	put("cpu/cpu.cfs_quota_us", "-1\n");
	put("cpu/cpu.cfs_period_us", "100000\n");
	mounted("cpu", "/", "cgroup", "rw,cpu,cpuacct");
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 3);
	mounted("cpu", "/", "cgroup", "rw,cpuset,cpuacct"); /* neither of them is the word cpu */
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 0);
}
END_TEST

START_TEST(a_container_may_see_its_group_as_the_root)
{
	put("cgroup", "4:cpu:/docker/1/inner\n");
	put("cpu/inner/cpu.cfs_quota_us", "-1\n");
	put("cpu/inner/cpu.cfs_period_us", "100000\n");
	put("cpu/cpu.cfs_quota_us", "400000\n");
	put("cpu/cpu.cfs_period_us", "100000\n");
	mounted("cpu", "/docker/1", "cgroup", "rw,cpu");
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 4);
	put("cgroup", "4:cpu:/elsewhere\n"); /* not below what is mounted: the mount's own */
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 4);
}
END_TEST

START_TEST(nothing_to_read_is_no_quota)
{
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 0);
	put("cgroup", "garbage\n0:\n");
	put("mountinfo", "garbage - \n1 2 3 - cgroup2\n1 2 3 4 5 - cgroup2\n1 2 3 4 5 - cgroup2 x\n");
	ck_assert_uint_eq(cpus_quota(cgroup, mounts), 0);
	ck_assert_uint_ge(cpus_allowed(), 1);
}
END_TEST

Suite *cpus_suite(void);
Suite *cpus_suite(void)
{
	Suite *s = suite_create("cpus");
	TCase *t = tcase_create("cpus");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, version_2_is_rounded_up);
	tcase_add_test(t, the_least_of_the_groups_above_counts);
	tcase_add_test(t, version_1_counts_where_cpu_is_its_controller);
	tcase_add_test(t, a_container_may_see_its_group_as_the_root);
	tcase_add_test(t, nothing_to_read_is_no_quota);
	suite_add_tcase(s, t);
	return s;
}

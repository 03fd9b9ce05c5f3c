/* SPDX-License-Identifier: Apache-2.0 */
/* cpus.c: cgroups(7), and "CPU Interface Files" of the kernel's documentation of cgroup v2. A hierarchy is mounted somewhere, perhaps with
 * a part of it as its root (a container without a cgroup namespace): the group's path below that root is its path below the mount. */
#include "proxy/cpus.h"

#include "lib/base.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_LEN 4096

enum version { NEITHER, V1, V2 };

/* Whether a comma-separated list has this word. */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
		if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == '\0'))
			return true;
	return false;
}

static bool read_line(const char *dir, const char *file, char *line, size_t cap)
{
	char path[LINE_LEN + 64];
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return false;
	bool ok = fgets(line, (int)cap, f) != NULL;
	fclose(f);
	return ok;
}

/* Of one group, rounded up; 0: none. */
static unsigned quota_of(enum version version, const char *dir)
{
	char line[128], period_line[128];
	long long quota = 0, period = 0;
	if (version == V2) {
		if (!read_line(dir, "cpu.max", line, sizeof(line)) || sscanf(line, "%lld %lld", &quota, &period) != 2)
			return 0; /* "max 100000" */
	} else {
		if (!read_line(dir, "cpu.cfs_quota_us", line, sizeof(line)) ||
		    !read_line(dir, "cpu.cfs_period_us", period_line, sizeof(period_line)))
			return 0;
		quota = atoll(line);
		period = atoll(period_line);
	}
	if (quota <= 0 || period <= 0)
		return 0; /* -1 */
	long long n = (quota + period - 1) / period;
	return (unsigned)MIN(n, (long long)INT_MAX);
}

/* The least of a group and those above it, up to the mount. */
static unsigned least(enum version version, const char *mount, const char *path)
{
	char dir[LINE_LEN];
	unsigned best = 0;
	size_t root = strlen(mount);
	int n = snprintf(dir, sizeof(dir), "%s%s", mount, path);
	if (n < 0 || (size_t)n >= sizeof(dir))
		return 0;
	for (;;) {
		unsigned q = quota_of(version, dir);
		if (q != 0 && (best == 0 || q < best))
			best = q;
		char *slash = strrchr(dir, '/');
		if (strlen(dir) <= root || slash == NULL || (size_t)(slash - dir) < root)
			return best;
		*slash = '\0';
	}
}

/* The path of this process in the hierarchy: "5:cpu,cpuacct:/a/b", of version 2 "0::/a/b". */
static bool path_in(const char *cgroup, enum version version, char *ret, size_t cap)
{
	char line[LINE_LEN];
	bool found = false;
	FILE *f = fopen(cgroup, "re");
	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		char *names = strchr(line, ':'), *path = names != NULL ? strchr(names + 1, ':') : NULL;
		if (path == NULL)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		found = version == V2 ? names[1] == '\0' : has_word(names + 1, "cpu");
		if (found)
			snprintf(ret, cap, "%s", strcmp(path, "/") == 0 ? "" : path);
	}
	fclose(f);
	return found;
}

/* A line of mountinfo: "36 35 98:0 /root /mount opts fields... - type source superopts". */
static enum version mount_of(char *line, const char **ret_root, const char **ret_mount)
{
	char *save = NULL, *tail = strstr(line, " - "), *field[5];
	if (tail == NULL)
		return NEITHER;
	*tail = '\0';
	for (size_t i = 0; i < ARRAY_LEN(field); i++)
		if ((field[i] = strtok_r(i == 0 ? line : NULL, " ", &save)) == NULL)
			return NEITHER;
	*ret_root = strcmp(field[3], "/") == 0 ? "" : field[3];
	*ret_mount = field[4];
	const char *type = strtok_r(tail + 3, " \n", &save), *source = strtok_r(NULL, " \n", &save);
	const char *super = strtok_r(NULL, " \n", &save);
	if (source == NULL)
		return NEITHER;
	if (strcmp(type, "cgroup2") == 0)
		return V2;
	return strcmp(type, "cgroup") == 0 && super != NULL && has_word(super, "cpu") ? V1 : NEITHER;
}

unsigned cpus_quota(const char *cgroup, const char *mountinfo)
{
	char line[LINE_LEN], path[LINE_LEN];
	const char *root, *mount;
	unsigned best = 0;
	FILE *f = fopen(mountinfo, "re");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		enum version version = mount_of(line, &root, &mount);
		if (version == NEITHER || !path_in(cgroup, version, path, sizeof(path)))
			continue;
		size_t n = strlen(root);
		bool below = strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
		unsigned q = least(version, mount, below ? path + n : "");
		if (q != 0 && (best == 0 || q < best))
			best = q;
	}
	fclose(f);
	return best;
}

unsigned cpus_allowed(void)
{
	cpu_set_t set;
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = online > 0 ? (unsigned)online : 1, quota = cpus_quota("/proc/self/cgroup", "/proc/self/mountinfo");
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = MIN(n, (unsigned)MAX(CPU_COUNT(&set), 1));
	return quota != 0 ? MIN(quota, n) : n;
}

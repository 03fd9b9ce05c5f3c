/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.c: /proc/self/cgroup says which group, /proc/self/mountinfo where it is mounted: cgroup2 alone at /sys/fs/cgroup, v1 with a
 * mount for each controller, or v1 with cgroup2 beside it at /sys/fs/cgroup/unified. */
#include "proxy/cgroup.h"

#include "lib/str.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* v1 says "none" as the largest number of whole pages. */
#define NO_LIMIT ((uint64_t)1 << 60)

static bool open_below(const char *root, const char *path, FILE **ret)
{
	char full[PATH_MAX];
	int n = snprintf(full, sizeof(full), "%s%s", root, path);
	return n > 0 && (size_t)n < sizeof(full) && (*ret = fopen(full, "re")) != NULL;
}

/* Whether a comma-separated list has this word. */
static bool lists(struct str list, const char *word)
{
	struct str one;
	while (list.len > 0) {
		str_cut(list, ',', &one, &list);
		if (str_is(one, word))
			return true;
	}
	return false;
}

/* "N:CONTROLLERS:PATH"; v2 has no controllers. */
static bool group(const char *root, bool v2, char ret[static PATH_MAX])
{
	char line[PATH_MAX + 64];
	bool found = false;
	FILE *f;
	if (!open_below(root, "/proc/self/cgroup", &f))
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		struct str number, rest, controllers, path;
		line[strcspn(line, "\n")] = '\0';
		if (!str_cut(str_of(line), ':', &number, &rest) || !str_cut(rest, ':', &controllers, &path) ||
		    path.len >= PATH_MAX)
			continue;
		found = v2 ? str_is(number, "0") && controllers.len == 0 : lists(controllers, "memory");
		if (found)
			snprintf(ret, PATH_MAX, STR_FMT, STR_ARG(path));
	}
	fclose(f);
	return found;
}

/* "ID PARENT DEV ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER": the part of the hierarchy that is mounted, and where. proc(5) */
static bool mount(const char *root, bool v2, char ret_root[static PATH_MAX], char ret_point[static PATH_MAX])
{
	char line[3 * PATH_MAX], type[32], super[512], top[PATH_MAX], point[PATH_MAX];
	bool found = false;
	FILE *f;
	_Static_assert(PATH_MAX == 4096, "the widths below");
	if (!open_below(root, "/proc/self/mountinfo", &f))
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		const char *tail = strstr(line, " - ");
		if (tail == NULL || sscanf(tail, " - %31s %*s %511s", type, super) != 2 ||
		    sscanf(line, "%*s %*s %*s %4095s %4095s", top, point) != 2)
			continue;
		found =
		    v2 ? strcmp(type, "cgroup2") == 0 : strcmp(type, "cgroup") == 0 && lists(str_of(super), "memory");
	}
	fclose(f);
	if (found) {
		memcpy(ret_root, top, PATH_MAX);
		memcpy(ret_point, point, PATH_MAX);
	}
	return found;
}

static uint64_t read_limit(const char *root, const char *dir, const char *name)
{
	char path[2 * PATH_MAX + 64], text[64] = "";
	uint64_t v;
	FILE *f;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (!open_below(root, path, &f))
		return NO_LIMIT;
	bool got = fgets(text, sizeof(text), f) != NULL;
	fclose(f);
	text[strcspn(text, "\n")] = '\0';
	return got && str_to_u64(str_of(text), UINT64_MAX, &v) ? v : NO_LIMIT; /* v2: "max" */
}

/* A group is bound by those above it, too. */
static uint64_t smallest(const char *root, bool v2)
{
	char path[PATH_MAX], top[PATH_MAX], point[PATH_MAX], dir[2 * PATH_MAX];
	const char *name = v2 ? "memory.max" : "memory.limit_in_bytes", *below = path;
	uint64_t least = NO_LIMIT;
	if (!group(root, v2, path) || !mount(root, v2, top, point))
		return NO_LIMIT;
	/* In a container the mounted part begins at the container's own group, which the path may name once more. */
	size_t n = strcmp(top, "/") == 0 ? 0 : strlen(top);
	if (n > 0 && strncmp(path, top, n) == 0 && (path[n] == '/' || path[n] == '\0'))
		below = path + n;
	snprintf(dir, sizeof(dir), "%s%s", point, strcmp(below, "/") == 0 ? "" : below);
	for (;;) {
		least = MIN(least, read_limit(root, dir, name));
		char *cut = strrchr(dir, '/');
		if (cut == NULL || (size_t)(cut - dir) < strlen(point))
			return least;
		*cut = '\0';
	}
}

size_t cgroup_memory_limit(const char *root)
{
	uint64_t least = MIN(smallest(root, true), smallest(root, false));
	return least < NO_LIMIT ? (size_t)MIN(least, (uint64_t)SIZE_MAX) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* store_world.c: the bytes of a fresh store are kept, and written to a file again for each input. */
#include "tests/fuzz/world/store_world.h"

#include "control/vip.h"
#include "lib/event.h"
#include "lib/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[64], path[96];
static uint8_t *fresh;
static size_t fresh_len;
static struct ca_material ca;

static void write_fresh(void)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0 && write(fd, fresh, fresh_len) == (ssize_t)fresh_len);
	close(fd);
}

static void drop_files(void)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		char file[128];
		snprintf(file, sizeof(file), "%s%s", path, ends[i]);
		unlink(file);
	}
}

static void at_exit(void)
{
	drop_files();
	rmdir(dir);
}

static void make(void)
{
	struct store_mesh m = {.trust_domain = STORE_WORLD_TD, .server = "10.0.0.1:4810", .cidrs_len = 2};
	struct err err;
	event_set_level(EVENT_ERROR);
	snprintf(dir, sizeof(dir), "%s/weft-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	MUST(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/weft.db", dir);
	MUST(cidr_parse(STR(VIP_CIDR_V4), &m.cidrs[0]) && cidr_parse(STR(VIP_CIDR_V6), &m.cidrs[1]));
	MUST(ca_make(STR(STORE_WORLD_TD), &ca, &err) && store_create(path, &m, &ca, &err));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t end = lseek(fd, 0, SEEK_END);
	MUST(end > 0);
	fresh = mem_alloc((size_t)end);
	fresh_len = (size_t)end;
	MUST(pread(fd, fresh, fresh_len, 0) == (ssize_t)end);
	close(fd);
	atexit(at_exit);
}

struct store *store_world_open(void)
{
	struct err err;
	if (!fresh)
		make();
	drop_files();
	write_fresh();
	struct store *s = store_open(path, &err);
	MUST(s != NULL);
	return s;
}

void store_world_close(struct store **s)
{
	store_free(s);
	drop_files();
}

const struct ca_material *store_world_ca(void)
{
	if (!fresh)
		make();
	return &ca;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* store_world.c: one store for all inputs, emptied between them: opening one anew (its pragmas, its schema, its check, each statement
 * compiled again) took longer than most inputs do. What is told of the mesh in `meta` never changes and stays. */
#include "tests/fuzz/world/store_world.h"

#include "control/store_db.h"
#include "control/vip.h"
#include "lib/event.h"
#include "lib/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TABLES_MAX 16

static char dir[64], path[96];
static struct store *world;
static struct ca_material ca;
static char *wipes[TABLES_MAX];
static size_t wipes_len;

static void drop_files(void)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal", ".lock"};
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		char file[128];
		snprintf(file, sizeof(file), "%s%s", path, ends[i]);
		unlink(file);
	}
}

static void at_exit(void)
{
	store_free(&world);
	ca_material_done(&ca);
	for (size_t i = 0; i < wipes_len; i++)
		mem_free(wipes[i]);
	drop_files();
	rmdir(dir);
}

/* One statement a table, read from the schema, so that no table to come is forgotten. */
static void make_wipes(void)
{
	sqlite3_stmt *st =
	    db_query(world, NULL, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'meta'", "");
	char name[64];
	MUST(st != NULL);
	while (db_step(world, st, NULL) == 1) {
		MUST(wipes_len < TABLES_MAX && db_text(st, 0, name, sizeof(name)));
		wipes[wipes_len++] = mem_printf("DELETE FROM %s", name);
	}
	db_done(world, st);
	MUST(wipes_len > 0);
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
	world = store_open(path, &err);
	MUST(world != NULL);
	make_wipes();
	atexit(at_exit);
}

/* What the store keeps beside its file must go too, or an input would not do alone what it does after another. */
static void wipe(void)
{
	MUST(list_empty(&world->watches) && !world->in_tx && db_begin(world, NULL));
	for (size_t i = 0; i < wipes_len; i++)
		MUST(db_exec(world, NULL, wipes[i], ""));
	MUST(db_commit(world, NULL));
	memset(world->vip_hint, 0, sizeof(world->vip_hint));
}

struct store *store_world_open(void)
{
	if (!world)
		make();
	return world;
}

void store_world_close(struct store **s)
{
	MUST(*s == world);
	*s = NULL;
	wipe();
}

const struct ca_material *store_world_ca(void)
{
	if (!world)
		make();
	return &ca;
}

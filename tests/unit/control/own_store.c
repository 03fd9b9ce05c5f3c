/* SPDX-License-Identifier: Apache-2.0 */
/* own_store.c: one folder in /tmp a process. */
#include "tests/unit/control/own_store.h"

#include "certs/ca.h"
#include "control/vip.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static char dir[64], path[128];

struct store_mesh own_store_mesh(void)
{
	struct store_mesh m = {.trust_domain = "mesh.test", .cidrs_len = 3, .server = "10.0.0.1:4810"};

	ck_assert(cidr_parse(STR("10.1.0.0/16"), &m.cidrs[0]));
	ck_assert(cidr_parse(STR(VIP_CIDR_V4), &m.cidrs[1]));
	ck_assert(cidr_parse(STR(VIP_CIDR_V6), &m.cidrs[2]));
	return m;
}

struct ca_material own_store_ca(void)
{
	static uint8_t bytes[4][4] = {"abc", "def", "ghi", "jkl"};

	return (struct ca_material){bytes[0], bytes[1], bytes[2], bytes[3], 3, 3, 3, 3};
}

struct store *own_store_make(void)
{
	struct store_mesh m = own_store_mesh();
	struct ca_material ca = own_store_ca();
	struct store *s = NULL;
	struct err err;

	snprintf(dir, sizeof(dir), "/tmp/weft-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/weft.db", dir);
	ck_assert_msg(store_create(path, &m, &ca, &err), "%s", err.text);
	own_store_reopen(&s);
	return s;
}

const char *own_store_path(void)
{
	return path;
}

void own_store_reopen(struct store **s)
{
	struct err err;

	store_free(s);
	*s = store_open(path, &err);
	ck_assert_msg(*s != NULL, "%s", err.text);
}

void own_store_drop(struct store **s)
{
	char command[128];

	store_free(s);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

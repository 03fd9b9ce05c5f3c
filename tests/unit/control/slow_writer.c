/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/control/slow_writer.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>

static struct store *beside;
static pthread_t thread;
static sem_t is_within, may_go;

static bool stay_within(struct store *s, const struct store_item *item, const json_t *before, json_t *body,
			struct err *err)
{
	sem_post(&is_within);
	while (sem_wait(&may_go) != 0)
		;
	return true;
}

/* beside, or NULL when it failed. */
static void *write_slowly(void *unused)
{
	json_t *body = json_pack("{s:s}", "kind", "Service");
	struct store_item it = {"Service", "shop", "slow", body, stay_within, STORE_UNCHANGED};
	bool ok = store_apply(beside, &it, 1, "test", "slow", false, NULL, NULL);

	json_decref(body);
	return ok ? beside : NULL;
}

void slow_writer_begin(struct store *store)
{
	struct err err;

	beside = store_open_beside(store, &err);
	ck_assert_msg(beside != NULL, "%s", err.text);
	ck_assert(sem_init(&is_within, 0, 0) == 0 && sem_init(&may_go, 0, 0) == 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, write_slowly, NULL), 0);
	ck_assert_int_eq(sem_wait(&is_within), 0);
}

void slow_writer_let_go(void)
{
	sem_post(&may_go);
}

void slow_writer_join(void)
{
	void *done;

	ck_assert(pthread_join(thread, &done) == 0 && done == beside);
	store_free(&beside);
}

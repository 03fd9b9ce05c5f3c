/* SPDX-License-Identifier: Apache-2.0 */
/* clerk_test.c: calls of the API on a thread of their own. */
#include "control/api_clerk.h"

#include "lib/mem.h"
#include "tests/unit/control/own_store.h"

#include <check.h>
#include <stdlib.h>

#define OBJECTS 450

static struct loop *loop;
static struct api_cfg cfg;
static struct clerk *clerk;
static struct store_watch watch;
static struct err err;
static size_t pieces, changes, told, run;
static unsigned statuses[4];
static bool settle_at_once;

static void on_change(struct store_watch *w, uint64_t revision, const struct store_change *c, size_t n)
{
	ck_assert(clerk_telling(clerk));
	ck_assert_str_eq(c[0].kind, "Service");
	ck_assert_str_eq(c[0].ns, "shop");
	ck_assert_ptr_nonnull(c[n - 1].body);
	pieces++;
	changes += n;
}

static void on_run(void *ctx, struct call *c)
{
	size_t len;
	char *text;

	ck_assert_ptr_eq(call_owner(c), &statuses[run]);
	statuses[run++] = call_finish(c, &cfg, false, &text, &len);
	free(text);
	call_free(&c);
	if (run == (size_t)(uintptr_t)ctx)
		loop_stop(loop);
}

static void on_told(void *ctx)
{
	told++;
	if (settle_at_once)
		clerk_settle(clerk);
	else
		loop_stop(loop);
}

static void make(void)
{
	pieces = changes = told = run = 0;
	cfg = (struct api_cfg){.store = own_store_make()};
	loop = loop_new(&err);
	list_init(&watch.node);
	watch.on_change = on_change;
	store_watch(cfg.store, &watch);
}

/* stop_after: the loop stops when so many calls have been run. */
static void hire(size_t stop_after, bool settle)
{
	struct clerk_events ev = {on_run, on_told, (void *)(uintptr_t)stop_after};

	settle_at_once = settle;
	clerk = clerk_new(loop, &cfg, &ev, &err);
	ck_assert_msg(clerk != NULL, "%s", err.text);
}

static void drop(void)
{
	clerk_free(&clerk);
	store_unwatch(&watch);
	loop_free(&loop);
	own_store_drop(&cfg.store);
}

static struct call *call_of(size_t owner, const char *method, const char *target, char *body)
{
	struct api_request rq = {.method = str_of(method),
				 .path = str_of(target),
				 .body = body,
				 .body_len = body ? strlen(body) : 0,
				 .who = "tester"};
	return call_new(&rq, &statuses[owner]);
}

/* An apply of n services. */
static char *many(size_t n)
{
	json_t *objects = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(objects, json_pack("{s:s, s:s, s:{s:o, s:s}, s:{s:[{s:i}]}}", "apiVersion", "v1",
							 "kind", "Service", "metadata", "name", json_sprintf("s%zu", i),
							 "namespace", "shop", "spec", "ports", "port", 80));
	json_t *all = json_pack("{s:o}", "objects", objects);
	char *text = json_dumps(all, 0), *body = mem_strdup(text);
	free(text);
	json_decref(all);
	return body;
}

START_TEST(calls_are_run_in_order_and_what_one_changed_is_told_in_pieces_before_it_counts_as_run)
{
	hire(3, false);
	clerk_take(clerk, call_of(0, "POST", "/v1/apply", many(OBJECTS)));
	clerk_take(clerk, call_of(1, "GET", "/v1/objects/svc/shop/s449", NULL));
	clerk_take(clerk, call_of(2, "GET", "/v1/objects/svc/shop/s450", NULL));
	loop_run(loop); /* to on_told() */
	ck_assert_uint_eq(told, 1);
	ck_assert_uint_eq(changes, OBJECTS);
	ck_assert_uint_eq(pieces, 3);
	ck_assert(!clerk_telling(clerk));
	ck_assert_uint_eq(run, 0);
	clerk_settle(clerk);
	ck_assert_uint_eq(run, 1);
	loop_run(loop);
	ck_assert_uint_eq(run, 3);
	ck_assert_uint_eq(statuses[0], 200);
	ck_assert_uint_eq(statuses[1], 200);
	ck_assert_uint_eq(statuses[2], 404);
	ck_assert_uint_eq(told, 1); /* reading changes nothing */
	clerk_settle(clerk);
}
END_TEST

START_TEST(what_is_refused_is_told_to_nobody)
{
	hire(1, true);
	clerk_take(clerk, call_of(0, "POST", "/v1/apply", mem_strdup("{\"objects\": [{\"kind\": \"Pod\"}]}")));
	loop_run(loop);
	ck_assert_uint_eq(statuses[0], 400);
	ck_assert_uint_eq(told + pieces, 0);
}
END_TEST

START_TEST(a_call_can_be_dropped_until_it_begins)
{
	struct call *first = call_of(0, "POST", "/v1/apply", many(OBJECTS));
	struct call *second = call_of(1, "POST", "/v1/apply", many(1));
	uint64_t revision;

	hire(1, true);
	clerk_take(clerk, first);
	clerk_take(clerk, second);
	ck_assert(!clerk_drop(clerk, first));
	ck_assert(clerk_drop(clerk, second));
	call_free(&second);
	loop_run(loop);
	ck_assert_uint_eq(run, 1);
	ck_assert_uint_eq(statuses[0], 200);
	ck_assert(store_revision(cfg.store, &revision, &err));
	ck_assert_uint_eq(revision, 1);
}
END_TEST

START_TEST(whoever_frees_it_waits_for_the_call_that_is_run_and_hears_of_it)
{
	uint64_t revision;

	hire(1, true);
	clerk_take(clerk, call_of(0, "POST", "/v1/apply", many(OBJECTS)));
	clerk_free(&clerk);
	ck_assert_uint_eq(run, 1);
	ck_assert_uint_eq(statuses[0], 200);
	ck_assert_uint_eq(pieces, 0);
	ck_assert(store_revision(cfg.store, &revision, &err));
	ck_assert_uint_eq(revision, 1);
}
END_TEST

Suite *clerk_suite(void)
{
	Suite *s = suite_create("clerk");
	TCase *tc = tcase_create("clerk");

	tcase_add_checked_fixture(tc, make, drop);
	tcase_add_test(tc, calls_are_run_in_order_and_what_one_changed_is_told_in_pieces_before_it_counts_as_run);
	tcase_add_test(tc, what_is_refused_is_told_to_nobody);
	tcase_add_test(tc, a_call_can_be_dropped_until_it_begins);
	tcase_add_test(tc, whoever_frees_it_waits_for_the_call_that_is_run_and_hears_of_it);
	suite_add_tcase(s, tc);
	return s;
}

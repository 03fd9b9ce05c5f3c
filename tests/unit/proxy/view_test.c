/* SPDX-License-Identifier: Apache-2.0 */
/* What a thread sees of a configuration that belongs to another thread: the newest, whole, and never freed beneath it. */
#include "feed.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/view.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>

#define SWAPS 300

static struct loop *home, *there;
static struct config *config;
static struct view *view;
static struct feed f;
static pthread_t id;

static unsigned asked; /* on home */

static void on_follow(void *ctx, const struct ip *ip)
{
	asked++;
	feed_service(&f, "shop/orders", "s1", "10.9.0.1", PROTOCOL_HTTP);
	struct err err;
	ck_assert_msg(config_apply(config, &f.from, &err), "%s", err.text);
	feed_endpoints(&f, "shop/orders", "e1", "10.9.0.1", "10.1.0.2");
	ck_assert(config_apply(config, &f.from, &err));
	feed_manifest(&f, "shop/orders", "m1", "10.9.0.1", "s1", NULL);
	ck_assert(config_apply(config, &f.from, &err));
}
static void on_unfollow(void *ctx, const struct ip *ip)
{
}
static void on_name(void *ctx, enum resource_type t, const char *name)
{
}
static const struct config_source source = {on_follow, on_unfollow, on_name, on_name};

static void push_mesh(const char *version)
{
	struct err err;
	feed_mesh(&f, version, "test.mesh");
	ck_assert_msg(config_apply(config, &f.from, &err), "%s", err.text);
}

static void setup(void)
{
	home = loop_new(NULL);
	there = loop_new(NULL);
	config = config_new(home);
	config_set_source(config, &source, NULL);
	config_set_linked(config, true);
	push_mesh("v0");
	config_commit(config);
	view = view_new(there, config, home);
	asked = 0;
}

static void teardown(void)
{
	loop_open_mail(there);
	loop_open_mail(home);
	view_free(&view);
	config_free(&config);
	loop_free(&there);
	loop_free(&home);
}

static void *run_there(void *arg)
{
	loop_run(there);
	return NULL;
}

static void stop(void *loop)
{
	loop_stop(loop);
}

/* --- asking across --- */

static struct view_waiter waiter;
static int answers;
static bool answer_known;
static enum target_kind answer_kind;

static void on_answer(struct view_waiter *w, bool known)
{
	struct target t;
	answers++;
	answer_known = known;
	snapshot_find(view_snapshot(view), &w->to, &t);
	answer_kind = t.kind;
	ck_assert(loop_post(home, stop, home));
}

static void want(void *arg)
{
	struct addr to;
	ck_assert(addr_parse(STR("10.9.0.1:80"), &to));
	waiter.on_answer = on_answer;
	view_want(view, &waiter, &to);
	ck_assert_int_eq(answers, 0); /* never from within */
}

START_TEST(who_asks_on_another_thread_is_answered_there)
{
	answers = 0;
	pthread_create(&id, NULL, run_there, NULL);
	ck_assert(loop_post(there, want, NULL));
	loop_run(home);
	ck_assert(loop_post(there, stop, there));
	pthread_join(id, NULL);
	ck_assert_uint_eq(asked, 1);
	ck_assert_int_eq(answers, 1);
	ck_assert(answer_known);
	ck_assert_int_eq(answer_kind, TARGET_SERVICE);
}
END_TEST

/* --- swaps under a reader --- */

static uint64_t last_seen; /* there */
static unsigned looks;
static uint64_t goal; /* atomic; 0: not said yet */
static struct task look_task;

/* Each turn: the snapshot never goes back, and holds what it is made of. */
static void look(struct task *t)
{
	struct snapshot *s = snapshot_ref(view_snapshot(view));
	uint64_t serial = snapshot_serial(s), end = __atomic_load_n(&goal, __ATOMIC_ACQUIRE);
	ck_assert_uint_ge(serial, last_seen);
	ck_assert_str_eq(snapshot_trust_domain(s), "test.mesh");
	last_seen = serial;
	looks++;
	snapshot_unref(&s);
	if (end != 0 && serial == end)
		loop_stop(there);
	else
		loop_next_turn(there, t);
}

START_TEST(a_thread_sees_newer_and_newer_snapshots_and_the_last_one_at_last)
{
	char version[32];
	last_seen = goal = looks = 0;
	task_init(&look_task, look);
	loop_next_turn(there, &look_task);
	pthread_create(&id, NULL, run_there, NULL);
	for (unsigned i = 1; i <= SWAPS; i++) {
		snprintf(version, sizeof(version), "v%u", i);
		push_mesh(version);
		config_commit(config);
	}
	__atomic_store_n(&goal, snapshot_serial(config_snapshot(config)), __ATOMIC_RELEASE);
	pthread_join(id, NULL);
	ck_assert_uint_ge(looks, 1);
}
END_TEST

/* --- touching --- */

static void touch_often(void *arg)
{
	struct addr to;
	ck_assert(addr_parse(STR("10.9.0.1:80"), &to));
	for (unsigned i = 0; i < 10000; i++)
		view_touch(view, &to);
	loop_stop(there);
}

START_TEST(an_address_in_use_costs_one_message_and_not_one_a_request)
{
	ck_assert(loop_post(there, touch_often, NULL));
	loop_run(there);
	/* Had each touch been posted the mailbox would be full. */
	unsigned room = 0;
	while (loop_post(home, stop, home))
		room++;
	ck_assert_uint_eq(room, 4095);
}
END_TEST

Suite *view_suite(void);
Suite *view_suite(void)
{
	Suite *s = suite_create("view");
	TCase *t = tcase_create("view");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, who_asks_on_another_thread_is_answered_there);
	tcase_add_test(t, a_thread_sees_newer_and_newer_snapshots_and_the_last_one_at_last);
	tcase_add_test(t, an_address_in_use_costs_one_message_and_not_one_a_request);
	suite_add_tcase(s, t);
	return s;
}

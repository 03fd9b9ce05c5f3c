/* SPDX-License-Identifier: Apache-2.0 */
/* store_join_test.c: what the store keeps of those who join: tokens, instances and their leases, bearers of the API. */
#include "lib/mem.h"
#include "tests/unit/control/own_store.h"

#include <check.h>
#include <stdio.h>

static struct store *store;
static struct err err;

static void make(void)
{
	store = own_store_make();
}

static void drop(void)
{
	own_store_drop(&store);
}

static void reopen(void)
{
	own_store_reopen(&store);
}

static struct store_token token_of(const char *id, const char *sa)
{
	struct store_token t = {.labels = json_pack("{s:s, s:s}", "app", "orders", "version", "v*"),
				.not_after = 4000000000};

	snprintf(t.id, sizeof(t.id), "%s", id);
	snprintf(t.ns, sizeof(t.ns), "shop");
	snprintf(t.sa, sizeof(t.sa), "%s", sa);
	snprintf(t.created_by, sizeof(t.created_by), "test");
	memset(t.secret_hash, 7, sizeof(t.secret_hash));
	return t;
}

static void add_token(const char *id, const char *sa)
{
	struct store_token t = token_of(id, sa);

	ck_assert_msg(store_token_add(store, &t, &err), "%s", err.text);
	store_token_done(&t);
}

START_TEST(tokens_come_back_as_they_were_made)
{
	struct store_token t;

	add_token("aa", "orders");
	ck_assert(store_token_get(store, "aa", &t, &err));
	ck_assert_str_eq(t.ns, "shop");
	ck_assert_str_eq(t.sa, "orders");
	ck_assert_int_eq(t.secret_hash[31], 7);
	ck_assert_str_eq(json_string_value(json_object_get(t.labels, "version")), "v*");
	store_token_done(&t);
	ck_assert(store_token_delete(store, "aa", &err));
	ck_assert(!store_token_get(store, "aa", &t, &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
	ck_assert(!store_token_delete(store, "aa", &err));
}
END_TEST

START_TEST(a_token_is_spent_once_per_instance)
{
	struct store_instance i;
	struct store_token t;
	uint8_t hash[STORE_HASH_LEN] = {1}, other[STORE_HASH_LEN] = {2};

	add_token("aa", "orders");
	ck_assert_msg(store_instance_join(store, "aa", "orders-1", hash, &i, &err), "%s", err.text);
	ck_assert_str_eq(i.ns, "shop");
	ck_assert_str_eq(i.sa, "orders");
	ck_assert_str_eq(json_string_value(json_object_get(i.allowed_labels, "app")), "orders");
	store_instance_done(&i);
	ck_assert(!store_instance_join(store, "aa", "orders-1", hash, &i, &err));
	ck_assert_int_eq(err.code, ERR_EXISTS);
	ck_assert(store_instance_join(store, "aa", "orders-2", other, &i, &err));
	store_instance_done(&i);
	ck_assert(store_token_get(store, "aa", &t, &err));
	ck_assert_uint_eq(t.uses, 2);
	store_token_done(&t);
	ck_assert(!store_instance_join(store, "bb", "orders-1", hash, &i, &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
}
END_TEST

START_TEST(another_account_cannot_take_a_name)
{
	struct store_instance i;
	uint8_t hash[STORE_HASH_LEN] = {1}, other[STORE_HASH_LEN] = {2};

	add_token("aa", "orders");
	add_token("bb", "evil");
	ck_assert(store_instance_join(store, "aa", "orders-1", hash, &i, &err));
	store_instance_done(&i);
	ck_assert(!store_instance_join(store, "bb", "orders-1", other, &i, &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert(store_instance_get(store, "shop", "orders-1", &i, &err));
	ck_assert_str_eq(i.sa, "orders");
	store_instance_done(&i);
}
END_TEST

START_TEST(rejoin_secrets_rotate)
{
	struct store_instance i;
	uint8_t a[STORE_HASH_LEN] = {1}, b[STORE_HASH_LEN] = {2}, c[STORE_HASH_LEN] = {3}, d[STORE_HASH_LEN] = {4};

	add_token("aa", "orders");
	ck_assert(store_instance_join(store, "aa", "orders-1", a, &i, &err));
	store_instance_done(&i);
	ck_assert(store_instance_rejoin(store, a, b, &i, &err));
	ck_assert_str_eq(i.name, "orders-1");
	store_instance_done(&i);
	/* The answer with b was lost: a comes again and gets c; b is dead. */
	ck_assert(store_instance_rejoin(store, a, c, &i, &err));
	store_instance_done(&i);
	ck_assert(!store_instance_rejoin(store, b, d, &i, &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	/* c is used: a is dead from now on. */
	ck_assert(store_instance_rejoin(store, c, d, &i, &err));
	store_instance_done(&i);
	ck_assert(!store_instance_rejoin(store, a, b, &i, &err));
	/* Instances without a secret match no presented hash. */
	struct store_instance reg = {.ns = "shop", .name = "plain", .sa = "orders", .lease_ms = 5};
	ck_assert(store_instance_register(store, &reg, &err));
	uint8_t zero[STORE_HASH_LEN] = {0};
	ck_assert(!store_instance_rejoin(store, zero, b, &i, &err));
}
END_TEST

START_TEST(labels_are_held_against_the_token)
{
	json_t *allowed = json_pack("{s:s, s:s}", "app", "orders", "version", "v*");
	json_t *good = json_pack("{s:s, s:s}", "app", "orders", "version", "v12");
	json_t *wrong = json_pack("{s:s}", "app", "payments"), *foreign = json_pack("{s:s}", "tier", "gold");

	ck_assert(store_labels_allowed(allowed, good, &err));
	ck_assert(store_labels_allowed(allowed, NULL, &err));
	ck_assert(!store_labels_allowed(allowed, wrong, &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert(!store_labels_allowed(allowed, foreign, &err));
	ck_assert(!store_labels_allowed(NULL, good, &err));
	json_decref(allowed);
	json_decref(good);
	json_decref(wrong);
	json_decref(foreign);
}
END_TEST

START_TEST(leases_outlive_a_restart)
{
	struct store_instance reg = {.ns = "shop", .name = "orders-1", .sa = "orders", .lease_ms = 1000, .zone = "a"},
			      i;

	reg.labels = json_pack("{s:s}", "app", "orders");
	reg.ports = json_pack("[{s:i, s:s}]", "port", 8080, "protocol", "http");
	reg.addresses = json_pack("[s]", "10.1.0.2");
	ck_assert_msg(store_instance_register(store, &reg, &err), "%s", err.text);
	struct store_lease leases[] = {{"shop", "orders-1", 2000}, {"shop", "unknown", 3000}};
	ck_assert_msg(store_lease_set(store, leases, 2, &err), "%s", err.text);
	reopen();
	ck_assert(store_instance_get(store, "shop", "orders-1", &i, &err));
	ck_assert_int_eq(i.lease_ms, 2000);
	ck_assert_str_eq(i.zone, "a");
	ck_assert(json_equal(i.ports, reg.ports));
	ck_assert(json_equal(i.addresses, reg.addresses));
	store_instance_done(&i);
	ck_assert(!store_instance_get(store, "shop", "unknown", &i, &err));
	leases[0].until_ms = 0;
	ck_assert(store_lease_set(store, leases, 1, &err));
	ck_assert(store_instance_get(store, "shop", "orders-1", &i, &err));
	ck_assert_int_eq(i.lease_ms, 0);
	store_instance_done(&i);
	store_instance_done(&reg);
	ck_assert(store_instance_delete(store, "shop", "orders-1", &err));
	ck_assert(!store_instance_delete(store, "shop", "orders-1", &err));
}
END_TEST

START_TEST(bearer_tokens_are_known_by_hash_until_they_expire)
{
	uint8_t a[STORE_HASH_LEN] = {1}, b[STORE_HASH_LEN] = {2};
	char who[64];

	ck_assert(store_bearer_add(store, a, "ci", 4000000000, &err));
	ck_assert(store_bearer_add(store, b, "old", 1000, &err));
	ck_assert(store_bearer_find(store, a, who, sizeof(who), &err));
	ck_assert_str_eq(who, "ci");
	ck_assert(!store_bearer_find(store, b, who, sizeof(who), &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
}
END_TEST

Suite *store_join_suite(void);
Suite *store_join_suite(void)
{
	Suite *s = suite_create("store_join");
	TCase *tc = tcase_create("store_join");

	tcase_add_checked_fixture(tc, make, drop);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, tokens_come_back_as_they_were_made);
	tcase_add_test(tc, a_token_is_spent_once_per_instance);
	tcase_add_test(tc, another_account_cannot_take_a_name);
	tcase_add_test(tc, rejoin_secrets_rotate);
	tcase_add_test(tc, labels_are_held_against_the_token);
	tcase_add_test(tc, leases_outlive_a_restart);
	tcase_add_test(tc, bearer_tokens_are_known_by_hash_until_they_expire);
	suite_add_tcase(s, tc);
	return s;
}

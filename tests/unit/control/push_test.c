/* SPDX-License-Identifier: Apache-2.0 */
/* push_test.c: the server's side of delta xDS, by what a proxy sees of it: which name leads where, and what goes out when. */
#include "tests/unit/control/push_peer.h"

#include <stdio.h>
#include <stdlib.h>

START_TEST(address_leads_to_canonical_name_with_every_alias)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1", "addr:fd77::1"));
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("addr:240.0.0.1"));
	ck_assert_uint_eq(peer_a.n, 0); /* nothing from within a request */
	ck_assert_uint_eq(peer_dirty_calls, 1);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
	ck_assert_str_eq(peer_a.got[0]->type_url, "type.googleapis.com/weft.v1.Service");
	ck_assert_uint_eq(peer_a.got[0]->n_resources, 1);
	ck_assert_str_eq(peer_a.got[0]->resources[0]->name, "shop/orders");
	ck_assert_str_eq(peer_a.got[0]->resources[0]->resource->type_url, "type.googleapis.com/weft.v1.Service");
	ck_assert_uint_eq(peer_a.got[0]->resources[0]->n_aliases, 2);
	ck_assert_str_eq(peer_a.got[0]->resources[0]->aliases[1], "addr:fd77::1");
	ck_assert_uint_eq(strlen(peer_a.got[0]->resources[0]->version), 16);
	ck_assert_str_eq(peer_value(peer_a.got[0], 0), "v1");
	ck_assert_uint_gt(strlen(peer_a.got[0]->nonce), 0);
	ck_assert_uint_eq(peer_b.n, 0);
}
END_TEST

START_TEST(nothing_there_is_said_and_remembered)
{
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("addr:10.9.9.9"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
	ck_assert(peer_removed(peer_a.got[0], "addr:10.9.9.9"));
	push_put(PUSHED_SERVICE, "shop/late", "v1", NAMES("addr:10.9.9.9"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 2);
	ck_assert_str_eq(peer_a.got[1]->resources[0]->name, "shop/late");
	ck_assert_uint_eq(peer_a.got[1]->n_removed_resources, 0);
}
END_TEST

START_TEST(vanished_resource_is_removed_by_every_name_asked_for)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1", "addr:fd77::1"));
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("addr:240.0.0.1"));
	peer_subscribe(&peer_b, PUSHED_SERVICE, NAMES("shop/orders", "addr:fd77::1"));
	push_flush(peer_push);
	push_remove(peer_push, PUSHED_SERVICE, "shop/orders");
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 2);
	ck_assert_uint_eq(peer_a.got[1]->n_resources, 0);
	ck_assert_uint_eq(peer_a.got[1]->n_removed_resources, 2);
	ck_assert(peer_removed(peer_a.got[1], "shop/orders") && peer_removed(peer_a.got[1], "addr:240.0.0.1"));
	ck_assert_uint_eq(peer_b.got[1]->n_removed_resources, 2);
	ck_assert(peer_removed(peer_b.got[1], "shop/orders") && peer_removed(peer_b.got[1], "addr:fd77::1"));
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 3);
	ck_assert_uint_eq(peer_b.n, 3);
}
END_TEST

START_TEST(address_that_moves_to_another_service_takes_the_old_one_away)
{
	push_put(PUSHED_SERVICE, "shop/old", "v1", NAMES("addr:240.0.0.1", "addr:240.0.0.9"));
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("addr:240.0.0.1"));
	push_flush(peer_push);
	push_put(PUSHED_SERVICE, "shop/old", "v2", NAMES("addr:240.0.0.9"));
	push_put(PUSHED_SERVICE, "shop/new", "v1", NAMES("addr:240.0.0.1"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 2);
	ck_assert_uint_eq(peer_a.got[1]->n_resources, 1);
	ck_assert_str_eq(peer_a.got[1]->resources[0]->name, "shop/new");
	ck_assert_uint_eq(peer_a.got[1]->n_removed_resources, 1);
	ck_assert(peer_removed(peer_a.got[1], "shop/old"));
}
END_TEST

START_TEST(name_claimed_twice_answers_with_the_newest_then_the_older)
{
	push_put(PUSHED_WORKLOAD, "shop/w1", "one", NAMES("addr:10.0.0.5"));
	push_put(PUSHED_WORKLOAD, "shop/w2", "two", NAMES("addr:10.0.0.5"));
	peer_subscribe(&peer_a, PUSHED_WORKLOAD, NAMES("addr:10.0.0.5"));
	push_flush(peer_push);
	ck_assert_str_eq(peer_a.got[0]->resources[0]->name, "shop/w2");
	push_put(PUSHED_WORKLOAD, "shop/w1", "one again", NAMES("addr:10.0.0.5"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1); /* not the owner of the name */
	push_remove(peer_push, PUSHED_WORKLOAD, "shop/w2");
	push_flush(peer_push);
	ck_assert_str_eq(peer_a.got[1]->resources[0]->name, "shop/w1");
	ck_assert(peer_removed(peer_a.got[1], "shop/w2") && !peer_removed(peer_a.got[1], "addr:10.0.0.5"));
}
END_TEST

START_TEST(unchanged_content_is_not_pushed)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/orders"));
	push_flush(peer_push);
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
}
END_TEST

START_TEST(changes_of_one_turn_go_out_once_with_the_last_state)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/orders", "shop/other"));
	push_flush(peer_push);
	push_put(PUSHED_SERVICE, "shop/orders", "v2", NULL);
	push_put(PUSHED_SERVICE, "shop/orders", "v3", NULL);
	push_put(PUSHED_SERVICE, "shop/other", "x", NULL);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 2);
	ck_assert_uint_eq(peer_a.got[1]->n_resources, 2);
	ck_assert_str_eq(peer_value(peer_a.got[1], 0), "v3");
	/* there and back again: nothing to say but the version that it has */
	push_put(PUSHED_SERVICE, "shop/brief", "x", NULL);
	push_remove(peer_push, PUSHED_SERVICE, "shop/brief");
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 2);
}
END_TEST

START_TEST(manifest_goes_last_in_the_turn)
{
	push_put(PUSHED_MANIFEST, "shop/orders", "m", NULL);
	push_put(PUSHED_ENDPOINTS, "shop/orders", "e", NULL);
	push_put(PUSHED_SERVICE, "shop/orders", "s", NULL);
	peer_subscribe(&peer_a, PUSHED_MANIFEST, NAMES("shop/orders"));
	peer_subscribe(&peer_a, PUSHED_ENDPOINTS, NAMES("shop/orders"));
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/orders"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 3);
	ck_assert_str_eq(peer_a.got[0]->type_url, pushed_type_url(PUSHED_SERVICE));
	ck_assert_str_eq(peer_a.got[1]->type_url, pushed_type_url(PUSHED_ENDPOINTS));
	ck_assert_str_eq(peer_a.got[2]->type_url, pushed_type_url(PUSHED_MANIFEST));
}
END_TEST

START_TEST(asking_again_is_answered_again)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1"));
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("addr:240.0.0.1", "addr:1.1.1.1"));
	push_flush(peer_push);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("addr:240.0.0.1", "addr:1.1.1.1"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 2);
	ck_assert_uint_eq(peer_a.got[1]->n_resources, 1);
	ck_assert(peer_removed(peer_a.got[1], "addr:1.1.1.1"));
}
END_TEST

START_TEST(unsubscribed_name_is_forgotten_without_an_answer)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1"));
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("addr:240.0.0.1", "addr:1.1.1.1"));
	push_flush(peer_push);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NULL, NAMES("addr:240.0.0.1", "addr:1.1.1.1", "never"), NULL,
		 NULL, NULL);
	push_put(PUSHED_SERVICE, "shop/orders", "v2", NAMES("addr:240.0.0.1", "addr:1.1.1.1"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
	ck_assert_uint_eq(push_counts(peer_push)->subscriptions, 0);
}
END_TEST

START_TEST(mesh_answers_to_its_name_to_the_wildcard_and_to_silence)
{
	push_put(PUSHED_MESH, "mesh", "m1", NULL);
	peer_subscribe(&peer_a, PUSHED_MESH, NAMES("mesh"));
	peer_ask(&peer_b, pushed_type_url(PUSHED_MESH), NULL, NULL, NULL, NULL, NULL);
	push_flush(peer_push);
	ck_assert_str_eq(peer_a.got[0]->resources[0]->name, "mesh");
	ck_assert_str_eq(peer_b.got[0]->resources[0]->name, "mesh");
	peer_subscribe(&peer_a, PUSHED_MESH, NAMES("*"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 2);
	/* the wildcard still covers it: it is said again */
	peer_ask(&peer_a, pushed_type_url(PUSHED_MESH), NULL, NAMES("mesh"), NULL, NULL, NULL);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 3);
	ck_assert_uint_eq(peer_a.got[2]->n_resources, 1);
	/* an answer with empty lists is no wildcard */
	peer_ack(&peer_b, PUSHED_MESH, peer_b.got[0]);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_b.n, 1);
}
END_TEST

START_TEST(wildcard_in_both_lists_subscribes_to_nothing)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	push_put(PUSHED_MESH, "mesh", "m1", NULL);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NAMES("*"), NAMES("*"), NULL, NULL, NULL);
	peer_ask(&peer_a, pushed_type_url(PUSHED_MESH), NAMES("*"), NAMES("*"), NULL, NULL, NULL);
	peer_ask(&peer_b, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, NULL, NULL);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 0);
	ck_assert_uint_eq(peer_b.n, 0);
}
END_TEST

START_TEST(self_is_only_its_own)
{
	push_put_self("shop/orders-1", "mine");
	push_put_self("shop/orders-2", "yours");
	peer_subscribe(&peer_a, PUSHED_SELF, NAMES("self", "shop/orders-2", "?"));
	peer_subscribe(&peer_b, PUSHED_SELF, NAMES("self"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
	ck_assert_uint_eq(peer_a.got[0]->n_resources, 1);
	ck_assert_str_eq(peer_a.got[0]->resources[0]->name, "self");
	ck_assert_str_eq(peer_value(peer_a.got[0], 0), "mine");
	ck_assert(peer_removed(peer_a.got[0], "shop/orders-2") && peer_removed(peer_a.got[0], "?"));
	ck_assert_str_eq(peer_value(peer_b.got[0], 0), "yours");
	push_put_self("shop/orders-2", "yours 2");
	push_remove(peer_push, PUSHED_SELF, "shop/orders-1");
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.got[1]->n_removed_resources, 1);
	ck_assert(peer_removed(peer_a.got[1], "self"));
	ck_assert_uint_eq(peer_b.n, 2);
}
END_TEST

START_TEST(reconnect_gets_only_differences)
{
	push_put(PUSHED_SERVICE, "shop/same", "v1", NAMES("addr:240.0.0.1"));
	push_put(PUSHED_SERVICE, "shop/changed", "v2", NAMES("addr:240.0.0.2"));
	char same[32];
	snprintf(same, sizeof(same), "%s", push_get(peer_push, PUSHED_SERVICE, "shop/same")->version);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NAMES("addr:240.0.0.1", "addr:240.0.0.2", "addr:240.0.0.3"),
		 NULL, NAMES("shop/same", same, "shop/changed", "0123456789abcdef", "shop/gone", "x"), NULL, NULL);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
	ck_assert_uint_eq(peer_a.got[0]->n_resources, 1);
	ck_assert_str_eq(peer_a.got[0]->resources[0]->name, "shop/changed");
	ck_assert_uint_eq(peer_a.got[0]->n_removed_resources, 2);
	ck_assert(peer_removed(peer_a.got[0], "shop/gone") && peer_removed(peer_a.got[0], "addr:240.0.0.3"));
	/* what it has counts as applied */
	struct push_progress n;
	ck_assert(push_progress(peer_push, PUSHED_SERVICE, "shop/same", &n));
	ck_assert_uint_eq(n.holders, 1);
	ck_assert_uint_eq(n.applied, 1);
	/* asked for again later it is sent */
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("addr:240.0.0.1"));
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.got[1]->n_resources, 1);
}
END_TEST

START_TEST(reconnect_without_any_difference_is_silent)
{
	push_put(PUSHED_SERVICE, "shop/same", "v1", NAMES("addr:240.0.0.1"));
	push_put_self("shop/orders-1", "mine");
	char same[32], self[32];
	snprintf(same, sizeof(same), "%s", push_get(peer_push, PUSHED_SERVICE, "shop/same")->version);
	snprintf(self, sizeof(self), "%s", push_get(peer_push, PUSHED_SELF, "shop/orders-1")->version);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NAMES("addr:240.0.0.1", "shop/same"), NULL,
		 NAMES("shop/same", same), NULL, NULL);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SELF), NAMES("self"), NULL, NAMES("self", self), NULL, NULL);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 0);
}
END_TEST

START_TEST(held_on_reconnect_but_not_asked_for_is_removed)
{
	push_put(PUSHED_SERVICE, "shop/old", "v1", NAMES("addr:240.0.0.9"));
	push_put(PUSHED_SERVICE, "shop/new", "v1", NAMES("addr:240.0.0.1"));
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NAMES("addr:240.0.0.1"), NULL, NAMES("shop/old", "x"), NULL,
		 NULL);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.got[0]->n_resources, 1);
	ck_assert_uint_eq(peer_a.got[0]->n_removed_resources, 1);
	ck_assert(peer_removed(peer_a.got[0], "shop/old"));
}
END_TEST

/* Random requests and changes; what the peer knows at the end must be what is there, and nothing may be left over. */
START_TEST(any_order_of_events_ends_in_the_truth)
{
	srand(7);
	static const char *const names[] = {"shop/a",       "shop/b",       "shop/c",
					    "addr:1.0.0.1", "addr:1.0.0.2", "addr:1.0.0.3"};
	static const char *const values[] = {"v1", "v2", "v3"};
	const char *has[3] = {NULL, NULL, NULL}; /* what the peer believes of shop/a .. shop/c */
	char versions[3][32];
	bool subscribed[6] = {false};
	for (int round = 0; round < 4000; round++) {
		int i = rand() % 6, k = rand() % 3;
		switch (rand() % 6) {
		case 0:
		case 1:
			push_put(PUSHED_SERVICE, names[k], values[rand() % 3], NAMES(names[3 + rand() % 3]));
			break;
		case 2:
			push_remove(peer_push, PUSHED_SERVICE, names[k]);
			break;
		case 3:
			peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES(names[i]));
			subscribed[i] = true;
			break;
		case 4:
			push_flush(peer_push); /* so that unsubscribing forgets what the peer has */
			break;
		case 5:
			peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NULL, NAMES(names[i]), NULL, NULL, NULL);
			subscribed[i] = false;
			break;
		}
		if (rand() % 2)
			continue;
		push_flush(peer_push);
		for (size_t m = 0; m < peer_a.n; m++) {
			for (size_t j = 0; j < peer_a.got[m]->n_removed_resources; j++)
				for (int n = 0; n < 3; n++)
					if (strcmp(peer_a.got[m]->removed_resources[j], names[n]) == 0)
						has[n] = NULL;
			for (size_t j = 0; j < peer_a.got[m]->n_resources; j++)
				for (int n = 0; n < 3; n++)
					if (strcmp(peer_a.got[m]->resources[j]->name, names[n]) == 0) {
						snprintf(versions[n], sizeof(versions[n]), "%s",
							 peer_a.got[m]->resources[j]->version);
						has[n] = versions[n];
					}
			peer_ack(&peer_a, PUSHED_SERVICE, peer_a.got[m]);
		}
		peer_forget(&peer_a);
		for (int n = 0; n < 3; n++)
			if (subscribed[n]) {
				const struct pushed *r = push_get(peer_push, PUSHED_SERVICE, names[n]);
				ck_assert_msg(!r == !has[n], "round %d: %s is %s", round, names[n],
					      r ? "missing" : "left");
				if (r)
					ck_assert_str_eq(has[n], r->version);
			}
	}
}
END_TEST

Suite *push_suite(void);
Suite *push_suite(void)
{
	Suite *s = suite_create("push");
	TCase *c = tcase_create("push");
	tcase_add_checked_fixture(c, peer_setup, peer_teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, address_leads_to_canonical_name_with_every_alias);
	tcase_add_test(c, nothing_there_is_said_and_remembered);
	tcase_add_test(c, vanished_resource_is_removed_by_every_name_asked_for);
	tcase_add_test(c, address_that_moves_to_another_service_takes_the_old_one_away);
	tcase_add_test(c, name_claimed_twice_answers_with_the_newest_then_the_older);
	tcase_add_test(c, unchanged_content_is_not_pushed);
	tcase_add_test(c, changes_of_one_turn_go_out_once_with_the_last_state);
	tcase_add_test(c, manifest_goes_last_in_the_turn);
	tcase_add_test(c, asking_again_is_answered_again);
	tcase_add_test(c, unsubscribed_name_is_forgotten_without_an_answer);
	tcase_add_test(c, mesh_answers_to_its_name_to_the_wildcard_and_to_silence);
	tcase_add_test(c, wildcard_in_both_lists_subscribes_to_nothing);
	tcase_add_test(c, self_is_only_its_own);
	tcase_add_test(c, reconnect_gets_only_differences);
	tcase_add_test(c, reconnect_without_any_difference_is_silent);
	tcase_add_test(c, held_on_reconnect_but_not_asked_for_is_removed);
	tcase_add_test(c, any_order_of_events_ends_in_the_truth);
	suite_add_tcase(s, c);
	return s;
}

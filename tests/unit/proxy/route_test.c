/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule of which route a request gets: what matches, and what goes first. */
#include "proxy/route.h"

#include "lib/mem.h"
#include "proxy/snapshot_build.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* --- a table out of lines; each line is a route with one rule of one match that leads to a backend of its own name --- */

/* "name created | path | method | headers | query", as "r1 5 | =/exact | GET | a:1,b:2 | q:1". "^/p" is a prefix. */
struct line {
	Weft__V1__Route route;
	Weft__V1__RouteParent parent, *parents[1];
	Weft__V1__RouteRule rule, *rules[1];
	Weft__V1__RouteMatch match, *matches[1];
	Weft__V1__RouteField fields[2][8], *field_list[2][8];
	Weft__V1__RouteBackend backend, *backends[1];
	char name[64], text[512];
};

static char service_name[] = "shop/orders";
static struct service *backend_of(const char *name, uint16_t port)
{
	struct endpoint_set *set = endpoint_set_new(NULL, 0);
	struct service_port ports[] = {
	    {.port = port, .protocol = PROTOCOL_HTTP, .name = "", .endpoints = set, .endpoints6 = set}};
	struct service like = {.name = name, .version = "v", .n_ports = 1, .ports = ports};
	struct service *s = service_new(&like);
	endpoint_set_unref(&set);
	return s;
}

static size_t fields(char *text, Weft__V1__RouteField *v, Weft__V1__RouteField **list)
{
	size_t n = 0;
	char *save = NULL;
	for (char *one = strtok_r(text, ", ", &save); one; one = strtok_r(NULL, ", ", &save)) {
		char *colon = strchr(one, ':');
		MUST(colon && n < 8);
		*colon = '\0';
		v[n] = (Weft__V1__RouteField)WEFT__V1__ROUTE_FIELD__INIT;
		v[n].name = one;
		v[n].value = colon + 1;
		list[n] = &v[n];
		n++;
	}
	return n;
}

static char *trimmed(char *s)
{
	while (*s == ' ')
		s++;
	size_t n = strlen(s);
	while (n && s[n - 1] == ' ')
		s[--n] = '\0';
	return s;
}

static void read_line(struct line *l, const char *text)
{
	long created = 0;
	char *part[5] = {NULL}, *at = l->text;
	*l = (struct line){.route = WEFT__V1__ROUTE__INIT,
			   .parent = WEFT__V1__ROUTE_PARENT__INIT,
			   .rule = WEFT__V1__ROUTE_RULE__INIT,
			   .match = WEFT__V1__ROUTE_MATCH__INIT,
			   .backend = WEFT__V1__ROUTE_BACKEND__INIT};
	snprintf(l->text, sizeof(l->text), "%s", text);
	for (size_t i = 0; i < 5; i++)
		part[i] = trimmed(strsep(&at, "|"));
	MUST(sscanf(part[0], "%63s %ld", l->name, &created) == 2);
	l->route.name = l->name;
	l->route.created = created;
	l->parent.service = service_name;
	l->parents[0] = &l->parent;
	l->route.parents = l->parents;
	l->route.n_parents = 1;
	l->match.path_type =
	    part[1][0] == '=' ? WEFT__V1__ROUTE_MATCH__PATH_TYPE__EXACT : WEFT__V1__ROUTE_MATCH__PATH_TYPE__PREFIX;
	l->match.path = part[1] + 1;
	l->match.method = part[2];
	l->match.n_headers = fields(part[3], l->fields[0], l->field_list[0]);
	l->match.headers = l->field_list[0];
	l->match.n_query = fields(part[4], l->fields[1], l->field_list[1]);
	l->match.query = l->field_list[1];
	l->matches[0] = &l->match;
	l->rule.matches = l->matches;
	l->rule.n_matches = 1;
	l->backend.service = service_name;
	l->backend.port = 80;
	l->backend.weight = 1;
	l->backends[0] = &l->backend;
	l->rule.backends = l->backends;
	l->rule.n_backends = 1;
	l->rules[0] = &l->rule;
	l->route.rules = l->rules;
	l->route.n_rules = 1;
}

static struct route_table *table_of(const char *const *lines, size_t n)
{
	struct line *l = mem_zalloc(n * sizeof(*l));
	struct route_part *parts = mem_zalloc(n * sizeof(*parts));
	struct service *self = backend_of(service_name, 80);
	for (size_t i = 0; i < n; i++) {
		read_line(&l[i], lines[i]);
		parts[i] = (struct route_part){l[i].name, &l[i].route};
	}
	struct route_table *t = route_table_new(service_name, parts, n, &self, 1);
	service_unref(&self);
	mem_free(parts);
	mem_free(l);
	ck_assert_ptr_nonnull(t);
	return t;
}

/* "GET /path?query name: value; name: value" */
static void read_request(struct message *m, struct arena *a, const char *text)
{
	char copy[1024], *save = NULL;
	snprintf(copy, sizeof(copy), "%s", text);
	message_init(m, a, true);
	char *method = strtok_r(copy, " ", &save), *path = strtok_r(NULL, " ", &save);
	m->method = arena_str(a, str_of(method));
	m->path = arena_str(a, str_of(path));
	m->authority = STR("orders.shop");
	for (char *one = strtok_r(NULL, ";", &save); one; one = strtok_r(NULL, ";", &save)) {
		char *colon = strchr(one, ':');
		MUST(colon);
		*colon = '\0';
		ck_assert(message_add(m, str_of(trimmed(one)), str_of(trimmed(colon + 1)), false));
	}
}

/* The route that gets the request; "404" when none does. */
static void expect(const char *const *lines, size_t n, const char *request, const char *want)
{
	struct arena a;
	struct message m;
	struct route_choice choice;
	struct route_table *t = table_of(lines, n);
	arena_init(&a, SIZE_MAX);
	read_request(&m, &a, request);
	enum reason reason = route_pick(t, 80, &m, 0, &choice);
	const char *got = reason == REASON_NO_ROUTE ? "404" : choice.rule->route;
	ck_assert_msg(strcmp(got, want) == 0, "%s of \"%s\" ...: got %s, want %s", request, lines[0], got, want);
	arena_done(&a);
	route_table_unref(&t);
}

/* --- what matches --- */

static const struct {
	const char *line, *request;
	bool yes;
} match_rows[] = {
    /* prefixes by segment */
    {"r 0 | ^/ | | |", "GET /", true},
    {"r 0 | ^/ | | |", "GET /anything/at/all", true},
    {"r 0 | ^/ | | |", "OPTIONS *", true},
    {"r 0 | ^/foo | | |", "GET /foo", true},
    {"r 0 | ^/foo | | |", "GET /foo/", true},
    {"r 0 | ^/foo | | |", "GET /foo/bar", true},
    {"r 0 | ^/foo | | |", "GET /foo?a=b", true},
    {"r 0 | ^/foo | | |", "GET /foobar", false},
    {"r 0 | ^/foo | | |", "GET /fo", false},
    {"r 0 | ^/foo | | |", "GET /", false},
    {"r 0 | ^/foo | | |", "GET /Foo", false},
    {"r 0 | ^/foo | | |", "GET /x/foo", false},
    {"r 0 | ^/foo | | |", "OPTIONS *", false},
    {"r 0 | ^/foo/ | | |", "GET /foo", true},
    {"r 0 | ^/foo/ | | |", "GET /foo/", true},
    {"r 0 | ^/foo/ | | |", "GET /foo/bar", true},
    {"r 0 | ^/foo/ | | |", "GET /foobar", false},
    {"r 0 | ^/foo/bar | | |", "GET /foo", false},
    {"r 0 | ^/foo/bar | | |", "GET /foo/bar/baz?x", true},
    {"r 0 | ^/foo | | |", "GET /foo%2Fbar", false},
    /* whole paths */
    {"r 0 | =/foo | | |", "GET /foo", true},
    {"r 0 | =/foo | | |", "GET /foo?x=1", true},
    {"r 0 | =/foo | | |", "GET /foo/", false},
    {"r 0 | =/foo | | |", "GET /foo/bar", false},
    {"r 0 | =/foo | | |", "GET /fo", false},
    {"r 0 | =/foo/ | | |", "GET /foo/", true},
    {"r 0 | =/foo/ | | |", "GET /foo", false},
    {"r 0 | =/ | | |", "GET /", true},
    {"r 0 | =/ | | |", "GET /a", false},
    {"r 0 | =/ | | |", "GET /?a=b", true},
    /* methods */
    {"r 0 | ^/ | GET | |", "GET /", true},
    {"r 0 | ^/ | GET | |", "POST /", false},
    {"r 0 | ^/ | GET | |", "get /", false},
    {"r 0 | ^/ | GET | |", "GETX /", false},
    {"r 0 | ^/ | | |", "BREW /", true},
    /* headers */
    {"r 0 | ^/ | | version:2 |", "GET / version: 2", true},
    {"r 0 | ^/ | | version:2 |", "GET / Version: 2", true},
    {"r 0 | ^/ | | Version:2 |", "GET / version: 2", true},
    {"r 0 | ^/ | | version:2 |", "GET / version: 22", false},
    {"r 0 | ^/ | | version:2 |", "GET /", false},
    {"r 0 | ^/ | | version:two |", "GET / version: Two", false},
    {"r 0 | ^/ | | a:1,b:2 |", "GET / b: 2; a: 1", true},
    {"r 0 | ^/ | | a:1,b:2 |", "GET / a: 1", false},
    {"r 0 | ^/ | | a:1 |", "GET / a: 0; a: 1", true},
    {"r 0 | ^/ | | host:orders.shop |", "GET /", true},
    {"r 0 | ^/ | | host:Orders.Shop |", "GET /", true},
    {"r 0 | ^/ | | host:cart.shop |", "GET /", false},
    /* parameters of the query */
    {"r 0 | ^/ | | | animal:whale", "GET /?animal=whale", true},
    {"r 0 | ^/ | | | animal:whale", "GET /?x=1&animal=whale&y", true},
    {"r 0 | ^/ | | | animal:whale", "GET /?animal=whales", false},
    {"r 0 | ^/ | | | animal:whale", "GET /?animal=whal", false},
    {"r 0 | ^/ | | | animal:whale", "GET /?animals=whale", false},
    {"r 0 | ^/ | | | animal:whale", "GET /?Animal=whale", false},
    {"r 0 | ^/ | | | animal:whale", "GET /", false},
    {"r 0 | ^/ | | | animal:whale", "GET /?", false},
    {"r 0 | ^/ | | | animal:whale", "GET /?animal=dolphin&animal=whale", false},
    {"r 0 | ^/ | | | animal:whale", "GET /?animal=%77h%61le", true},
    {"r 0 | ^/ | | | animal:", "GET /?animal", true},
    {"r 0 | ^/ | | | animal:", "GET /?animal=", true},
    {"r 0 | ^/ | | | a:1,b:2", "GET /?b=2&a=1", true},
    {"r 0 | ^/ | | | a:1,b:2", "GET /?a=1", false},
    {"r 0 | ^/ | | | a:%", "GET /?a=%", true},
    {"r 0 | ^/ | | | a:%4", "GET /?a=%4", true},
    {"r 0 | ^/ | | | a:%zz", "GET /?a=%zz", true},
    {"r 0 | ^/ | | | a:b=c", "GET /?a=b=c", true},
    /* all at once */
    {"r 0 | ^/v2 | POST | tier:gold | beta:1", "POST /v2/x?beta=1 tier: gold", true},
    {"r 0 | ^/v2 | POST | tier:gold | beta:1", "POST /v2/x tier: gold", false},
    {"r 0 | ^/v2 | POST | tier:gold | beta:1", "GET /v2/x?beta=1 tier: gold", false},
    {"r 0 | ^/v2 | POST | tier:gold | beta:1", "POST /v3/x?beta=1 tier: gold", false},
};

START_TEST(a_request_matches_what_is_said_and_nothing_else)
{
	const char *lines[] = {match_rows[_i].line};
	expect(lines, 1, match_rows[_i].request, match_rows[_i].yes ? "r" : "404");
}
END_TEST

/* --- what goes first --- */

#define LINES_MAX 4
static const struct {
	const char *lines[LINES_MAX], *request, *want;
} first_rows[] = {
    {{"prefix 0 | ^/a/b | GET | x:1 | q:1", "exact 9 | =/a/b | | |"}, "GET /a/b?q=1 x: 1", "exact"},
    {{"short 0 | ^/a | GET | x:1 | q:1", "long 9 | ^/a/b | | |"}, "GET /a/b?q=1 x: 1", "long"},
    {{"all 0 | ^/ | GET | |", "a 9 | ^/a | | |"}, "GET /a", "a"},
    {{"any 0 | ^/a | | x:1,y:2 | q:1", "method 9 | ^/a | GET | |"}, "GET /a?q=1 x: 1; y: 2", "method"},
    {{"one 0 | ^/a | | x:1 | q:1", "two 9 | ^/a | | x:1,y:2 |"}, "GET /a?q=1 x: 1; y: 2", "two"},
    {{"none 0 | ^/a | | |", "query 9 | ^/a | | | q:1"}, "GET /a?q=1", "query"},
    {{"one 0 | ^/a | | | q:1", "two 9 | ^/a | | | q:1,r:2"}, "GET /a?q=1&r=2", "two"},
    {{"young 9 | ^/a | | |", "old 1 | ^/a | | |"}, "GET /a", "old"},
    {{"b 1 | ^/a | | |", "a 1 | ^/a | | |"}, "GET /a", "a"},
    {{"a 9 | ^/a | | |", "b 1 | ^/a/ | | |"}, "GET /a", "b"},
    /* the first in the order that does not match leaves it to the next */
    {{"exact 0 | =/a | POST | |", "prefix 0 | ^/a | | |", "all 0 | ^/ | | |"}, "GET /a", "prefix"},
    {{"exact 0 | =/a | | x:1 |", "prefix 0 | ^/a | | x:2 |", "all 0 | ^/ | | |"}, "GET /a", "all"},
    {{"v2 0 | ^/ | | version:2 |", "v1 0 | ^/ | | |"}, "GET /", "v1"},
    {{"v2 0 | ^/ | | version:2 |", "v1 0 | ^/ | | |"}, "GET / version: 2", "v2"},
    {{"a 0 | =/a | | |", "b 0 | =/b | | |"}, "GET /c", "404"},
};

START_TEST(the_more_specific_goes_first_in_whatever_order_they_come)
{
	const char *lines[LINES_MAX], *back[LINES_MAX];
	size_t n = 0;
	while (n < LINES_MAX && first_rows[_i].lines[n])
		n++;
	for (size_t i = 0; i < n; i++) {
		lines[i] = first_rows[_i].lines[i];
		back[n - 1 - i] = lines[i];
	}
	expect(lines, n, first_rows[_i].request, first_rows[_i].want);
	expect(back, n, first_rows[_i].request, first_rows[_i].want);
}
END_TEST

/* --- rules, weights, ports --- */

/* A route with one rule that has no match. */
struct plain {
	Weft__V1__Route route;
	Weft__V1__RouteParent parent, *parents[1];
	Weft__V1__RouteRule rule, *rules[1];
	Weft__V1__RouteBackend backend[4], *backends[4];
};

static void plain_init(struct plain *p, uint16_t port)
{
	*p = (struct plain){
	    .route = WEFT__V1__ROUTE__INIT, .parent = WEFT__V1__ROUTE_PARENT__INIT, .rule = WEFT__V1__ROUTE_RULE__INIT};
	p->parent.service = service_name;
	p->parent.port = port;
	p->parents[0] = &p->parent;
	p->route.parents = p->parents;
	p->route.n_parents = 1;
	p->rules[0] = &p->rule;
	p->route.rules = p->rules;
	p->route.n_rules = 1;
	p->rule.backends = p->backends;
}

static void plain_backend(struct plain *p, const char *service, uint32_t port, uint32_t weight)
{
	size_t i = p->rule.n_backends++;
	p->backend[i] = (Weft__V1__RouteBackend)WEFT__V1__ROUTE_BACKEND__INIT;
	p->backend[i].service = (char *)(uintptr_t)service;
	p->backend[i].port = port;
	p->backend[i].weight = weight;
	p->backends[i] = &p->backend[i];
}

static struct route_table *plain_table(const struct plain *p, struct service *const *backends, size_t n)
{
	struct route_part part = {"shop/r", &p->route};
	return route_table_new(service_name, &part, 1, backends, n);
}

static enum reason pick(const struct route_table *t, uint16_t port, uint32_t random, struct route_choice *ret)
{
	struct message m = {.request = true, .method = STR("GET"), .path = STR("/")};
	return route_pick(t, port, &m, random, ret);
}

START_TEST(backends_get_their_share_of_the_random_numbers)
{
	struct plain p;
	struct route_choice choice;
	struct service *v[] = {backend_of("shop/v1", 80), backend_of("shop/v2", 80), backend_of("shop/v3", 80)};
	unsigned got[3] = {0};
	plain_init(&p, 0);
	plain_backend(&p, "shop/v1", 80, 70);
	plain_backend(&p, "shop/v3", 80, 0);
	plain_backend(&p, "shop/v2", 80, 30);
	struct route_table *t = plain_table(&p, v, 3);
	for (uint32_t i = 0; i < 10000; i++) {
		ck_assert_int_eq(pick(t, 80, (uint32_t)(((uint64_t)i << 32) / 10000), &choice), REASON_NONE);
		for (size_t k = 0; k < 3; k++)
			got[k] += choice.backend->service == v[k];
	}
	ck_assert_msg(got[0] >= 6999 && got[0] <= 7001, "%u", got[0]);
	ck_assert_uint_eq(got[2], 0);
	ck_assert_uint_eq(got[0] + got[1], 10000);
	ck_assert_int_eq(pick(t, 80, UINT32_MAX, &choice), REASON_NONE);
	ck_assert_ptr_eq(choice.backend->service, v[1]);
	route_table_unref(&t);
	for (size_t i = 0; i < 3; i++)
		service_unref(&v[i]);
}
END_TEST

START_TEST(no_backend_none_with_weight_or_a_missing_one_is_an_error_of_the_route)
{
	struct route_choice choice;
	struct service *v[] = {backend_of("shop/v1", 80)};
	for (unsigned i = 0; i < 5; i++) {
		struct plain p;
		plain_init(&p, 0);
		if (i == 1)
			plain_backend(&p, "shop/v1", 80, 0);
		if (i == 2)
			plain_backend(&p, "shop/other", 80, 1);
		if (i == 3)
			plain_backend(&p, "shop/v1", 81, 1);
		if (i == 4) {
			plain_backend(&p, "shop/v1", 80, 1);
			p.backend[0].missing = true;
		}
		struct route_table *t = plain_table(&p, v, 1);
		ck_assert_int_eq(pick(t, 80, 7, &choice), REASON_NO_BACKEND);
		ck_assert_str_eq(choice.rule->route, "shop/r");
		route_table_unref(&t);
	}
	/* A missing one gets its share, and only that. */
	struct plain p;
	plain_init(&p, 0);
	plain_backend(&p, "shop/gone", 80, 1);
	plain_backend(&p, "shop/v1", 80, 1);
	struct route_table *t = plain_table(&p, v, 1);
	ck_assert_int_eq(pick(t, 80, 0x7fffffff, &choice), REASON_NO_BACKEND);
	ck_assert_int_eq(pick(t, 80, 0x80000000, &choice), REASON_NONE);
	route_table_unref(&t);
	service_unref(&v[0]);
}
END_TEST

START_TEST(a_route_for_one_port_leaves_the_others_alone)
{
	struct plain p;
	struct route_choice choice;
	struct service *v[] = {backend_of("shop/v1", 80)};
	plain_init(&p, 81);
	plain_backend(&p, "shop/v1", 80, 1);
	struct route_table *t = plain_table(&p, v, 1);
	ck_assert_int_eq(pick(t, 80, 0, &choice), REASON_NONE);
	ck_assert_ptr_null(choice.rule);
	ck_assert_int_eq(pick(t, 81, 0, &choice), REASON_NONE);
	ck_assert_ptr_eq(choice.backend->service, v[0]);
	ck_assert(route_has_port(t, 81) && !route_has_port(t, 80));
	ck_assert_int_eq(pick(NULL, 80, 0, &choice), REASON_NONE);
	ck_assert(!route_has_port(NULL, 80));
	route_table_unref(&t);
	service_unref(&v[0]);
}
END_TEST

START_TEST(a_table_outlives_what_it_was_made_of_and_none_is_made_of_nothing)
{
	struct plain p;
	struct route_choice choice;
	struct service *v[] = {backend_of("shop/v1", 80)};
	plain_init(&p, 0);
	plain_backend(&p, "shop/v1", 80, 1);
	struct route_table *t = plain_table(&p, v, 1), *same = route_table_ref(t);
	service_unref(&v[0]);
	route_table_unref(&t);
	ck_assert_int_eq(pick(same, 80, 0, &choice), REASON_NONE);
	ck_assert_str_eq(choice.backend->service->name, "shop/v1");
	route_table_unref(&same);
	char other[] = "shop/other";
	p.parent.service = other;
	ck_assert_ptr_null(plain_table(&p, NULL, 0));
}
END_TEST

Suite *route_suite(void);
Suite *route_suite(void)
{
	Suite *s = suite_create("route");
	TCase *t = tcase_create("pick");
	tcase_add_loop_test(t, a_request_matches_what_is_said_and_nothing_else, 0, (int)ARRAY_LEN(match_rows));
	tcase_add_loop_test(t, the_more_specific_goes_first_in_whatever_order_they_come, 0, (int)ARRAY_LEN(first_rows));
	tcase_add_test(t, backends_get_their_share_of_the_random_numbers);
	tcase_add_test(t, no_backend_none_with_weight_or_a_missing_one_is_an_error_of_the_route);
	tcase_add_test(t, a_route_for_one_port_leaves_the_others_alone);
	tcase_add_test(t, a_table_outlives_what_it_was_made_of_and_none_is_made_of_nothing);
	suite_add_tcase(s, t);
	return s;
}

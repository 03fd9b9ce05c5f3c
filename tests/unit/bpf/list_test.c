/* SPDX-License-Identifier: Apache-2.0 */
/* list_test.c: what may be captured in the machine's own network namespace, by explicit list only. */
#include "bpf/list.c"

#include <check.h>
#include <stdio.h>

Suite *list_suite(void);

#define HOST "the kernel's first one"

static struct spec spec;
static struct err err;

static struct spec *with(uint16_t port, uint32_t bits)
{
	memset(&spec, 0, sizeof(spec));
	snprintf(spec.ns, sizeof(spec.ns), "default");
	snprintf(spec.name, sizeof(spec.name), "a");
	if (port)
		spec.ports[spec.n_ports++] = (struct spec_port){port, bits};
	return &spec;
}

static void add_cidr(const char *text, uint32_t dir)
{
	struct spec_cidr *c = &spec.cidrs[spec.n_cidrs++];

	c->dir = dir;
	ck_assert(cidr_parse(str_of(text), &c->cidr));
}

static void refuses(const struct spec *s, const char *host, const char *part)
{
	memset(&err, 0, sizeof(err));
	ck_assert(!list_check(s, host, &err));
	ck_assert_msg(strstr(err.text, part) != NULL, "\"%s\" is not in \"%s\"", part, err.text);
}

START_TEST(a_host_needs_a_port_in_one_direction)
{
	refuses(with(0, 0), HOST, "none is listed");
	refuses(with(0, 0), HOST, HOST);
	refuses(with(80, WEFT_PORT_EXCLUDE_IN | WEFT_PORT_EXCLUDE_OUT), HOST, "none is listed");
	ck_assert(list_check(with(80, WEFT_PORT_DECLARED), HOST, &err));
	ck_assert(list_check(with(80, WEFT_PORT_LIST_OUT), HOST, &err));
}
END_TEST

START_TEST(ssh_and_the_ports_of_weft_are_never_on_the_list)
{
	static const uint16_t ports[] = {22, 4806, 4810, 4811, 4814, 4820, 4830, 4837};

	for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
		refuses(with(ports[i], WEFT_PORT_DECLARED), HOST, "--ports: ");
		refuses(with(ports[i], WEFT_PORT_LIST_OUT), HOST, "--capture-out-ports: ");
		ck_assert_msg(list_check(with(ports[i], WEFT_PORT_DECLARED), NULL, &err), "%u, elsewhere", ports[i]);
	}
	ck_assert(list_check(with(4838, WEFT_PORT_DECLARED), HOST, &err));
	refuses(with(22, WEFT_PORT_DECLARED | WEFT_PORT_LIST_OUT), HOST, "remote logins (SSH)");
	ck_assert_int_eq(err.code, ERR_INVALID);
}
END_TEST

START_TEST(the_control_planes_own_port_is_not_on_the_list_either)
{
	with(9000, WEFT_PORT_LIST_OUT);
	ck_assert(list_check(&spec, HOST, &err));
	spec.control[spec.n_control++].port = 9000;
	refuses(&spec, HOST, "weftd (--control)");
}
END_TEST

START_TEST(prefixes_narrow_ports_and_do_not_stand_alone)
{
	with(80, WEFT_PORT_DECLARED);
	add_cidr("10.0.0.0/8", WEFT_DIR_LIST_OUT);
	refuses(&spec, HOST, "--capture-out-ports, which is missing");
	with(80, WEFT_PORT_LIST_OUT);
	add_cidr("10.0.0.0/8", WEFT_DIR_LIST_OUT);
	ck_assert(list_check(&spec, HOST, &err));
}
END_TEST

START_TEST(a_workloads_own_namespace_takes_no_list_and_no_deadline)
{
	ck_assert(list_check(with(0, 0), NULL, &err));
	refuses(with(80, WEFT_PORT_LIST_OUT), NULL, "in this one everything is captured");
	with(0, 0);
	add_cidr("10.0.0.0/8", WEFT_DIR_LIST_OUT);
	refuses(&spec, NULL, "in this one everything is captured");
	with(80, WEFT_PORT_DECLARED)->undo_s = 60;
	refuses(&spec, NULL, "--undo-after");
	ck_assert_int_eq(err.code, ERR_UNSUPPORTED);
}
END_TEST

START_TEST(the_sum_knows_every_change_and_no_order)
{
	uint64_t sums[9], forth, back;
	size_t n = 0;

	sums[n++] = list_sum(with(80, WEFT_PORT_DECLARED));
	sums[n++] = list_sum(with(81, WEFT_PORT_DECLARED));
	sums[n++] = list_sum(with(80, WEFT_PORT_LIST_OUT));
	sums[n++] = list_sum(with(80, WEFT_PORT_DECLARED | WEFT_PORT_LIST_OUT));
	add_cidr("10.0.0.0/8", WEFT_DIR_LIST_OUT);
	sums[n++] = list_sum(&spec);
	spec.cidrs[0].dir = WEFT_DIR_OUT;
	sums[n++] = list_sum(&spec);
	spec.cidrs[0].cidr.bits = 16;
	sums[n++] = list_sum(&spec);
	snprintf(spec.name, sizeof(spec.name), "b");
	sums[n++] = list_sum(&spec);
	snprintf(spec.ns, sizeof(spec.ns), "shop");
	sums[n++] = list_sum(&spec);
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < i; j++)
			ck_assert_msg(sums[i] != sums[j], "%zu and %zu", i, j);
	}
	with(80, WEFT_PORT_DECLARED)->ports[spec.n_ports++] = (struct spec_port){90, WEFT_PORT_LIST_OUT};
	forth = list_sum(&spec);
	with(90, WEFT_PORT_LIST_OUT)->ports[spec.n_ports++] = (struct spec_port){80, WEFT_PORT_DECLARED};
	back = list_sum(&spec);
	ck_assert(forth == back);
}
END_TEST

Suite *list_suite(void)
{
	Suite *s = suite_create("list");
	TCase *t = tcase_create("list");

	tcase_add_test(t, a_host_needs_a_port_in_one_direction);
	tcase_add_test(t, ssh_and_the_ports_of_weft_are_never_on_the_list);
	tcase_add_test(t, the_control_planes_own_port_is_not_on_the_list_either);
	tcase_add_test(t, prefixes_narrow_ports_and_do_not_stand_alone);
	tcase_add_test(t, a_workloads_own_namespace_takes_no_list_and_no_deadline);
	tcase_add_test(t, the_sum_knows_every_change_and_no_order);
	suite_add_tcase(s, t);
	return s;
}

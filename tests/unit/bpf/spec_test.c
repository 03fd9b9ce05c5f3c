/* SPDX-License-Identifier: Apache-2.0 */
/* spec_test.c: what an operator writes on weft-capture's command line, taken or refused with its name. */
#include "bpf/options.c"
#include "bpf/spec.c"

#include <check.h>
#include <stdarg.h>

Suite *spec_suite(void);

static struct spec spec;
static struct err err;

/* Parses a command line as `weft-capture exec` does. */
static bool given(const char *first, ...)
{
	char *argv[32] = {NULL};
	struct options o;
	va_list ap;
	size_t n = 0;

	va_start(ap, first);
	for (const char *a = first; a; a = va_arg(ap, const char *))
		argv[n++] = (char *)a;
	va_end(ap);
	memset(&spec, 0, sizeof(spec));
	memset(&err, 0, sizeof(err));
	return options_parse(argv, 'E', &o, &err) && spec_read(&o, &spec, &err);
}

static uint32_t port_bits(uint16_t port)
{
	for (size_t i = 0; i < spec.n_ports; i++) {
		if (spec.ports[i].port == port)
			return spec.ports[i].bits;
	}
	return 0;
}

static void refuses(const char *part)
{
	ck_assert_msg(strstr(err.text, part) != NULL, "\"%s\" is not in \"%s\"", part, err.text);
}

START_TEST(ports_of_all_options_meet_in_one_row)
{
	ck_assert(given("--name", "a", "--ports", "80/http, 443,", "--exclude-in-ports=80,90-92", "--exclude-out-ports",
			"80", NULL));
	ck_assert_uint_eq(spec.n_ports, 5);
	ck_assert_uint_eq(port_bits(80), WEFT_PORT_DECLARED | WEFT_PORT_EXCLUDE_IN | WEFT_PORT_EXCLUDE_OUT);
	ck_assert_uint_eq(port_bits(443), WEFT_PORT_DECLARED);
	ck_assert_uint_eq(port_bits(92), WEFT_PORT_EXCLUDE_IN);
}
END_TEST

START_TEST(impossible_ports_are_refused_by_name)
{
	static const char *const bad[] = {
	    "0", "65536", "-1", "80-", "-80", "90-80", "80-70000", "8o", "80 81", "+80", "99999999999999999999"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(!given("--name", "a", "--exclude-out-ports", bad[i], NULL), "%s was taken", bad[i]);
		refuses("--exclude-out-ports");
	}
	ck_assert(!given("--name", "a", "--ports", "80/", NULL));
	ck_assert(!given("--name", "a", "--ports", "80/HT TP", NULL));
	ck_assert(!given("--name", "a", "--ports", "80-90", NULL));
}
END_TEST

START_TEST(ranges_end_at_the_limit_and_say_so)
{
	ck_assert(given("--name", "a", "--exclude-in-ports", "1-4096", NULL));
	ck_assert_uint_eq(spec.n_ports, SPEC_PORTS_MAX);
	ck_assert(!given("--name", "a", "--exclude-in-ports", "1-65535", NULL));
	refuses("more than 4096 ports");
}
END_TEST

START_TEST(prefixes_and_single_addresses_of_both_families)
{
	ck_assert(given("--name", "a", "--exclude-out-cidrs", "10.0.0.0/8,fd00::/8,::ffff:1.2.3.4",
			"--exclude-in-cidrs", "1.2.3.4", NULL));
	ck_assert_uint_eq(spec.n_cidrs, 4);
	ck_assert(spec.cidrs[0].dir == WEFT_DIR_IN && spec.cidrs[0].cidr.bits == 32 && spec.cidrs[0].cidr.ip.len == 4);
	ck_assert(spec.cidrs[1].dir == WEFT_DIR_OUT && spec.cidrs[1].cidr.bits == 8);
	ck_assert(spec.cidrs[2].cidr.ip.len == 16);
	ck_assert_msg(spec.cidrs[3].cidr.ip.len == 4 && spec.cidrs[3].cidr.bits == 32, "v4-mapped is IPv4");
}
END_TEST

START_TEST(impossible_prefixes_are_refused)
{
	static const char *const bad[] = {"10.0.0.1/8",  "10.0.0.0/33",  "fd00::/129", "10.0.0/8",
					  "example.com", "fe80::1%eth0", "/8"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(!given("--name", "a", "--exclude-in-cidrs", bad[i], NULL), "%s was taken", bad[i]);
		refuses("--exclude-in-cidrs");
	}
}
END_TEST

START_TEST(the_control_plane_is_a_list_of_hosts_with_ports)
{
	ck_assert(given("--name", "a", "--control", "10.0.0.1:4810,[fd00::1]:4811", NULL));
	ck_assert_uint_eq(spec.n_control, 2);
	ck_assert(spec.control[0].ip.len == 4 && spec.control[0].port == 4810);
	ck_assert(spec.control[1].ip.len == 16 && spec.control[1].port == 4811);
	static const char *const bad[] = {"10.0.0.1",     ":4810", "10.0.0.1:",     "10.0.0.1:0",
					  "fd00::1:4810", "[]:1",  "10.0.0.1:65536"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(!given("--name", "a", "--control", bad[i], NULL), "%s was taken", bad[i]);
		refuses("--control");
	}
}
END_TEST

START_TEST(a_workload_has_a_name_that_can_be_a_folder)
{
	static const char *const bad[] = {
	    "", "A", "a/b", "..", "-a", "a_b", "0123456789012345678901234567890123456789012345678901234567890123"};

	ck_assert(!given("--ports", "80", NULL));
	refuses("--name is missing");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!given("--name", bad[i], NULL), "%s was taken", bad[i]);
	ck_assert(given("--name", "012345678901234567890123456789012345678901234567890123456789012", "--namespace",
			"012345678901234567890123456789012345678901234567890123456789012", NULL));
	ck_assert_uint_eq(strlen(spec.instance), 127);
}
END_TEST

START_TEST(an_option_wins_over_its_environment_and_that_over_the_default)
{
	ck_assert(given("--name", "a", NULL));
	ck_assert_str_eq(spec.ns, "default");
	setenv("WEFT_NAMESPACE", "shop", 1);
	ck_assert(given("--name", "a", NULL));
	ck_assert_str_eq(spec.instance, "shop-a");
	ck_assert(given("--name=a", "--namespace=bank", NULL));
	ck_assert_str_eq(spec.instance, "bank-a");
	setenv("WEFT_NAMESPACE", "", 1);
	ck_assert(given("--name", "a", NULL));
	ck_assert_str_eq(spec.ns, "default");
	unsetenv("WEFT_NAMESPACE");
}
END_TEST

START_TEST(unknown_and_unfinished_options_are_refused)
{
	ck_assert(!given("--nam", "a", NULL));
	refuses("--nam: no such option");
	ck_assert(!given("--all", NULL)); /* another command's */
	ck_assert(!given("-x", NULL));
	ck_assert(!given("--name", NULL));
	refuses("--name: NAME is missing");
}
END_TEST

START_TEST(the_command_begins_behind_two_dashes_or_at_the_first_word)
{
	char *dashes[] = {"--name", "a", "--", "--prog", "-o", NULL},
	     *word[] = {"--name", "a", "prog", "--name", "b", NULL};
	struct options o;

	ck_assert(options_parse(dashes, 'E', &o, &err));
	ck_assert_str_eq(o.rest[0], "--prog");
	ck_assert(options_parse(word, 'E', &o, &err));
	ck_assert_str_eq(o.rest[0], "prog");
	ck_assert_str_eq(o.v[OPT_NAME], "a");
}
END_TEST

START_TEST(what_a_host_captures_outbound_is_listed_like_an_exclusion)
{
	ck_assert(given("--name", "a", "--ports", "80/http", "--capture-out-ports", "80,9000-9002",
			"--capture-out-cidrs", "10.0.0.0/8,fd00::1", NULL));
	ck_assert_uint_eq(port_bits(80), WEFT_PORT_DECLARED | WEFT_PORT_LIST_OUT);
	ck_assert_uint_eq(port_bits(9002), WEFT_PORT_LIST_OUT);
	ck_assert_uint_eq(spec.n_cidrs, 2);
	ck_assert(spec.cidrs[0].dir == WEFT_DIR_LIST_OUT && spec.cidrs[1].cidr.bits == 128);
	ck_assert(!given("--name", "a", "--capture-out-ports", "0", NULL));
	refuses("--capture-out-ports");
	ck_assert(!given("--name", "a", "--capture-out-cidrs", "10.0.0.1/8", NULL));
	refuses("--capture-out-cidrs");
}
END_TEST

START_TEST(the_deadline_is_seconds_within_bounds)
{
	static const char *const bad[] = {"0", "4", "3601", "-5", "60s", "1m", "5.5", "18446744073709551617"};

	ck_assert(given("--name", "a", NULL));
	ck_assert_uint_eq(spec.undo_s, 0);
	ck_assert(given("--name", "a", "--undo-after", "5", NULL));
	ck_assert_uint_eq(spec.undo_s, 5);
	ck_assert(given("--name", "a", "--undo-after=3600", NULL));
	ck_assert_uint_eq(spec.undo_s, 3600);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(!given("--name", "a", "--undo-after", bad[i], NULL), "%s was taken", bad[i]);
		refuses("--undo-after");
	}
}
END_TEST

START_TEST(confirm_takes_who_it_is_and_nothing_of_what_is_captured)
{
	char *good[] = {"--all", "--name", "a", "--namespace", "shop", NULL}, *bad[] = {"--ports", "80", NULL};
	struct options o;

	ck_assert(options_parse(good, 'F', &o, &err));
	ck_assert_str_eq(o.v[OPT_NAME], "a");
	ck_assert_ptr_nonnull(o.v[OPT_ALL]);
	ck_assert(!options_parse(bad, 'F', &o, &err));
}
END_TEST

Suite *spec_suite(void)
{
	Suite *s = suite_create("spec");
	TCase *t = tcase_create("spec");

	tcase_add_test(t, ports_of_all_options_meet_in_one_row);
	tcase_add_test(t, impossible_ports_are_refused_by_name);
	tcase_add_test(t, ranges_end_at_the_limit_and_say_so);
	tcase_add_test(t, prefixes_and_single_addresses_of_both_families);
	tcase_add_test(t, impossible_prefixes_are_refused);
	tcase_add_test(t, the_control_plane_is_a_list_of_hosts_with_ports);
	tcase_add_test(t, a_workload_has_a_name_that_can_be_a_folder);
	tcase_add_test(t, an_option_wins_over_its_environment_and_that_over_the_default);
	tcase_add_test(t, unknown_and_unfinished_options_are_refused);
	tcase_add_test(t, the_command_begins_behind_two_dashes_or_at_the_first_word);
	tcase_add_test(t, what_a_host_captures_outbound_is_listed_like_an_exclusion);
	tcase_add_test(t, the_deadline_is_seconds_within_bounds);
	tcase_add_test(t, confirm_takes_who_it_is_and_nothing_of_what_is_captured);
	suite_add_tcase(s, t);
	return s;
}

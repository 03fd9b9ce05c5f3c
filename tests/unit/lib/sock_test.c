/* SPDX-License-Identifier: Apache-2.0 */
/* sock_test.c: addresses as text, listening sockets, and the listener on them. */
#include "lib/listener.h"
#include "lib/sock.h"

#include <check.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

START_TEST(addresses_are_read_and_written)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
	    {"1.2.3.4:80", "1.2.3.4:80"},
	    {"[::1]:65535", "[::1]:65535"},
	    {"[::ffff:10.0.0.1]:1", "10.0.0.1:1"},
	    {"[2001:db8::]:0", "[2001:db8::]:0"},
	};
	static const char *const bad[] = {
	    "",      "1.2.3.4", "1.2.3.4:",     "1.2.3.4:65536", "01.2.3.4:1", "1.2.3:1",    "::1:80",
	    "[::1]", "[::1]80", "[1.2.3.4]:80", "[::1%lo]:80",   "a:1",        "1.2.3.4:+1", "[]:1"};
	char text[ADDR_TEXT_MAX];
	struct sockaddr_storage sa;
	struct addr a, back;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ck_assert(addr_parse(str_of(rows[i].in), &a));
		ck_assert_str_eq(addr_text(&a, text), rows[i].out);
		addr_to_sockaddr(&a, &sa);
		addr_from_sockaddr((struct sockaddr *)&sa, &back);
		ck_assert(addr_eq(&a, &back));
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!addr_parse(str_of(bad[i]), &a), "%s", bad[i]);
	ck_assert_str_eq(addr_text(&(struct addr){0}, text), "-");
}
END_TEST

START_TEST(networks_hold_their_addresses)
{
	static const char *const bad[] = {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0", "::/129", "fd00::1/64", "10.0.0.0/"};
	struct cidr c;
	struct ip in, out;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!cidr_parse(str_of(bad[i]), &c), "%s", bad[i]);
	ck_assert(cidr_parse(STR("10.96.0.0/12"), &c) && ip_parse(STR("10.111.255.255"), &in) &&
		  ip_parse(STR("10.112.0.0"), &out));
	ck_assert(cidr_has(&c, &in) && !cidr_has(&c, &out));
	ck_assert(cidr_parse(STR("::ffff:10.0.0.0/104"), &c) && c.bits == 8 && cidr_has(&c, &in));
	ck_assert(cidr_parse(STR("0.0.0.0/0"), &c) && cidr_has(&c, &in));
	ck_assert(ip_parse(STR("::1"), &out) && !cidr_has(&c, &out) && ip_is_loopback(&out) && !ip_is_loopback(&in));
	ck_assert(cidr_parse(STR("::1/128"), &c) && cidr_has(&c, &out));
}
END_TEST

START_TEST(a_unix_socket_replaces_a_stale_one_only)
{
	char path[] = "/tmp/weft-unit-XXXXXX", long_path[200];
	struct err err;
	struct stat st;

	ck_assert_ptr_nonnull(mkdtemp(path));
	char sock[64];
	snprintf(sock, sizeof(sock), "%s/s", path);
	int fd = sock_listen_unix(sock, &err);
	ck_assert_msg(fd >= 0, "%s", err.text);
	ck_assert_int_eq(stat(sock, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(sock_listen_unix(sock, &err), -1);
	ck_assert_int_eq(err.code, ERR_EXISTS);
	close(fd); /* stale now */
	fd = sock_listen_unix(sock, &err);
	ck_assert_msg(fd >= 0, "%s", err.text);
	close(fd);
	unlink(sock);
	close(open(sock, O_CREAT | O_WRONLY, 0600));
	ck_assert_int_eq(sock_listen_unix(sock, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "not a socket"));
	unlink(sock);
	rmdir(path);
	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = 0;
	ck_assert_int_eq(sock_listen_unix(long_path, &err), -1);
	ck_assert_int_eq(err.code, ERR_INVALID);
}
END_TEST

/* --- the listener --- */

static int option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int v = -1;
	getsockopt(fd, level, name, &v, &len);
	return v;
}

START_TEST(a_tuned_connection_has_no_nagle_and_finds_the_dead)
{
	int tcp = socket(AF_INET, SOCK_STREAM, 0), local = socket(AF_UNIX, SOCK_STREAM, 0);
	sock_tune(tcp);
	ck_assert_int_eq(option(tcp, IPPROTO_TCP, TCP_NODELAY), 1);
	ck_assert_int_eq(option(tcp, SOL_SOCKET, SO_KEEPALIVE), 1);
	ck_assert_int_eq(option(tcp, IPPROTO_TCP, TCP_KEEPIDLE) +
			     option(tcp, IPPROTO_TCP, TCP_KEEPINTVL) * option(tcp, IPPROTO_TCP, TCP_KEEPCNT),
			 SOCK_DEAD_S);
	ck_assert_int_eq(option(tcp, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
	sock_tune(local);
	ck_assert_int_eq(option(local, SOL_SOCKET, SO_KEEPALIVE), 0);
	close(tcp);
	close(local);
}
END_TEST

static struct loop *loop;
static struct listener *l;
static unsigned accepted;
static int last = -1;
static bool free_at_first;

static void on_accept(void *ctx, int fd)
{
	accepted++;
	ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_NODELAY), 1); /* tuned, as the listener is */
	ck_assert_int_eq(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPIDLE) +
			     option(fd, IPPROTO_TCP, TCP_KEEPINTVL) * option(fd, IPPROTO_TCP, TCP_KEEPCNT),
			 SOCK_DEAD_S);
	close(last);
	last = fd;
	if (free_at_first)
		listener_free(&l);
}

static void on_stop(struct timer *t)
{
	loop_stop(loop);
}

static void run_for(uint64_t ms)
{
	struct timer t;

	timer_init(&t, loop, on_stop);
	timer_start(&t, ms);
	loop_run(loop);
}

static void connect_some(struct addr *at, int *fds, size_t n)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(at, &sa);

	for (size_t i = 0; i < n; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		ck_assert_int_eq(connect(fds[i], (struct sockaddr *)&sa, len), 0);
	}
}

static void start(struct addr *at)
{
	struct err err;

	loop = loop_new(&err);
	ck_assert(addr_parse(STR("127.0.0.1:0"), at));
	int fd = sock_listen_tcp(at, false, 256, &err);
	ck_assert(fd >= 0 && sock_local(fd, at));
	struct err in_use;
	ck_assert_int_eq(sock_listen_tcp(at, false, 1, &in_use), -1);
	ck_assert_ptr_nonnull(strstr(in_use.text, "cannot bind 127.0.0.1:"));
	accepted = 0;
	l = listener_new(loop, fd, on_accept, NULL);
}

START_TEST(a_listener_accepts_all_but_not_while_paused)
{
	struct addr at;
	int fds[100];

	start(&at);
	connect_some(&at, fds, 100);
	listener_pause(l, true);
	run_for(20);
	ck_assert_uint_eq(accepted, 0);
	listener_pause(l, false);
	run_for(50);
	ck_assert_uint_eq(accepted, 100);
	listener_free(&l);
	loop_free(&loop);
}
END_TEST

START_TEST(a_listener_may_be_freed_by_its_callback)
{
	struct addr at;
	int fds[3];

	start(&at);
	connect_some(&at, fds, 3);
	free_at_first = true;
	run_for(20);
	ck_assert_uint_eq(accepted, 1);
	ck_assert_ptr_null(l);
	loop_free(&loop);
}
END_TEST

START_TEST(out_of_descriptors_accepting_pauses_and_recovers)
{
	struct addr at;
	struct rlimit had, none;
	int fds[2];

	start(&at);
	connect_some(&at, fds, 2);
	run_for(1); /* libev has its own descriptors by now; nothing may be left for accept */
	unsigned before = accepted;
	connect_some(&at, fds, 2);
	getrlimit(RLIMIT_NOFILE, &had);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = had.rlim_max};
	setrlimit(RLIMIT_NOFILE, &none);
	clock_t cpu = clock();
	run_for(250);
	ck_assert_uint_eq(accepted, before);
	ck_assert((double)(clock() - cpu) / CLOCKS_PER_SEC < 0.1);
	setrlimit(RLIMIT_NOFILE, &had);
	run_for(150);
	ck_assert_uint_eq(accepted, before + 2);
	listener_free(&l);
	loop_free(&loop);
}
END_TEST

Suite *sock_suite(void);
Suite *sock_suite(void)
{
	Suite *s = suite_create("sock");
	TCase *t = tcase_create("sock");

	tcase_add_test(t, a_tuned_connection_has_no_nagle_and_finds_the_dead);
	tcase_add_test(t, addresses_are_read_and_written);
	tcase_add_test(t, networks_hold_their_addresses);
	tcase_add_test(t, a_unix_socket_replaces_a_stale_one_only);
	tcase_add_test(t, a_listener_accepts_all_but_not_while_paused);
	tcase_add_test(t, a_listener_may_be_freed_by_its_callback);
	tcase_add_test(t, out_of_descriptors_accepting_pauses_and_recovers);
	suite_add_tcase(s, t);
	return s;
}

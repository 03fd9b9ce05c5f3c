/* SPDX-License-Identifier: Apache-2.0 */
/* args.c: rows to options. */
#include "proxy/args.h"

#include "lib/mem.h"
#include "lib/sock.h"
#include "proxy/balance/balance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX   32
#define MEMORY_MIN ((uint64_t)8 << 20) /* an idle worker alone takes 3 MB */

static bool set_name(struct args *a, const char *v, struct err *err)
{
	if (!str_is_dns_label(str_of(v)))
		return err_set(err, ERR_INVALID, "\"%s\" is not a name (a-z, 0-9 and -, at most 63)", v);
	a->options.instance = v;
	return true;
}

static bool set_namespace(struct args *a, const char *v, struct err *err)
{
	if (!str_is_dns_label(str_of(v)))
		return err_set(err, ERR_INVALID, "\"%s\" is not a namespace (a-z, 0-9 and -, at most 63)", v);
	a->options.ns = v;
	return true;
}

static bool set_labels(struct args *a, const char *v, struct err *err)
{
	struct str rest = str_of(v), one, key, value;
	a->options.n_labels = 0;
	while (rest.len > 0) {
		str_cut(rest, ',', &one, &rest);
		if (!str_cut(one, '=', &key, &value) || key.len == 0)
			return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is not key=value", STR_ARG(one));
		if (a->options.n_labels == OPTIONS_LABELS_MAX)
			return err_set(err, ERR_LIMIT, "more than %d labels", OPTIONS_LABELS_MAX);
		a->options.labels[a->options.n_labels++] =
		    (struct proxy_label){mem_strndup(key.p, key.len), mem_strndup(value.p, value.len)};
	}
	return true;
}

static bool set_ports(struct args *a, const char *v, struct err *err)
{
	struct str rest = str_of(v), one, number, proto;
	a->options.n_ports = 0;
	while (rest.len > 0) {
		struct inbound_port p = {0};
		uint64_t port;
		str_cut(rest, ',', &one, &rest);
		str_cut(one, '/', &number, &proto);
		if (!str_to_u64(number, 65535, &port) || port == 0)
			return err_set(err, ERR_INVALID, "\"" STR_FMT "\" is not a port (1 to 65535)", STR_ARG(number));
		if (!protocol_parse(proto, &p.protocol))
			return err_set(err, ERR_INVALID,
				       "\"" STR_FMT "\" is not a protocol (http, http2, grpc, tcp, tls)",
				       STR_ARG(proto));
		if (a->options.n_ports == OPTIONS_PORTS_MAX)
			return err_set(err, ERR_LIMIT, "more than %d ports", OPTIONS_PORTS_MAX);
		p.port = (uint16_t)port;
		a->options.ports[a->options.n_ports++] = p;
	}
	return true;
}

static bool set_control(struct args *a, const char *v, struct err *err)
{
	struct str rest = str_of(v), one;
	struct addr addr;
	a->options.n_control = 0;
	while (rest.len > 0) {
		str_cut(rest, ',', &one, &rest);
		if (!addr_parse(one, &addr))
			return err_set(err, ERR_INVALID,
				       "\"" STR_FMT "\" is not an address (10.0.0.1:4810 or [fd00::1]:4810)",
				       STR_ARG(one));
		if (a->options.n_control == OPTIONS_CONTROL_MAX)
			return err_set(err, ERR_LIMIT, "more than %d addresses", OPTIONS_CONTROL_MAX);
		a->options.control[a->options.n_control++] = mem_strndup(one.p, one.len);
	}
	return true;
}

static bool set_token(struct args *a, const char *v, struct err *err)
{
	static char text[4097];
	FILE *f = fopen(v, "re");
	if (f == NULL)
		return err_errno(err, "join token %s", v);
	size_t n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[strcspn(text, "\r\n")] = '\0';
	if (n == 0)
		return err_set(err, ERR_INVALID, "join token %s is empty", v);
	a->options.token = text;
	return true;
}

static bool set_state(struct args *a, const char *v, struct err *err)
{
	a->options.state_dir = v;
	return true;
}

static bool set_zone(struct args *a, const char *v, struct err *err)
{
	a->options.zone = v;
	return true;
}

static bool set_file(struct args *a, const char *v, struct err *err)
{
	a->options.file = v;
	return true;
}

static bool grace(const char *v, uint64_t *ret_ms, struct err *err)
{
	if (!str_to_ms(str_of(v), ret_ms) || *ret_ms > 24 * 3600 * 1000u)
		return err_set(err, ERR_INVALID, "\"%s\" is not a time (500ms, 28s, 5m; at most 24h)", v);
	return true;
}

static bool set_drain(struct args *a, const char *v, struct err *err)
{
	return grace(v, &a->drain_ms, err);
}

static bool set_upgrade_timeout(struct args *a, const char *v, struct err *err)
{
	return grace(v, &a->upgrade_timeout_ms, err);
}

static bool set_upgrade_drain(struct args *a, const char *v, struct err *err)
{
	return grace(v, &a->upgrade_drain_ms, err);
}

static bool set_balancer(struct args *a, const char *v, struct err *err)
{
	if (balance_ops_find(v) == NULL)
		return err_set(err, ERR_INVALID, "\"%s\" is not a balancer (p2c, round-robin)", v);
	a->options.balancer = v;
	return true;
}

static bool life(uint64_t *ret_ms, const char *v, struct err *err)
{
	if (!str_to_ms(str_of(v), ret_ms) || *ret_ms < 100 || *ret_ms > 7 * 24 * 3600 * 1000u)
		return err_set(err, ERR_INVALID, "\"%s\" is not a time from 100ms to 168h", v);
	return true;
}

static bool set_hedge(struct args *a, const char *v, struct err *err)
{
	uint64_t *after = &a->options.hedge_after_ms;
	if (strcmp(v, "0") == 0)
		*after = 0;
	else if (!str_to_ms(str_of(v), after) || *after < 100 || *after > 3600 * 1000u)
		return err_set(err, ERR_INVALID, "\"%s\" is not a time from 100ms to 1h, or 0 (never)", v);
	return true;
}

static bool set_age(struct args *a, const char *v, struct err *err)
{
	return life(&a->options.connection_age_ms, v, err);
}

static bool set_idle_upstream(struct args *a, const char *v, struct err *err)
{
	return life(&a->options.idle_upstream_ms, v, err);
}

static bool set_idle_downstream(struct args *a, const char *v, struct err *err)
{
	return life(&a->options.idle_downstream_ms, v, err);
}

static bool set_stream_idle(struct args *a, const char *v, struct err *err)
{
	return life(&a->options.stream_idle_ms, v, err);
}

static bool set_queue_timeout(struct args *a, const char *v, struct err *err)
{
	return life(&a->options.queue_timeout_ms, v, err);
}

static bool set_head_timeout(struct args *a, const char *v, struct err *err)
{
	return life(&a->options.head_timeout_ms, v, err);
}

static bool set_memory(struct args *a, const char *v, struct err *err)
{
	uint64_t bytes = SIZE_MAX;
	if (strcmp(v, "none") != 0 && (!str_to_bytes(str_of(v), &bytes) || bytes < MEMORY_MIN || bytes >= SIZE_MAX))
		return err_set(err, ERR_INVALID, "\"%s\" is not a size of at least 8M (64M, 1G; or none)", v);
	a->options.memory_max = (size_t)bytes;
	return true;
}

static bool set_threads(struct args *a, const char *v, struct err *err)
{
	uint64_t n = 0;
	if (strcmp(v, "auto") != 0 && (!str_to_u64(str_of(v), OPTIONS_THREADS_MAX, &n) || n == 0))
		return err_set(err, ERR_INVALID, "\"%s\" is not a number of threads (1 to %d, or auto)", v,
			       OPTIONS_THREADS_MAX);
	a->options.threads = (unsigned)n;
	return true;
}

static bool set_level(struct args *a, const char *v, struct err *err)
{
	if (!event_level_parse(v, &a->options.log_level))
		return err_set(err, ERR_INVALID, "\"%s\" is not a level (debug, info, warn, error)", v);
	return true;
}

static const struct row {
	const char *flag;
	char letter;
	const char *env, *arg;
	bool (*set)(struct args *a, const char *v, struct err *err);
	const char *help;
} rows[] = {
#define OPTION(flag, letter, env, arg, set, help) {flag, letter, env, arg, set, help},
#include "proxy/args.tbl.h"
#undef OPTION
};

static const struct row *find(const char *text, const char **ret_value)
{
	*ret_value = NULL;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t n = strlen(rows[i].flag);
		if (text[0] == '-' && text[1] != '-' && rows[i].letter != 0 && text[1] == rows[i].letter) {
			*ret_value = text[2] != '\0' ? text + 2 : NULL;
			return &rows[i];
		}
		if (strncmp(text, "--", 2) != 0 || strncmp(text + 2, rows[i].flag, n) != 0)
			continue;
		if (text[2 + n] == '=')
			*ret_value = text + 3 + n;
		if (text[2 + n] == '=' || text[2 + n] == '\0')
			return &rows[i];
	}
	return NULL;
}

static bool from_env(struct args *a, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *v = getenv(rows[i].env);
		if (v != NULL && *v != '\0' && !rows[i].set(a, v, err))
			return err_prefix(err, "%s", rows[i].env);
	}
	return true;
}

static bool plain(struct args *a, const char *text)
{
	if (strcmp(text, "-t") == 0 || strcmp(text, "--test") == 0)
		a->what = ARGS_TEST;
	else if (strcmp(text, "-h") == 0 || strcmp(text, "--help") == 0)
		a->what = ARGS_HELP;
	else if (strcmp(text, "-V") == 0 || strcmp(text, "--version") == 0)
		a->what = ARGS_VERSION;
	else if (strcmp(text, "--worker") == 0)
		a->worker = true;
	else if (strcmp(text, "--successor") == 0)
		a->successor = true;
	else
		return false;
	return true;
}

static bool from_argv(int argc, char **argv, struct args *a, struct err *err)
{
	for (int i = 1; i < argc; i++) {
		const char *v;
		if (plain(a, argv[i]))
			continue;
		const struct row *row = find(argv[i], &v);
		if (row == NULL)
			return err_set(err, ERR_INVALID, "%s: unknown option (weft-proxy --help lists them)", argv[i]);
		if (v == NULL && i + 1 < argc)
			v = argv[++i];
		if (v == NULL)
			return err_set(err, ERR_INVALID, "--%s needs %s", row->flag, row->arg);
		if (!row->set(a, v, err))
			return err_prefix(err, "--%s", row->flag);
	}
	return true;
}

bool args_parse(int argc, char **argv, struct args *ret, struct err *err)
{
	struct args a = {
	    .options = {.ns = "default",
			.zone = "",
			.balancer = "",
			.hedge_after_ms = HEDGE_AFTER_MS,
			.threads = 1,
			.log_level = EVENT_INFO},
	    .drain_ms = 28000,
	    .upgrade_timeout_ms = 30000,
	    .upgrade_drain_ms = 600 * 1000,
	};
	if (!from_env(&a, err) || !from_argv(argc, argv, &a, err))
		return false;
	if (a.what == ARGS_TEST && a.options.file == NULL)
		return err_set(err, ERR_INVALID, "-t tests a file: weft-proxy -t -f FILE");
	if (a.what == ARGS_RUN && a.options.file == NULL && a.options.instance == NULL)
		return err_set(err, ERR_INVALID,
			       "--name is missing: the name of this workload (or -f FILE to run without weftd)");
	*ret = a;
	return true;
}

void args_help(void)
{
	printf("weft-proxy: the sidecar of the Weft mesh. Start it through weft-capture:\n"
	       "  weft-capture exec --name NAME [options] -- weft-proxy\n"
	       "  weft-proxy -t -f FILE     check a configuration file and exit\n\noptions (each also from the "
	       "environment):\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char flag[64];
		if (rows[i].letter != 0)
			snprintf(flag, sizeof(flag), "-%c, --%s %s", rows[i].letter, rows[i].flag, rows[i].arg);
		else
			snprintf(flag, sizeof(flag), "    --%s %s", rows[i].flag, rows[i].arg);
		printf("  %-34s %s [%s]\n", flag, rows[i].help, rows[i].env);
	}
	printf("  %-34s check the file of -f and exit\n  %-34s this text\n  %-34s the version\n", "-t, --test",
	       "-h, --help", "-V, --version");
}

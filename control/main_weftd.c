/* SPDX-License-Identifier: Apache-2.0 */
/* main_weftd.c: weftd's command line: `weftd init` makes a mesh, `weftd run` (or none) serves it. */
#include "control/daemon.h"
#include "control/init.h"
#include "control/option.h"
#include "lib/event.h"
#include "lib/harden.h"

#include <string.h>

struct values {
	bool help;
	const char *store, *trust_domain, *admin_config, *server, *init_listen, *url, *certificate, *renew_grace,
	    *lease;
	struct option_list cidrs, listen, listen_api, listen_admin, names;
};

#define WEFTD(member, type, letter, name, arg, env, text) \
	{OPTION_##type, offsetof(struct values, member), name, letter, arg, env, text},
static const struct option init_rows[] = {
#define WEFTD_INIT
#include "control/weftd.tbl.h"
#undef WEFTD_INIT
};
static const struct option run_rows[] = {
#define WEFTD_RUN
#include "control/weftd.tbl.h"
#undef WEFTD_RUN
};
#undef WEFTD

static void help(void)
{
	printf("weftd: the control plane of a Weft mesh\n\n"
	       "  weftd init --trust-domain NAME --mesh-cidr CIDR [options]   make the store and the administrator's "
	       "configuration\n"
	       "  weftd run [options]                                         serve (also without a word)\n"
	       "  weftd version\n\nOptions of init:\n");
	option_help(stdout, init_rows, ARRAY_LEN(init_rows));
	printf("\nOptions of run:\n");
	option_help(stdout, run_rows, ARRAY_LEN(run_rows));
}

static int usage(const struct err *err)
{
	fprintf(stderr, "weftd: %s\nweftd: `weftd --help` lists the options\n", err->text);
	return 2;
}

/* "[::]:4810" is where weftd listens, not where anybody reaches it. */
static const char *reachable(const char *listen)
{
	struct addr a;
	static const struct ip any4 = {.len = 4}, any6 = {.len = 16};

	return listen && addr_parse(str_of(listen), &a) && (ip_eq(&a.ip, &any4) || ip_eq(&a.ip, &any6)) ? NULL : listen;
}

static int init(const struct values *v, struct err *err)
{
	struct init_options o = {.store = v->store,
				 .admin_config = v->admin_config ? v->admin_config : "/etc/weft/admin.json",
				 .trust_domain = v->trust_domain,
				 .cidrs = v->cidrs.v,
				 .cidrs_len = v->cidrs.len,
				 .server = v->server ? v->server : reachable(v->init_listen),
				 .url = v->url};

	if (!harden_process(err) || !init_run(&o, err)) {
		fprintf(stderr, "weftd: init: %s\n", err->text);
		return err->code == ERR_INVALID ? 2 : 1;
	}
	fprintf(stderr, "weftd: made %s and %s (keep both secret); start it with `weftd run --store %s`\n", o.store,
		o.admin_config, o.store);
	return 0;
}

static bool read_listen(const struct option_list *l, const char *name, const char *preset, struct addr *ret,
			size_t *ret_len, struct err *err)
{
	if (l->len == 0) {
		*ret_len = 1;
		return addr_parse(str_of(preset), &ret[0]);
	}
	if (l->len > DAEMON_LISTEN_MAX)
		return err_set(err, ERR_INVALID, "--%s: at most %d", name, DAEMON_LISTEN_MAX);
	for (size_t i = 0; i < l->len; i++)
		if (!addr_parse(str_of(l->v[i]), &ret[i]))
			return err_set(err, ERR_INVALID,
				       "--%s %.80s: expected ADDRESS:PORT, like 10.0.0.1:4810 or [::]:4810", name,
				       l->v[i]);
	*ret_len = l->len;
	return true;
}

static bool read_time(const char *text, const char *name, const char *preset, uint64_t min_s, uint64_t max_s,
		      uint64_t *ret_s, struct err *err)
{
	uint64_t ms = 0;

	if (!str_to_ms(str_of(text ? text : preset), &ms) || ms % 1000 || ms < min_s * 1000 || ms > max_s * 1000)
		return err_set(err, ERR_INVALID,
			       "--%s %.40s: expected a time of whole seconds, %llus to %llus, like 90s or 24h", name,
			       text ? text : preset, (unsigned long long)min_s, (unsigned long long)max_s);
	*ret_s = ms / 1000;
	return true;
}

static bool run_options(const struct values *v, struct daemon_options *o, struct err *err)
{
	o->store = v->store;
	if (v->names.len > DAEMON_NAMES_MAX)
		return err_set(err, ERR_INVALID, "--name: at most %d", DAEMON_NAMES_MAX);
	for (size_t i = 0; i < v->names.len; i++)
		o->names[o->names_len++] = v->names.v[i];
	return read_listen(&v->listen, "listen", "[::]:4810", o->listen, &o->listen_len, err) &&
	       read_listen(&v->listen_api, "listen-api", "[::]:4811", o->listen_api, &o->listen_api_len, err) &&
	       read_listen(&v->listen_admin, "listen-admin", "[::]:4814", o->listen_admin, &o->listen_admin_len, err) &&
	       read_time(v->certificate, "certificate-lifetime", "24h", 1, 24 * 3600, &o->certificate_s, err) &&
	       read_time(v->renew_grace, "renew-grace", "1h", 0, 7 * 24 * 3600, &o->renew_grace_s, err) &&
	       read_time(v->lease, "lease", "15s", 1, 3600, &o->lease_s, err);
}

static int run(const struct values *v, struct err *err)
{
	struct daemon_options o = {.names_len = 0};

	if (!run_options(v, &o, err))
		return usage(err);
	if (harden_process(err) && daemon_run(&o, err))
		return 0;
	event(EV_FATAL, "error=\"%s\"", err->text);
	return 1;
}

int main(int argc, char **argv)
{
	struct values v = {.store = "/var/lib/weft/weft.db"};
	struct option_list words;
	struct err err;
	bool is_init = argc > 1 && strcmp(argv[1], "init") == 0;

	event_init("weftd");
	if (argc > 1 && (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0)) {
		printf("weftd %s\n", WEFT_VERSION);
		return 0;
	}
	if (!options_read(is_init ? init_rows : run_rows, is_init ? ARRAY_LEN(init_rows) : ARRAY_LEN(run_rows),
			  argc - 1, argv + 1, &v, &words, &err))
		return usage(&err);
	if (v.help) {
		help();
		return 0;
	}
	if (words.len > 1 || (words.len && !is_init && strcmp(words.v[0], "run") != 0)) {
		err_set(&err, ERR_INVALID, "unknown command %.80s", words.v[words.len - 1]);
		return usage(&err);
	}
	return is_init ? init(&v, &err) : run(&v, &err);
}

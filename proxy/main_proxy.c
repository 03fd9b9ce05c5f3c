/* SPDX-License-Identifier: Apache-2.0 */
/* main_proxy.c: weft-proxy. Supervisor first; the supervisor starts the same program with --worker. */
#include "lib/event.h"
#include "proxy/args.h"
#include "proxy/file.h"
#include "proxy/supervisor.h"
#include "proxy/worker.h"

#include <stdio.h>
#include <sys/prctl.h>

static int test_file(const struct args *a)
{
	struct err err;
	if (config_file_load(a->options.file, NULL, NULL, &err)) {
		printf("%s: ok\n", a->options.file);
		return 0;
	}
	fprintf(stderr, "weft-proxy: %s\n", err.text);
	return 1;
}

static int start(const struct args *a, char **argv)
{
	struct handover h;
	struct err err;
	event_init(a->worker ? "weft-proxy" : "weft-supervisor");
	prctl(PR_SET_NAME, "weft-proxy", 0, 0, 0); /* started by a descriptor it would bear the number's name */
	event_set_level(a->options.log_level);
	if (!handover_take(&h, &err)) {
		event(EV_FATAL, "why=\"%s\"", err.text);
		return WORKER_EXIT_CONFIG;
	}
	struct supervisor_cfg cfg = {
	    .handover = &h, .argv = argv, .ready_ms = a->upgrade_timeout_ms, .former_ms = a->upgrade_drain_ms};
	return a->worker ? worker_run(a, &h) : supervisor_run(&cfg);
}

int main(int argc, char **argv)
{
	struct args a;
	struct err err;
	if (!args_parse(argc, argv, &a, &err)) {
		fprintf(stderr, "weft-proxy: %s\n", err.text);
		return 2;
	}
	switch (a.what) {
	case ARGS_HELP:
		args_help();
		return 0;
	case ARGS_VERSION:
		printf("weft-proxy %s\n", WEFT_VERSION);
		return 0;
	case ARGS_TEST:
		return test_file(&a);
	case ARGS_RUN:
		break;
	}
	return start(&a, argv);
}

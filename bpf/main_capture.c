/* SPDX-License-Identifier: Apache-2.0 */
/* main_capture.c: weft-capture, the only program of Weft that holds privileges. Commands are rows. */
#include "bpf/check.h"
#include "bpf/confirm.h"
#include "bpf/exec.h"
#include "bpf/gone.h"
#include "bpf/options.h"
#include "bpf/status.h"

#include <stdio.h>
#include <string.h>

enum exit_code { EXIT_OK, EXIT_FAILED, EXIT_USAGE };

static const struct command {
	const char *name, *args, *text;
	char letter;
	bool (*run)(const struct options *o, struct err *err);
} commands[] = {
    {"exec", "[options] -- weft-proxy [...]",
     "mesh this network namespace (the machine's own: listed ports) and become the proxy", 'E', exec_run},
    {"status", "[options]", "workloads, counters and programs of this machine", 'S', status_run},
    {"check", "[options]", "whether capture works here, and what would undermine it", 'C', check_run},
    {"confirm", "[options]", "an attach to the machine's own network namespace stays", 'F', confirm_run},
    {"detach", "[options]", "take a workload (default: this network namespace) out of the mesh", 'D', gone_run},
};

static void usage(FILE *to)
{
	fprintf(to, "weft-capture: takes a workload's traffic over in the kernel for its proxy\n\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(to, "  weft-capture %-7s %-30s %s\n", commands[i].name, commands[i].args, commands[i].text);
	fprintf(to, "  weft-capture version\n\n"
		    "In the machine's own network namespace only the ports of --ports and --capture-out-ports are "
		    "captured, never SSH, and\n"
		    "an attach that is not confirmed within 60 s (--undo-after) undoes itself: weft-capture confirm "
		    "--name NAME.\n\n"
		    "Options of a command: weft-capture COMMAND --help\n");
}

static int run(const struct command *c, char **argv)
{
	struct options o;
	struct err err = {0};

	if (argv[0] && !strcmp(argv[0], "--help")) {
		printf("weft-capture %s %s: %s\n\n", c->name, c->args, c->text);
		options_help(c->letter);
		return EXIT_OK;
	}
	if (!options_parse(argv, c->letter, &o, &err)) {
		fprintf(stderr, "weft-capture %s: %s\n", c->name, err.text);
		return EXIT_USAGE;
	}
	if (c->letter != 'E' && o.rest[0]) {
		fprintf(stderr, "weft-capture %s: %s: takes options only\n", c->name, o.rest[0]);
		return EXIT_USAGE;
	}
	if (c->run(&o, &err))
		return EXIT_OK;
	fflush(stdout);
	fprintf(stderr, "weft-capture %s: %s\n", c->name, err.text);
	return EXIT_FAILED;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "version") || !strcmp(argv[1], "--version")) {
		printf("weft-capture %s\n", WEFT_VERSION);
		return EXIT_OK;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (!strcmp(argv[1], commands[i].name))
			return run(&commands[i], argv + 2);
	}
	fprintf(stderr, "weft-capture: %s: no such command\n\n", argv[1]);
	usage(stderr);
	return EXIT_USAGE;
}

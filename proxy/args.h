/* SPDX-License-Identifier: Apache-2.0 */
/* args.h: weft-proxy's command line and WEFT_* environment, as rows (args.tbl.h), into struct proxy_options. An argument wins over the
 * environment. */
#ifndef WEFT_PROXY_ARGS_H
#define WEFT_PROXY_ARGS_H

#include "lib/err.h"
#include "proxy/options.h"

enum args_do { ARGS_RUN, ARGS_TEST, ARGS_HELP, ARGS_VERSION };

struct args {
	struct proxy_options options;
	uint64_t drain_ms;           /* after SIGTERM */
	uint64_t upgrade_timeout_ms; /* for a new worker to be ready */
	uint64_t upgrade_drain_ms;   /* of the worker that it replaced */
	enum args_do what;
	bool worker;    /* started by the supervisor */
	bool successor; /* in an upgrade: serves once it is ready, and says so */
};

/* False and err names the option and what was expected. Text in *ret lives as long as the process. */
bool args_parse(int argc, char **argv, struct args *ret, struct err *err);
void args_help(void); /* on stdout */

#endif

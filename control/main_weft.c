/* SPDX-License-Identifier: Apache-2.0 */
/* main_weft.c: the CLI. Everything is in cli.c, so that tests link what ships. */
#include "control/cli.h"

#include "lib/event.h"

#include <signal.h>

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	event_init("weft");
	return cli_main(argc, argv);
}

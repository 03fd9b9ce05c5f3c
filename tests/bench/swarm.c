/* SPDX-License-Identifier: Apache-2.0 */
/* swarm.c: many sidecars' links in one process: the real code of join, push and registration (proxy/link.c) without a data path. For tests of
 * weftd at scale: who holds what, how fast a change arrives.
 *   swarm COUNT FIRST CONTROL TOKEN-FILE LABELS [FOLLOW-IP:PORT]
 * Instances are sim-FIRST ... Lines on stdout: "ready COUNT" once all are configured and registered; "swap N MICROSECONDS" (CLOCK_REALTIME) when the
 * configuration in force of instance N has changed after that. Ends on SIGTERM with a goodbye each. */
#include "lib/event.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/link.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define COUNT_MAX 2000

struct sim {
	struct proxy_options options;
	struct config *config;
	struct identity *identity;
	struct link *link;
	struct config_waiter waiter;
	bool known;
	unsigned number;
};

static struct sim *sims;
static unsigned count;
static struct loop *loop;
static struct timer look;
static bool ready, following;

static void on_credential(void *ctx, const struct credential *c)
{
	(void)ctx;
	(void)c;
}

static void on_swap(void *ctx)
{
	struct sim *s = ctx;
	struct timespec t;
	if (!ready)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	printf("swap %u %lld\n", s->number, (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000);
}

static void on_answer(struct config_waiter *w, bool known)
{
	struct sim *s = CONTAINER_OF(w, struct sim, waiter);
	s->known = known;
}

static void on_look(struct timer *t)
{
	unsigned n = 0;
	for (unsigned i = 0; i < count; i++)
		n += config_ready(sims[i].config) && link_is_up(sims[i].link) && (!following || sims[i].known);
	if (n == count && !ready) {
		ready = true;
		printf("ready %u\n", n);
	}
	timer_start(t, 20);
}

static void on_gone(struct timer *t)
{
	(void)t;
	loop_stop(loop);
}

static void on_term(void *arg, int signum)
{
	(void)arg;
	(void)signum;
	for (unsigned i = 0; i < count; i++)
		link_goodbye(sims[i].link);
	timer_stop(&look);
	timer_init(&look, loop, on_gone);
	timer_start(&look, 500); /* time for the goodbyes to leave */
}

static void start(struct sim *s, unsigned number, char **argv, const char *token, const struct addr *follow)
{
	struct err err;
	s->number = number;
	s->options = (struct proxy_options){
	    .instance = mem_printf("sim-%u", number),
	    .ns = "shop",
	    .labels = {{"app", argv[5]}},
	    .n_labels = 1,
	    .ports = {{.port = 8080, .protocol = PROTOCOL_HTTP}},
	    .n_ports = 1,
	    .zone = "",
	    .control = {argv[3]},
	    .n_control = 1,
	    .token = token,
	};
	s->config = config_new(loop);
	s->identity = identity_new();
	struct link_cfg cfg = {.loop = loop,
			       .options = &s->options,
			       .config = s->config,
			       .identity = s->identity,
			       .mark = mark_new(NULL),
			       .on_credential = on_credential,
			       .ctx = s};
	s->link = link_new(&cfg, &err);
	if (s->link == NULL) {
		fprintf(stderr, "swarm: %s\n", err.text);
		exit(1);
	}
	config_on_swap(s->config, on_swap, s);
	if (following) {
		s->waiter.on_answer = on_answer;
		config_want(s->config, &s->waiter, follow);
	}
}

int main(int argc, char **argv)
{
	static char token[4096];
	struct addr follow;
	struct err err;
	FILE *f = argc >= 6 ? fopen(argv[4], "re") : NULL;
	if (f == NULL || fgets(token, sizeof(token), f) == NULL || (count = (unsigned)atoi(argv[1])) == 0 ||
	    count > COUNT_MAX) {
		fprintf(stderr, "usage: swarm COUNT FIRST CONTROL TOKEN-FILE LABEL [FOLLOW-IP:PORT]\n");
		return 2;
	}
	fclose(f);
	token[strcspn(token, "\r\n")] = '\0';
	following = argc > 6 && addr_parse(str_of(argv[6]), &follow);
	setvbuf(stdout, NULL, _IOLBF, 0);
	event_init("swarm");
	event_set_level(EVENT_WARN);
	signal(SIGPIPE, SIG_IGN);
	loop = loop_new(&err);
	sims = mem_zalloc(count * sizeof(*sims));
	loop_on_signal(loop, SIGTERM, on_term, NULL);
	for (unsigned i = 0; i < count; i++)
		start(&sims[i], (unsigned)atoi(argv[2]) + i, argv, token, &follow);
	timer_init(&look, loop, on_look);
	timer_start(&look, 20);
	loop_run(loop);
	return 0;
}

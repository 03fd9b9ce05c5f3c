/* SPDX-License-Identifier: Apache-2.0 */
/* swarm.c: many sidecars' links in one process and on one loop: the real code of join, registration and reconnecting (proxy/link.c) with
 * subscriptions that only acknowledge (swarm_subscribe.c) and no data path. For tests of weftd at scale: who holds what, how fast a change arrives.
 *   swarm COUNT FIRST CONTROL TOKEN-FILE LABEL [from=IP] [FOLLOW-IP ...]
 * Instances are sim-FIRST ...; with from=IP instance N links from the address IP + N (which must be this host's), else all from one. Lines on
 * stdout, written every 20 ms: "ready COUNT" once all are configured and registered; "swap N MICROSECONDS" (CLOCK_REALTIME) when instance N
 * has acknowledged a change after that; "linked N OF" when the number of living links has changed. Ends on SIGTERM with a goodbye each. */
#include "lib/event.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/link.h"
#include "tests/bench/swarm.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define COUNT_MAX  2000
#define LOOK_MS    20
#define LOOK_EVERY 10 /* looks, once all are ready: asking a thousand costs as much as a tenth of a change */

struct sim {
	struct proxy_options options;
	struct config *config;
	struct identity *identity;
	struct link *link;
	bool configured;
};

static struct sim *sims;
static unsigned count, first, linked;
static struct loop *loop;
static struct timer look;
static bool ready;
static struct ip from; /* len 0: wherever the route leads */
struct ip swarm_follow[SWARM_FOLLOW_MAX];
unsigned swarm_n_follow;

/* In place of proxy/mark.c: nothing here is captured, so this is where a simulated workload gets an address of its own. */
struct mark {
	struct ip source;
};

struct mark *mark_new(const uint8_t *token)
{
	(void)token;
	return NEW(struct mark);
}

void mark_free(struct mark **m)
{
	FREE(m);
}

bool mark_exempt(const struct mark *m, int fd, struct err *err)
{
	struct sockaddr_storage sa;
	int on = 1;
	if (!m->source.len)
		return true;
	socklen_t len = addr_to_sockaddr(&(struct addr){.ip = m->source}, &sa);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	return bind(fd, (struct sockaddr *)&sa, len) == 0 || err_errno(err, "the address of a simulated workload");
}

static struct mark *mark_of(unsigned number)
{
	struct mark *m = mark_new(NULL);
	uint32_t v4;
	if (from.len != 4)
		return m;
	memcpy(&v4, from.b, 4);
	v4 = htonl(ntohl(v4) + number);
	m->source.len = 4;
	memcpy(m->source.b, &v4, 4);
	return m;
}

static void on_credential(void *ctx, const struct credential *c)
{
	(void)ctx;
	(void)c;
}

static struct sim *sim_of(const char *instance)
{
	unsigned n = (unsigned)atoi(instance + strlen("sim-"));
	MUST(n >= first && n - first < count);
	return &sims[n - first];
}

void swarm_configured(const char *instance)
{
	sim_of(instance)->configured = true;
}

void swarm_changed(const char *instance)
{
	struct timespec t;
	if (!ready)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	printf("swap %s %lld\n", instance + strlen("sim-"), (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000);
}

static void on_look(struct timer *t)
{
	unsigned n = 0, up = 0;
	static unsigned turn;
	fflush(stdout);
	timer_start(t, LOOK_MS);
	if (ready && ++turn % LOOK_EVERY)
		return;
	for (unsigned i = 0; i < count; i++) {
		up += link_is_up(sims[i].link);
		n += sims[i].configured && link_is_up(sims[i].link);
	}
	if (n == count && !ready) {
		ready = true;
		printf("ready %u\n", n);
	}
	if (ready && up != linked)
		printf("linked %u %u\n", up, count);
	linked = up;
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

static void start(struct sim *s, unsigned number, char **argv, const char *token)
{
	struct err err;
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
			       .mark = mark_of(number),
			       .on_credential = on_credential,
			       .ctx = s};
	s->link = link_new(&cfg, &err);
	if (s->link == NULL) {
		fprintf(stderr, "swarm: %s\n", err.text);
		exit(1);
	}
}

/* What comes after the label. */
static bool more(const char *arg)
{
	if (strncmp(arg, "from=", 5) == 0)
		return ip_parse(str_of(arg + 5), &from) && from.len == 4;
	return swarm_n_follow < SWARM_FOLLOW_MAX && ip_parse(str_of(arg), &swarm_follow[swarm_n_follow++]);
}

/* A descriptor a simulated sidecar. */
static void raise_descriptors(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

int main(int argc, char **argv)
{
	static char token[4096];
	struct err err;
	bool good = true;
	FILE *f = argc >= 6 ? fopen(argv[4], "re") : NULL;
	for (int i = 6; i < argc; i++)
		good = good && more(argv[i]);
	if (!good || f == NULL || fgets(token, sizeof(token), f) == NULL || (count = (unsigned)atoi(argv[1])) == 0 ||
	    count > COUNT_MAX) {
		fprintf(stderr, "usage: swarm COUNT FIRST CONTROL TOKEN-FILE LABEL [from=IP] [FOLLOW-IP ...]\n");
		return 2;
	}
	fclose(f);
	token[strcspn(token, "\r\n")] = '\0';
	/* A write for each line would cost more than the change that it tells of. */
	setvbuf(stdout, NULL, _IOFBF, 1 << 20);
	raise_descriptors();
	event_init("swarm");
	event_set_level(EVENT_WARN);
	signal(SIGPIPE, SIG_IGN);
	loop = loop_new(&err);
	sims = mem_zalloc(count * sizeof(*sims));
	loop_on_signal(loop, SIGTERM, on_term, NULL);
	first = (unsigned)atoi(argv[2]);
	for (unsigned i = 0; i < count; i++)
		start(&sims[i], first + i, argv, token);
	timer_init(&look, loop, on_look);
	timer_start(&look, LOOK_MS);
	loop_run(loop);
	return 0;
}

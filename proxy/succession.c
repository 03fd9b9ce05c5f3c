/* SPDX-License-Identifier: Apache-2.0 */
/* succession.c: notes to and from the supervisor. */
#include "proxy/succession.h"

#include "lib/mem.h"
#include "lib/str.h"
#include "proxy/handover.h"

#include <stdio.h>
#include <unistd.h>

#define LOOK_MS 10

struct succession {
	struct succession_cfg cfg;
	struct io io;
	struct timer look;
	char supervisor[32];     /* its version */
	char why[NOTE_TEXT_MAX]; /* that it is not ready yet, as last said */
	bool retired;
	void (*done)(void *arg, bool ok, const char *text);
	void *arg;
};

static void answer(struct succession *s, bool ok, const char *text)
{
	void (*done)(void *arg, bool ok, const char *text) = s->done;
	s->done = NULL;
	if (done != NULL)
		done(s->arg, ok, text);
}

static void take(struct succession *s, const struct note *n)
{
	switch (n->kind) {
	case NOTE_VERSION:
		snprintf(s->supervisor, sizeof(s->supervisor), "%.*s", (int)sizeof(s->supervisor) - 1, n->text);
		break;
	case NOTE_FAILED:
		answer(s, false, n->text);
		break;
	case NOTE_RETIRE:
		answer(s, true, n->text);
		if (!s->retired)
			s->cfg.on_retire(s->cfg.ctx, n->text);
		s->retired = true;
		break;
	default: /* of a later version */
		break;
	}
}

static void on_io(struct io *io, bool readable, bool writable)
{
	struct succession *s = CONTAINER_OF(io, struct succession, io);
	struct note n;
	enum heard heard;
	while ((heard = handover_hear(s->cfg.sock, &n)) == HEARD_NOTE) {
		if (n.fd >= 0)
			close(n.fd);
		take(s, &n);
	}
	if (heard == HEARD_GONE) { /* the supervisor: the kernel ends this worker too */
		io_stop(&s->io);
		answer(s, false, "the supervisor is gone");
	}
}

static void look(struct timer *t)
{
	struct succession *s = CONTAINER_OF(t, struct succession, look);
	struct err why;
	if (s->cfg.ready(s->cfg.ctx, &why)) {
		s->cfg.on_ready(s->cfg.ctx);
		handover_say(s->cfg.sock, NOTE_READY, "", -1, NULL);
		return;
	}
	if (strncmp(s->why, why.text, sizeof(s->why) - 1) != 0) {
		snprintf(s->why, sizeof(s->why), "%.*s", (int)sizeof(s->why) - 1, why.text);
		handover_say(s->cfg.sock, NOTE_WAITING, s->why, -1, NULL);
	}
	timer_start(&s->look, LOOK_MS);
}

struct succession *succession_new(const struct succession_cfg *cfg)
{
	struct succession *s = NEW(struct succession);
	s->cfg = *cfg;
	strcpy(s->supervisor, "unknown");
	timer_init(&s->look, cfg->loop, look);
	io_init(&s->io, cfg->loop, cfg->sock, on_io);
	io_want(&s->io, true, false);
	handover_say(cfg->sock, NOTE_VERSION, WEFT_VERSION, -1, NULL);
	if (cfg->successor)
		timer_start(&s->look, 0);
	return s;
}

void succession_free(struct succession **sp)
{
	struct succession *s = *sp;
	if (s == NULL)
		return;
	timer_stop(&s->look);
	io_stop(&s->io);
	FREE(sp);
}

bool succession_ask(struct succession *s, void (*done)(void *arg, bool ok, const char *text), void *arg)
{
	if (s->done != NULL || s->retired || !handover_say(s->cfg.sock, NOTE_UPGRADE, "", -1, NULL))
		return false;
	s->done = done;
	s->arg = arg;
	return true;
}

void succession_forget(struct succession *s)
{
	s->done = NULL;
}

const char *succession_supervisor(const struct succession *s)
{
	return s->supervisor;
}

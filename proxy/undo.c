/* SPDX-License-Identifier: Apache-2.0 */
/* undo.c: see undo.h. */
#include "proxy/undo.h"

#include "lib/event.h"
#include "lib/mem.h"

#include <time.h>
#include <unistd.h>

#define LOOK_MS 1000

struct undo {
	struct undo_cfg cfg;
	struct timer look;
	int fd;       /* a socket of this process, to ask on */
	bool waiting; /* for a confirmation */
};

static uint64_t boot_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static const char *or_name(const char *given)
{
	return given ? given : "NAME";
}

/* Says what has changed; false: it is over. */
static bool follow(struct undo *u)
{
	const char *name = or_name(u->cfg.name), *ns = or_name(u->cfg.ns);
	struct weft_opt_state now;
	uint64_t t = boot_ns();

	if (!mark_state(u->cfg.mark, u->fd, &now)) {
		event(EV_CAPTURE_DETACHED, "open=\"connections that run go on; new ones go around this proxy\" "
					   "next=\"end it when they are done\"");
		return false;
	}
	if (now.deadline_ns && t >= now.deadline_ns) {
		event(EV_CAPTURE_UNDONE,
		      "why=\"not confirmed in time\" open=\"connections that run go on; new ones go around this "
		      "proxy\" next=\"weft-capture detach "
		      "--name %s --namespace %s; then weft-capture exec, and confirm before its deadline\"",
		      name, ns);
		return false;
	}
	if (now.deadline_ns && !u->waiting)
		event(EV_CAPTURE_UNCONFIRMED, "undone_in_s=%u keep=\"weft-capture confirm --name %s --namespace %s\"",
		      (unsigned)((now.deadline_ns - t) / 1000000000u), name, ns);
	if (!now.deadline_ns && u->waiting)
		event(EV_CAPTURE_CONFIRMED, "name=\"%s\" namespace=\"%s\"", name, ns);
	u->waiting = now.deadline_ns != 0;
	return true;
}

static void look(struct timer *t)
{
	struct undo *u = CONTAINER_OF(t, struct undo, look);

	if (follow(u))
		timer_start(&u->look, LOOK_MS);
	else
		u->cfg.on_over(u->cfg.ctx);
}

struct undo *undo_new(const struct undo_cfg *cfg)
{
	struct weft_opt_state now;
	struct undo *u = NEW(struct undo);

	u->cfg = *cfg;
	u->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	timer_init(&u->look, cfg->loop, look);
	if (u->fd >= 0 && mark_state(cfg->mark, u->fd, &now) && now.listed)
		look(&u->look);
	if (!timer_running(&u->look))
		undo_free(&u);
	return u;
}

void undo_free(struct undo **up)
{
	struct undo *u = *up;

	*up = NULL;
	if (!u)
		return;
	timer_stop(&u->look);
	if (u->fd >= 0)
		close(u->fd);
	mem_free(u);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor.c: one worker that serves, started again after a crash: at once the first time, then after 10 ms doubling to 1 s while it keeps
 * dying within 10 s. In an upgrade there is a second one for a while, the next, of the file that is on the disk now. When it says that it is
 * ready, it is the worker, and the one before is a former one that ends with its connections. When it dies or takes too long, nothing
 * has happened (docs/decisions/2026-11-28-hot-upgrade.md). */
#include "proxy/supervisor.h"

#include "lib/event.h"
#include "lib/harden.h"
#include "lib/mem.h"
#include "lib/str.h"
#include "proxy/child.h"
#include "proxy/harden.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MAX_MS  1000
#define STABLE_MS       10000
#define FORMER_MAX      8    /* workers that were replaced and have connections still; with so many no upgrade begins */
#define FORMER_GRACE_MS 5000 /* beyond its own: then it does not listen to itself */

struct supervisor {
	struct handover handover;
	uint64_t ready_ms, former_ms;
	char path[4096]; /* of this program, as it was started: looked at anew for each upgrade */
	struct child_program
	    program; /* of the worker: what crashes is started again as it was, whatever the disk holds by then */
	struct child_program next_program;
	int signals; /* signalfd */
	struct child worker, next, former[FORMER_MAX];
	int64_t backoff_ms, start_at_ms;
	bool again; /* an upgrade was asked for during one */
	bool stopping;
	int status; /* to exit with */
};

static void say_ended(const struct child *c, const char *what, int status)
{
	bool code = WIFEXITED(status);
	event(EV_WORKER_ENDED, "pid=%d version=\"%s\" was=%s %s=%d", (int)c->pid, c->version, what,
	      code ? "exit" : "signal", code ? WEXITSTATUS(status) : WTERMSIG(status));
}

/* Passed on; one that is asked twice does not wait for what it has open. */
static void end_all(struct supervisor *s)
{
	s->stopping = true;
	s->again = false;
	if (s->worker.pid > 0)
		kill(s->worker.pid, SIGTERM);
	if (s->next.pid > 0)
		kill(s->next.pid, SIGKILL); /* it serves nobody yet */
	for (size_t i = 0; i < FORMER_MAX; i++)
		if (s->former[i].pid > 0)
			kill(s->former[i].pid, SIGTERM);
}

/* --- the worker --- */

static void start(struct supervisor *s)
{
	struct err err;
	if (!child_start(&s->worker, &s->program, &s->handover, &err)) {
		event(EV_WORKER_DIED, "why=\"%s\"", err.text);
		s->start_at_ms = child_now_ms() + BACKOFF_MAX_MS;
		return;
	}
	event(EV_WORKER_STARTED, "pid=%d", (int)s->worker.pid);
}

static void worker_ended(struct supervisor *s, int status)
{
	int64_t lived_ms = child_now_ms() - s->worker.started_ms;
	bool code = WIFEXITED(status);
	child_done(&s->worker);
	if (s->stopping || (code && WEXITSTATUS(status) == WORKER_EXIT_CONFIG)) {
		s->status = code ? WEXITSTATUS(status) : 1;
		end_all(s);
		return;
	}
	bool stable = lived_ms >= STABLE_MS;
	int64_t wait = stable ? 0 : s->backoff_ms;
	s->backoff_ms = stable                               ? 0
			: s->backoff_ms == 0                 ? 10
			: s->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS
							     : s->backoff_ms * 2;
	s->start_at_ms = child_now_ms() + wait;
	event(EV_WORKER_DIED, "%s=%d again_in_ms=%d", code ? "exit" : "signal",
	      code ? WEXITSTATUS(status) : WTERMSIG(status), (int)wait);
}

/* --- the upgrade --- */

static void program_close(struct child_program *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void upgrade_failed(struct supervisor *s, const char *why)
{
	event(EV_UPGRADE_FAILED, "why=\"%s\" program=\"%s\" version=\"%s\" serving=\"%s\"", why, s->path,
	      s->next.version, s->worker.version);
	child_say(&s->worker, NOTE_FAILED, why);
	child_done(&s->next);
	program_close(&s->next_program);
}

static struct child *former_free(struct supervisor *s)
{
	for (size_t i = 0; i < FORMER_MAX; i++)
		if (s->former[i].pid == 0)
			return &s->former[i];
	return NULL;
}

/* What is at the path now. It need not be the file that runs: that may be gone. */
static bool next_open(struct supervisor *s, struct err *err)
{
	struct stat st;
	if (former_free(s) == NULL)
		return err_set(err, ERR_LIMIT, "%d workers of former upgrades have connections still", FORMER_MAX);
	s->next_program.fd = open(s->path, O_PATH | O_CLOEXEC);
	if (s->next_program.fd < 0)
		return err_errno(err, "%s", s->path);
	if (fstat(s->next_program.fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0)
		return true;
	return err_set(err, ERR_INVALID, "%s: is not a program", s->path);
}

static void upgrade(struct supervisor *s, const char *by)
{
	struct err err;
	s->again = s->next.pid != 0; /* the file may have changed again since that one was started */
	if (s->again || s->stopping)
		return;
	if (!next_open(s, &err) || !child_start(&s->next, &s->next_program, &s->handover, &err)) {
		upgrade_failed(s, err.text);
		return;
	}
	s->next.until_ms = s->next.started_ms + (int64_t)s->ready_ms;
	event(EV_UPGRADING, "by=%s program=\"%s\" pid=%d", by, s->path, (int)s->next.pid);
}

static void next_ended(struct supervisor *s, int status)
{
	char why[NOTE_TEXT_MAX + 64];
	struct child *c = &s->next;
	bool code = WIFEXITED(status), told = c->why[0] != '\0';
	if (s->stopping) {
		child_done(c);
		program_close(&s->next_program);
		return;
	}
	if (c->until_ms == 0)
		snprintf(why, sizeof(why), "it was not ready within %llu ms%s%s", (unsigned long long)s->ready_ms,
			 told ? ": " : "", c->why);
	else
		snprintf(why, sizeof(why), "it ended before it was ready, %s %d%s%s", code ? "exit status" : "signal",
			 code ? WEXITSTATUS(status) : WTERMSIG(status), told ? ": " : "", c->why);
	upgrade_failed(s, why);
}

/* The next one serves: the worker until now takes nothing new, and ends when what it has has ended. */
static void take_over(struct supervisor *s)
{
	struct child *f = former_free(s);
	char text[64];
	MUST(f != NULL);
	snprintf(text, sizeof(text), "pid %d, version %s", (int)s->next.pid, s->next.version);
	event(EV_UPGRADED, "pid=%d version=\"%s\" former=%d former_version=\"%s\" supervisor_version=\"%s\"",
	      (int)s->next.pid, s->next.version, (int)s->worker.pid, s->worker.version, WEFT_VERSION);
	if (s->worker.pid != 0) {
		*f = s->worker;
		f->until_ms = child_now_ms() + (int64_t)s->former_ms + FORMER_GRACE_MS;
		if (!child_say(f, NOTE_RETIRE, text))
			kill(f->pid, SIGKILL); /* it does not know its place: it would go on accepting */
	}
	s->worker = s->next;
	s->worker.until_ms = 0;
	s->next = child_none;
	program_close(&s->program);
	s->program = (struct child_program){.fd = s->next_program.fd, .argv = s->program.argv};
	s->next_program.fd = -1;
	s->backoff_ms = 0;
}

/* --- what happens --- */

static void ended(struct supervisor *s, pid_t pid, int status)
{
	struct note n;
	if (pid == s->worker.pid) {
		worker_ended(s, status);
	} else if (pid == s->next.pid) {
		while (child_hear(&s->next, &n) == HEARD_NOTE) /* its last words say why */
			if (n.fd >= 0)
				close(n.fd);
		next_ended(s, status);
	}
	for (size_t i = 0; i < FORMER_MAX; i++)
		if (s->former[i].pid == pid) {
			say_ended(&s->former[i], "former", status);
			child_done(&s->former[i]);
		}
}

/* PID 1 in a container: whatever child ends is reaped. */
static void reap(struct supervisor *s)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		ended(s, pid, status);
}

static void on_signal(struct supervisor *s)
{
	struct signalfd_siginfo si;
	while (read(s->signals, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGHUP || si.ssi_signo == SIGUSR2)
			upgrade(s, si.ssi_signo == SIGHUP ? "SIGHUP" : "SIGUSR2");
		if (si.ssi_signo != SIGTERM && si.ssi_signo != SIGINT)
			continue;
		if (!s->stopping)
			event(EV_STOPPING, "signal=%u", si.ssi_signo);
		end_all(s);
	}
	reap(s);
}

static void on_child(struct supervisor *s, struct child *c)
{
	struct note n;
	while (child_hear(c, &n) == HEARD_NOTE) {
		if (n.kind == NOTE_CREDENTIAL && n.fd >= 0) {
			if (s->handover.credential >= 0)
				close(s->handover.credential);
			s->handover.credential = n.fd;
		} else if (n.kind == NOTE_UPGRADE && c == &s->worker) {
			upgrade(s, "admin");
		} else if (n.kind == NOTE_READY && c == &s->next && !s->stopping) {
			take_over(s);
			return; /* c is nobody's now */
		}
	}
}

/* Who does not do what it must in its time is killed; what follows from that follows from its end. */
static void look_at_clock(struct supervisor *s)
{
	int64_t now = child_now_ms();
	struct child *all[FORMER_MAX + 1] = {&s->next};
	for (size_t i = 0; i < FORMER_MAX; i++)
		all[i + 1] = &s->former[i];
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i]->pid > 0 && all[i]->until_ms != 0 && now >= all[i]->until_ms) {
			all[i]->until_ms = 0;
			kill(all[i]->pid, SIGKILL);
		}
	if (s->worker.pid == 0 && !s->stopping && now >= s->start_at_ms)
		start(s);
	if (s->again && s->next.pid == 0)
		upgrade(s, "again");
}

/* Until when nothing has to be done; -1: for ever. */
static int patience_ms(const struct supervisor *s)
{
	int64_t until = s->worker.pid == 0 && !s->stopping ? s->start_at_ms : INT64_MAX;
	if (s->next.pid > 0 && s->next.until_ms != 0)
		until = MIN(until, s->next.until_ms);
	for (size_t i = 0; i < FORMER_MAX; i++)
		if (s->former[i].pid > 0 && s->former[i].until_ms != 0)
			until = MIN(until, s->former[i].until_ms);
	int64_t now = child_now_ms();
	return until == INT64_MAX ? -1 : until <= now ? 0 : (int)MIN(until - now, 3600 * 1000);
}

static void wait_and_serve(struct supervisor *s)
{
	/* poll(2) passes over descriptors that are -1. */
	struct pollfd p[] = {{s->signals, POLLIN, 0}, {s->worker.sock, POLLIN, 0}, {s->next.sock, POLLIN, 0}};
	if (poll(p, ARRAY_LEN(p), patience_ms(s)) < 0)
		return;
	if (p[1].revents != 0)
		on_child(s, &s->worker);
	if (p[2].revents != 0)
		on_child(s, &s->next);
	if (p[0].revents != 0)
		on_signal(s);
}

static bool any_child(const struct supervisor *s)
{
	bool any = s->worker.pid != 0 || s->next.pid != 0;
	for (size_t i = 0; i < FORMER_MAX; i++)
		any = any || s->former[i].pid != 0;
	return any;
}

/* --- the start --- */

/* A worker is the same program with one more argument, the next one with two. */
static char **child_argv(char **argv, const char *one, const char *two)
{
	size_t n = 0;
	while (argv[n] != NULL)
		n++;
	char **out = mem_zalloc((n + 3) * sizeof(char *));
	for (size_t i = 0; i < n; i++)
		out[i] = argv[i];
	out[n] = mem_strdup(one);
	out[n + 1] = two != NULL ? mem_strdup(two) : NULL;
	return out;
}

/* The path by which it was started: where that is a link to a version, an upgrade follows the link anew. */
static bool find_program(struct supervisor *s, struct err *err)
{
	const char *path = (const char *)(uintptr_t)getauxval(AT_EXECFN);
	if (path != NULL && strncmp(path, "/dev/fd/", 8) != 0)
		snprintf(s->path, sizeof(s->path), "%s", path);
	else if (readlink("/proc/self/exe", s->path, sizeof(s->path) - 1) <= 0)
		return err_errno(err, "reading /proc/self/exe: is /proc mounted?");
	s->program.fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	return s->program.fd >= 0 || err_errno(err, "opening /proc/self/exe: is /proc mounted?");
}

static int watch_signals(void)
{
	static const int those[] = {SIGTERM, SIGINT, SIGCHLD, SIGHUP, SIGUSR2};
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(those); i++)
		sigaddset(&set, those[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int supervisor_run(const struct supervisor_cfg *cfg)
{
	static struct supervisor s;
	struct err err;
	s = (struct supervisor){.handover = *cfg->handover,
				.ready_ms = cfg->ready_ms,
				.former_ms = cfg->former_ms,
				.worker = child_none,
				.next = child_none};
	for (size_t i = 0; i < FORMER_MAX; i++)
		s.former[i] = child_none;
	s.program.argv = child_argv(cfg->argv, "--worker", NULL);
	s.next_program = (struct child_program){.fd = -1, .argv = child_argv(cfg->argv, "--worker", "--successor")};
	if (!find_program(&s, &err) || !harden_process(&err) || !harden_syscalls(true, &err)) {
		event(EV_FATAL, "why=\"%s\"", err.text);
		return 1;
	}
	s.signals = watch_signals();
	while (!s.stopping || any_child(&s)) {
		look_at_clock(&s);
		wait_and_serve(&s);
	}
	event(EV_STOPPED, "status=%d", s.status);
	return s.status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor.c: one worker at a time, started again after a crash: at once the first time, then after 10 ms doubling to 1 s while
 * it keeps dying within 10 s. */
#include "proxy/supervisor.h"

#include "lib/event.h"
#include "lib/mem.h"
#include "lib/str.h"
#include "proxy/harden.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BACKOFF_MAX_MS 1000
#define STABLE_MS      10000

struct supervisor {
	struct handover handover;
	char **argv;
	char path[4096]; /* of this program */
	int signals;     /* signalfd */
	int sock;        /* to the worker; -1: it is gone */
	pid_t worker;    /* 0: none */
	int64_t started_ms, backoff_ms, start_at_ms;
	bool stopping;
	int status; /* to exit with */
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* In the child: every descriptor of the handover stays open over exec, nothing else does. */
static void become_worker(struct supervisor *s, int sock)
{
	char text[1024];
	struct handover h = s->handover;
	const int keep[] = {h.status, h.admin, h.token, h.join, h.credential, sock};
	sigset_t none;
	h.super = sock;
	for (size_t i = 0; i < ARRAY_LEN(keep); i++)
		if (keep[i] >= 0)
			fcntl(keep[i], F_SETFD, 0);
	for (unsigned i = 0; i < h.n_out; i++)
		fcntl(h.out[i], F_SETFD, 0);
	for (unsigned i = 0; i < h.n_in; i++)
		fcntl(h.in[i], F_SETFD, 0);
	handover_text(&h, text, sizeof(text));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (setenv(WEFT_ENV_FDS, text, 1) == 0)
		execv(s->path, s->argv);
	_exit(127);
}

static void start(struct supervisor *s)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		event(EV_WORKER_DIED, "why=\"socketpair: %s\"", strerror(errno));
		s->start_at_ms = now_ms() + BACKOFF_MAX_MS;
		return;
	}
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		/* Without its supervisor a worker has nobody to start it again: it goes too, and the kernel refuses what comes. */
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (getppid() != parent)
			_exit(1);
		become_worker(s, pair[1]);
	}
	close(pair[1]);
	if (pid < 0) {
		event(EV_WORKER_DIED, "why=\"fork: %s\"", strerror(errno));
		close(pair[0]);
		s->start_at_ms = now_ms() + BACKOFF_MAX_MS;
		return;
	}
	s->sock = pair[0];
	s->worker = pid;
	s->started_ms = now_ms();
	event(EV_WORKER_STARTED, "pid=%d", (int)pid);
}

static void worker_ended(struct supervisor *s, int status)
{
	s->worker = 0;
	bool code = WIFEXITED(status);
	if (s->stopping || (code && WEXITSTATUS(status) == WORKER_EXIT_CONFIG)) {
		s->status = code ? WEXITSTATUS(status) : 1;
		s->stopping = true;
		return;
	}
	bool stable = now_ms() - s->started_ms >= STABLE_MS;
	int64_t wait = stable ? 0 : s->backoff_ms;
	s->backoff_ms = stable                               ? 0
			: s->backoff_ms == 0                 ? 10
			: s->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS
							     : s->backoff_ms * 2;
	s->start_at_ms = now_ms() + wait;
	event(EV_WORKER_DIED, "%s=%d again_in_ms=%d", code ? "exit" : "signal",
	      code ? WEXITSTATUS(status) : WTERMSIG(status), (int)wait);
}

/* PID 1 in a container: whatever child ends is reaped. */
static void reap(struct supervisor *s)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == s->worker)
			worker_ended(s, status);
}

static void on_signal(struct supervisor *s)
{
	struct signalfd_siginfo si;
	while (read(s->signals, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGCHLD)
			continue;
		if (!s->stopping)
			event(EV_STOPPING, "signal=%u", si.ssi_signo);
		s->stopping = true;
		if (s->worker > 0)
			kill(s->worker, SIGTERM);
	}
	reap(s);
}

static void on_worker(struct supervisor *s)
{
	int fd = handover_receive(s->sock);
	if (fd >= 0) {
		if (s->handover.credential >= 0)
			close(s->handover.credential);
		s->handover.credential = fd;
		return;
	}
	close(s->sock);
	s->sock = -1;
}

static void wait_and_serve(struct supervisor *s)
{
	struct pollfd p[] = {{s->signals, POLLIN, 0}, {s->sock, POLLIN, 0}};
	int64_t left = s->worker == 0 && !s->stopping ? s->start_at_ms - now_ms() : -1;
	poll(p, s->sock >= 0 ? 2 : 1, s->worker != 0 || s->stopping ? -1 : left > 0 ? (int)left : 0);
	if (s->sock >= 0 && p[1].revents != 0)
		on_worker(s);
	if (p[0].revents != 0)
		on_signal(s);
}

/* The worker is the same program with one more argument. */
static char **worker_argv(char **argv)
{
	size_t n = 0;
	while (argv[n] != NULL)
		n++;
	char **out = mem_zalloc((n + 2) * sizeof(char *));
	for (size_t i = 0; i < n; i++)
		out[i] = argv[i];
	out[n] = mem_strdup("--worker");
	return out;
}

int supervisor_run(const struct handover *h, char **argv)
{
	struct supervisor s = {.handover = *h, .sock = -1};
	struct err err;
	sigset_t set;
	ssize_t n = readlink("/proc/self/exe", s.path, sizeof(s.path) - 1);
	if (n <= 0 || !harden_process(&err) || !harden_syscalls(true, &err)) {
		event(EV_FATAL, "why=\"%s\"", n <= 0 ? "reading /proc/self/exe: is /proc mounted?" : err.text);
		return 1;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s.argv = worker_argv(argv);
	while (!s.stopping || s.worker != 0) {
		if (s.worker == 0 && !s.stopping && now_ms() >= s.start_at_ms) {
			if (s.sock >= 0) {
				close(s.sock);
				s.sock = -1;
			}
			start(&s);
		}
		wait_and_serve(&s);
	}
	event(EV_STOPPED, "status=%d", s.status);
	return s.status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* child.c: fork, exec, and a socket. */
#include "proxy/child.h"

#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

const struct child child_none = {.sock = -1};

int64_t child_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* In the child: every descriptor of the handover stays open over exec, nothing else does. */
static _Noreturn void become(const struct child_program *program, const struct handover *from, int sock)
{
	char text[1024];
	struct handover h = *from;
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
		fexecve(program->fd, program->argv, environ);
	handover_say(sock, NOTE_EXEC, strerror(errno), -1, NULL);
	_exit(127);
}

bool child_start(struct child *ret, const struct child_program *program, const struct handover *h, struct err *err)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_errno(err, "socketpair");
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		/* Without its supervisor a worker has nobody to start it again: it goes too, and the kernel refuses what comes. */
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (getppid() != parent)
			_exit(1);
		become(program, h, pair[1]);
	}
	int why = errno;
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		errno = why;
		return err_errno(err, "fork");
	}
	*ret = (struct child){.pid = pid, .sock = pair[0], .started_ms = child_now_ms(), .version = "unknown"};
	handover_say(ret->sock, NOTE_VERSION, WEFT_VERSION, -1, NULL);
	return true;
}

enum heard child_hear(struct child *c, struct note *ret)
{
	if (c->sock < 0)
		return HEARD_NOTHING;
	enum heard heard = handover_hear(c->sock, ret);
	if (heard == HEARD_GONE) {
		close(c->sock);
		c->sock = -1;
	}
	if (heard != HEARD_NOTE)
		return heard;
	if (ret->fd >= 0 && ret->kind != NOTE_CREDENTIAL)
		close(ret->fd);
	if (ret->kind == NOTE_VERSION)
		snprintf(c->version, sizeof(c->version), "%.*s", (int)sizeof(c->version) - 1, ret->text);
	else if (ret->kind == NOTE_WAITING || ret->kind == NOTE_EXEC)
		memcpy(c->why, ret->text, sizeof(c->why));
	return heard;
}

bool child_say(struct child *c, enum note_kind kind, const char *text)
{
	return c->sock >= 0 && handover_say(c->sock, kind, text, -1, NULL);
}

void child_done(struct child *c)
{
	if (c->sock >= 0)
		close(c->sock);
	*c = child_none;
}

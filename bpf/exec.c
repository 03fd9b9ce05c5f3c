/* SPDX-License-Identifier: Apache-2.0 */
/* exec.c: see exec.h. The steps below, in order, are the whole of it. One of them, `mesh`, decides: killed before it, the namespace is as
 * it was; killed after it, nothing passes, inbound or outbound, until a proxy serves (in the machine's own: nothing that is listed, and until
 * the deadline). So no step may be moved over it lightly. */
#include "bpf/exec.h"

#include "bpf/drop.h"
#include "bpf/gone.h"
#include "bpf/host.h"
#include "bpf/list.h"
#include "bpf/listeners.h"
#include "bpf/load.h"
#include "bpf/workload.h"
#include "lib/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOIN_TOKEN_MAX 16384

struct job {
	const struct options *o;
	struct spec spec;
	struct node node;
	struct netns netns;
	struct maps maps;
	struct weft_bpf *bpf;
	struct handed handed;
	int cgroup; /* folder of the proxy's cgroup */
	uint8_t token[WEFT_TOKEN_LEN];
	uint64_t deadline_ns; /* of an attach to the machine's own namespace; 0: none */
	char state_dir[NODE_PATH_MAX], run_dir[NODE_PATH_MAX]; /* of this instance */
};

static bool step_describe(struct job *j, struct err *err)
{
	if (!j->o->rest[0])
		return err_set(err, ERR_INVALID, "no command: weft-capture exec [options] -- weft-proxy");
	if (j->o->v[OPT_TOKEN_FILE] && j->o->v[OPT_JOIN_TOKEN_FILE])
		return err_set(err, ERR_INVALID, "--token-file and --join-token-file are the same; give one");
	if (!spec_read(j->o, &j->spec, err) || !netns_read(&j->netns, err))
		return false;
	if (!list_check(&j->spec, j->netns.host, err))
		return false;
	return j->netns.loopback ||
	       err_set(err, ERR_UNSUPPORTED,
		       "loopback is down in this network namespace; bring it up: ip link set lo up");
}

/* The join token's text; read now, since the file need not be readable for the proxy. */
static bool step_join(struct job *j, struct err *err)
{
	const char *path = j->o->v[OPT_TOKEN_FILE] ? j->o->v[OPT_TOKEN_FILE] : j->o->v[OPT_JOIN_TOKEN_FILE];
	char text[JOIN_TOKEN_MAX];
	ssize_t n;
	int fd;
	bool ok;

	if (!path)
		return true;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return err_errno(err, "--token-file: %s", path);
	if (n == 0 || n == sizeof(text))
		return err_set(err, ERR_INVALID, "--token-file: %s: %s", path, n ? "too long for a token" : "is empty");
	ok = listeners_memfd(&j->handed, "join", text, (size_t)n, err);
	mem_wipe(text, sizeof(text));
	return ok;
}

static bool step_node(struct job *j, struct err *err)
{
	if (!node_open(j->o, true, &j->node, err))
		return false;
	gone_collect(&j->node);
	if (node_proxy_runs(&j->node, j->spec.instance))
		return err_set(err, ERR_EXISTS,
			       "the proxy of %s/%s runs already on this machine; end it, or give another --name",
			       j->spec.ns, j->spec.name);
	return true;
}

/* Its own cgroup, entered before any socket is made: socket options are answered in the cgroup in which a socket (for an accepted one, its
 * listener) was made. */
static bool step_cgroup(struct job *j, struct err *err)
{
	char path[NODE_PATH_MAX], procs[NODE_PATH_MAX];
	int fd;
	bool ok;

	node_proxy_path(&j->node, j->spec.instance, NULL, path);
	node_proxy_path(&j->node, j->spec.instance, "cgroup.procs", procs);
	if (!path_make(path, 0755, err))
		return false;
	j->cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->cgroup < 0)
		return err_errno(err, "%s", path);
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, "0", 1) == 1;
	if (!ok)
		err_errno(err, "%s: cannot be entered", path);
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool step_bind(struct job *j, struct err *err)
{
	return listeners_bind(&j->handed, &j->netns, err);
}

static bool step_load(struct job *j, struct err *err)
{
	j->bpf = load_open(&j->node, j->netns.cookie, err);
	return j->bpf && maps_open(&j->node, &j->maps, err);
}

static bool step_attach(struct job *j, struct err *err)
{
	return load_attach_shared(j->bpf, &j->node, err) && load_attach_netns(j->bpf, &j->node, j->netns.cookie, err) &&
	       load_attach_proxy(j->bpf, &j->node, j->netns.cookie, j->cgroup, err);
}

static bool step_token(struct job *j, struct err *err)
{
	if (getrandom(j->token, sizeof(j->token), 0) != sizeof(j->token))
		return err_errno(err, "getrandom");
	return host_deadline(&j->maps, &j->netns, &j->spec, &j->deadline_ns, err) &&
	       workload_describe(&j->maps, &j->netns, &j->spec, j->token, err) &&
	       listeners_memfd(&j->handed, "token", j->token, sizeof(j->token), err);
}

static bool step_mesh(struct job *j, struct err *err)
{
	if (!workload_mesh(&j->maps, &j->netns, &j->spec, list_sum(&j->spec), j->deadline_ns, err))
		return false;
	host_say(&j->netns, &j->spec, j->deadline_ns);
	return true;
}

/* "a-b" + "c" and "a" + "b-c" have the same folder. The first to come owns it: another's identity must not be found there. */
static bool claim_state(struct job *j, struct err *err)
{
	char path[NODE_PATH_MAX], mine[SPEC_INSTANCE_MAX + 2], theirs[SPEC_INSTANCE_MAX + 2] = "";
	ssize_t n;
	int fd;

	snprintf(mine, sizeof(mine), "%s/%s\n", j->spec.ns, j->spec.name);
	if (!path_join(path, "%s/%s.owner", j->o->v[OPT_STATE_DIR], j->spec.instance))
		return err_set(err, ERR_LIMIT, "--state-dir is too long");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return err_errno(err, "%s", path);
	n = read(fd, theirs, sizeof(theirs) - 1);
	if (n == 0)
		n = write(fd, mine, strlen(mine));
	close(fd);
	if (n < 0)
		return err_errno(err, "%s", path);
	theirs[strcspn(theirs, "\n")] = '\0';
	if (theirs[0] && strncmp(mine, theirs, strlen(mine) - 1))
		return err_set(err, ERR_CONFLICT, "%s/%s holds the state of %s; give another --name or --state-dir",
			       j->o->v[OPT_STATE_DIR], j->spec.instance, theirs);
	return true;
}

static bool own_dir(const char *path, struct err *err)
{
	int fd;
	bool ok;

	if (!path_make(path, 0700, err))
		return false;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	ok = fd >= 0 && fchmod(fd, 0700) == 0 && fchown(fd, WEFT_UID, WEFT_UID) == 0;
	if (!ok)
		err_errno(err, "%s: cannot be given to UID %d", path, WEFT_UID);
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool step_dirs(struct job *j, struct err *err)
{
	char socket_path[NODE_PATH_MAX];

	if (!path_join(j->state_dir, "%s/%s", j->o->v[OPT_STATE_DIR], j->spec.instance) ||
	    !path_join(j->run_dir, "%s/%s", j->o->v[OPT_RUN_DIR], j->spec.instance) ||
	    !path_join(socket_path, "%s/admin.sock", j->run_dir))
		return err_set(err, ERR_LIMIT, "--state-dir or --run-dir is too long");
	return path_make(j->o->v[OPT_STATE_DIR], 0755, err) && claim_state(j, err) && own_dir(j->state_dir, err) &&
	       path_make(j->run_dir, 0755, err) && listeners_admin(&j->handed, socket_path, err);
}

/* The steering map takes listening sockets only. */
static bool step_listen(struct job *j, struct err *err)
{
	return listeners_open(&j->handed, err) && load_set_listener(j->bpf, handed_find(&j->handed, "in"), err);
}

static void own_ips(const struct netns *ns, char *out, size_t size)
{
	char a[IP_TEXT_MAX], b[IP_TEXT_MAX];

	snprintf(out, size, "%s%s%s", ns->addr4.len ? ip_text(&ns->addr4, a) : "",
		 ns->addr4.len && ns->addr6.len ? "," : "", ns->addr6.len ? ip_text(&ns->addr6, b) : "");
}

/* What the proxy reads, in environment variables; an option that was not given is not set, so that nothing stale is inherited. */
static bool step_environment(struct job *j, struct err *err)
{
	char fds[HANDED_TEXT], ips[2 * IP_TEXT_MAX];

	own_ips(&j->netns, ips, sizeof(ips));
	const struct {
		const char *name, *value;
	} vars[] = {
	    {WEFT_ENV_FDS, handed_text(&j->handed, fds)},
	    {"WEFT_NAME", j->spec.name},
	    {"WEFT_NAMESPACE", j->spec.ns},
	    {"WEFT_INSTANCE", j->spec.instance},
	    {"WEFT_LABELS", j->o->v[OPT_LABELS]},
	    {"WEFT_PORTS", j->o->v[OPT_PORTS]},
	    {"WEFT_CONTROL", j->o->v[OPT_CONTROL]},
	    {"WEFT_STATE_DIR", j->state_dir},
	    {"WEFT_RUN_DIR", j->run_dir},
	    {"WEFT_TOKEN_FILE", NULL}, /* handed over as "join"; the file is not for the proxy's eyes */
	    {"WEFT_JOIN_TOKEN_FILE", NULL},
	    {"WEFT_POD_IPS", ips[0] ? ips : NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(vars); i++) {
		if (vars[i].value ? setenv(vars[i].name, vars[i].value, 1) : unsetenv(vars[i].name))
			return err_errno(err, "%s", vars[i].name);
	}
	mem_wipe(j->token, sizeof(j->token));
	return true;
}

static bool step_drop(struct job *j, struct err *err)
{
	return handed_keep(&j->handed, err) && drop_privileges(err);
}

static bool step_become(struct job *j, struct err *err)
{
	execvp(j->o->rest[0], j->o->rest);
	return err_errno(
	    err, "%s cannot be run as UID %d; the namespace is meshed and refuses connections until a proxy serves",
	    j->o->rest[0], WEFT_UID);
}

static const struct step {
	const char *name;
	bool (*run)(struct job *j, struct err *err);
} steps[] = {
    {"describe", step_describe},       /* options and namespace, checked                                 */
    {"join", step_join},               /* the join token, into memory                                    */
    {"node", step_node},               /* cgroup2, bpffs, the lock; leftovers of dead namespaces go      */
    {"cgroup", step_cgroup},           /* where the sockets made from here on have their options answered  */
    {"bind", step_bind},               /* the proxy's ports are ours, nothing listens yet                */
    {"load", step_load},               /* programs and maps in the kernel                                */
    {"attach", step_attach},           /* they run, and pass this namespace since no row says otherwise  */
    {"token", step_token},             /* exclusions and token, not yet in force                         */
    {"mesh", step_mesh},               /* the row: from here on everything (on a host: listed) is refused */
    {"dirs", step_dirs},               /* state and admin socket                                         */
    {"listen", step_listen},           /* connections queue for the proxy                                */
    {"environment", step_environment}, /* names of what is handed over                                   */
    {"drop", step_drop},               /* every privilege                                                */
    {"become", step_become},           /* the proxy                                                      */
};

bool exec_run(const struct options *o, struct err *err)
{
	struct job *j = NEW(struct job);

	j->o = o;
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		if (!steps[i].run(j, err))
			break;
	}
	/* Failed. Descriptors go with the process, which is what closes the listeners. */
	mem_wipe_free(j, sizeof(*j));
	return false;
}

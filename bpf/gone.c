/* SPDX-License-Identifier: Apache-2.0 */
/* gone.c: see gone.h. The row of `workloads` goes first, so that both directions become plain at the same moment. */
#include "bpf/gone.h"

#include "bpf/load.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Unlinks what a folder of bpffs holds (no folders) and the folder. */
static bool remove_dir(const char *path, struct err *err)
{
	char leaf[NODE_PATH_MAX];
	struct dirent *e;
	DIR *d = opendir(path);

	if (!d)
		return errno == ENOENT || err_errno(err, "%s", path);
	while ((e = readdir(d))) {
		if (e->d_name[0] != '.' && path_join(leaf, "%s/%s", path, e->d_name))
			unlink(leaf);
	}
	closedir(d);
	return rmdir(path) == 0 || err_errno(err, "%s", path);
}

static bool in_use(const struct maps *m, const char *instance)
{
	struct weft_workload w;
	uint64_t cookie = 0;

	while (workload_next(m, &cookie, &w)) {
		char other[SPEC_INSTANCE_MAX];

		workload_instance(&w, other);
		if (!strcmp(other, instance))
			return true;
	}
	return false;
}

bool gone_detach(const struct node *n, const struct maps *m, uint64_t cookie, struct err *err)
{
	char path[NODE_PATH_MAX], instance[SPEC_INSTANCE_MAX] = "";
	struct weft_workload w;
	bool ok;

	if (bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &cookie, &w) == 0)
		workload_instance(&w, instance);
	ok = workload_forget(m, cookie, err);
	node_ns_path(n, cookie, NULL, path);
	ok = remove_dir(path, err) && ok;
	if (instance[0] && !in_use(m, instance)) {
		node_proxy_path(n, instance, NULL, path);
		rmdir(path); /* stays while the proxy runs */
	}
	return ok;
}

static bool next_ns(DIR *d, uint64_t *ret)
{
	struct dirent *e;

	while ((e = readdir(d))) {
		if (str_to_u64(str_of(e->d_name), UINT64_MAX, ret))
			return true;
	}
	return false;
}

/* Only on proof: taking a living workload for dead would open it. The kernel says that the link's namespace is gone; or there is neither
 * link nor row, which is what an exec leaves that was killed early. */
static bool is_dead(const struct node *n, const struct maps *m, uint64_t cookie)
{
	char pin[NODE_PATH_MAX];
	struct weft_workload w;
	struct load_link link;

	node_ns_path(n, cookie, "weft_steer", pin);
	if (load_link_read(pin, &link))
		return !link.attached;
	return access(pin, F_OK) && errno == ENOENT && bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &cookie, &w) &&
	       errno == ENOENT;
}

/* Calls gone_detach for the namespaces that have a folder, all or only the dead. */
static bool detach_folders(const struct node *n, const struct maps *m, bool all, struct err *err)
{
	char path[NODE_PATH_MAX];
	uint64_t cookie;
	bool ok = true;
	DIR *d;

	if (!path_join(path, "%s/ns", n->pins) || !(d = opendir(path)))
		return true;
	while (next_ns(d, &cookie)) {
		if (all || is_dead(n, m, cookie))
			ok = gone_detach(n, m, cookie, err) && ok;
	}
	closedir(d);
	return ok;
}

void gone_collect(const struct node *n)
{
	struct maps m;

	if (!maps_open(n, &m, NULL))
		return; /* nothing was ever loaded */
	(void)detach_folders(n, &m, false, NULL);
	maps_close(&m);
}

/* Cgroups of proxies that run stay. */
static void remove_cgroups(const char *path)
{
	char leaf[NODE_PATH_MAX];
	struct dirent *e;
	DIR *d = opendir(path);

	while (d && (e = readdir(d))) {
		if (e->d_type == DT_DIR && e->d_name[0] != '.' && path_join(leaf, "%s/%s", path, e->d_name))
			rmdir(leaf);
	}
	if (d)
		closedir(d);
	rmdir(path);
}

bool gone_detach_all(const struct node *n, struct err *err)
{
	char path[NODE_PATH_MAX];
	struct maps m;
	bool ok = true;

	if (maps_open(n, &m, NULL)) {
		ok = detach_folders(n, &m, true, err);
		maps_close(&m);
	}
	MUST(path_join(path, "%s/ns", n->pins));
	rmdir(path);
	remove_cgroups(n->proxies);
	return remove_dir(n->pins, err) && ok;
}

static bool detach_named(const struct node *n, const struct maps *m, const struct spec *s, struct err *err)
{
	struct weft_workload w;
	uint64_t cookie = 0;

	while (workload_next(m, &cookie, &w)) {
		if (!strcmp(w.ns, s->ns) && !strcmp(w.name, s->name))
			return gone_detach(n, m, cookie, err);
	}
	return err_set(err, ERR_NOT_FOUND, "%s/%s is not attached on this machine; weft-capture status lists what is",
		       s->ns, s->name);
}

static bool detach_this(const struct node *n, const struct maps *m, struct err *err)
{
	struct weft_workload w;
	struct netns ns;

	if (!netns_read(&ns, err))
		return false;
	if (bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &ns.cookie, &w))
		return err_set(err, ERR_NOT_FOUND,
			       "this network namespace is not meshed; name the workload by --name, or --all");
	return gone_detach(n, m, ns.cookie, err);
}

bool gone_run(const struct options *o, struct err *err)
{
	struct spec s = {0};
	struct node n;
	struct maps m;
	bool ok;

	if (o->v[OPT_NAME] && !spec_identify(o, &s, err))
		return false;
	if (!node_open(o, false, &n, err)) {
		if (!o->v[OPT_ALL] || err->code != ERR_NOT_FOUND)
			return false;
		remove_cgroups(
		    n.proxies); /* nothing is attached; a proxy that ran on until now may have kept its cgroup */
		return true;
	}
	if (o->v[OPT_ALL])
		return gone_detach_all(&n, err);
	if (!maps_open(&n, &m, err))
		return false;
	ok = o->v[OPT_NAME] ? detach_named(&n, &m, &s, err) : detach_this(&n, &m, err);
	maps_close(&m);
	return ok;
}

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

/* What was taken away of one namespace, to be said. */
struct removed {
	char who[2 * WEFT_NAME_MAX + 2]; /* "<ns>/<name>"; empty: it had no row any more */
	size_t rows, pins;
	bool runs; /* its proxy does */
};

/* Unlinks what a folder of bpffs holds (no folders) and the folder; adds the number of pins to *ret_pins. */
static bool remove_dir(const char *path, size_t *ret_pins, struct err *err)
{
	char leaf[NODE_PATH_MAX];
	struct dirent *e;
	DIR *d = opendir(path);

	if (!d)
		return errno == ENOENT || err_errno(err, "%s", path);
	while ((e = readdir(d))) {
		if (e->d_name[0] != '.' && path_join(leaf, "%s/%s", path, e->d_name))
			*ret_pins += unlink(leaf) == 0;
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

/* Rows, links and pins of one namespace; its connections are plain from then on, those that the proxy carries go on. `m`: NULL when the maps
 * are not all there any more, so no program reads them. */
static bool detach(const struct node *n, const struct maps *m, uint64_t cookie, struct removed *ret, struct err *err)
{
	char path[NODE_PATH_MAX], instance[SPEC_INSTANCE_MAX] = "";
	struct weft_workload w;
	bool ok = true;

	*ret = (struct removed){0};
	if (m && bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &cookie, &w) == 0) {
		workload_instance(&w, instance);
		snprintf(ret->who, sizeof(ret->who), "%.63s/%.63s", w.ns, w.name);
		ret->runs = node_proxy_runs(n, instance);
	}
	if (m)
		ok = workload_forget(m, cookie, &ret->rows, err);
	node_ns_path(n, cookie, NULL, path);
	ok = remove_dir(path, &ret->pins, err) && ok;
	if (instance[0] && !in_use(m, instance)) {
		node_proxy_path(n, instance, NULL, path);
		rmdir(path); /* stays while the proxy runs */
	}
	return ok;
}

static void say(const struct removed *r)
{
	printf("%s: detached; %zu map rows and %zu pins removed%s\n",
	       r->who[0] ? r->who : "leftovers of an unfinished attach or detach", r->rows, r->pins,
	       r->runs ? "; its proxy still runs and carries the connections that it has: end it when they are done"
		       : "");
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

/* Only on proof: taking a living workload for dead would open it. The kernel says that the link's namespace is gone; or there is no row,
 * which is what an exec leaves that was killed early and a detach that was killed late: nothing is captured there, and under our lock nobody
 * is about to. */
static bool is_dead(const struct node *n, const struct maps *m, uint64_t cookie)
{
	char pin[NODE_PATH_MAX];
	struct weft_workload w;
	struct load_link link;

	if (bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &cookie, &w))
		return errno == ENOENT;
	node_ns_path(n, cookie, "weft_steer", pin);
	return load_link_read(pin, &link) && !link.attached;
}

/* Detaches the namespaces that have a folder, all or only the dead; says so when all go. `m`: NULL when the maps cannot be opened. */
static bool detach_folders(const struct node *n, const struct maps *m, bool all, size_t *ret_count, struct err *err)
{
	char path[NODE_PATH_MAX];
	struct removed r;
	uint64_t cookie;
	bool ok = true;
	DIR *d;

	if (!path_join(path, "%s/ns", n->pins) || !(d = opendir(path)))
		return true;
	while (next_ns(d, &cookie)) {
		if (!all && !is_dead(n, m, cookie))
			continue;
		ok = detach(n, m, cookie, &r, err) && ok;
		*ret_count += 1;
		if (all)
			say(&r);
	}
	closedir(d);
	return ok;
}

void gone_collect(const struct node *n)
{
	struct maps m;
	size_t count = 0;

	if (!maps_open(n, &m, NULL))
		return; /* nothing was ever loaded */
	(void)detach_folders(n, &m, false, &count, NULL);
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

/* Rows whose folder somebody else removed. */
static bool detach_rows(const struct node *n, const struct maps *m, size_t *ret_count, struct err *err)
{
	struct weft_workload w;
	uint64_t cookie = 0;
	bool ok = true;

	while (workload_next(m, &cookie, &w)) {
		struct removed r;

		ok = detach(n, m, cookie, &r, err) && ok;
		*ret_count += 1;
		say(&r);
	}
	return ok;
}

/* Every workload, and then the shared programs and maps. Whatever a killed exec or detach left of them. */
static bool detach_all(const struct node *n, struct err *err)
{
	char path[NODE_PATH_MAX];
	size_t count = 0, pins = 0;
	struct maps m;
	bool ok;

	if (maps_open(n, &m, NULL)) {
		ok = detach_folders(n, &m, true, &count, err) && detach_rows(n, &m, &count, err);
		maps_close(&m);
	} else {
		ok = detach_folders(n, NULL, true, &count, err);
	}
	MUST(path_join(path, "%s/ns", n->pins));
	rmdir(path);
	remove_cgroups(n->proxies);
	ok = remove_dir(n->pins, &pins, err) && ok;
	printf("%s: removed, with %zu pins of shared programs and maps; %zu namespaces were attached\n", n->pins, pins,
	       count);
	return ok;
}

static bool detach_named(const struct node *n, const struct maps *m, const struct spec *s, struct err *err)
{
	struct weft_workload w;
	struct removed r;
	uint64_t cookie;
	bool ok;

	if (!workload_find(m, s->ns, s->name, &cookie, &w, err))
		return false;
	ok = detach(n, m, cookie, &r, err);
	say(&r);
	return ok;
}

static bool detach_this(const struct node *n, const struct maps *m, struct err *err)
{
	struct weft_workload w;
	struct removed r;
	struct netns ns;
	bool ok;

	if (!netns_read(&ns, err))
		return false;
	if (bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &ns.cookie, &w))
		return err_set(err, ERR_NOT_FOUND,
			       "this network namespace is not meshed; name the workload by --name, or --all");
	ok = detach(n, m, ns.cookie, &r, err);
	say(&r);
	return ok;
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
		/* A proxy that ran on until now may have kept its cgroup. */
		remove_cgroups(n.proxies);
		printf("nothing is attached on this machine\n");
		return true;
	}
	if (o->v[OPT_ALL])
		return detach_all(&n, err);
	gone_collect(&n);
	if (!maps_open(&n, &m, err))
		return false;
	ok = o->v[OPT_NAME] ? detach_named(&n, &m, &s, err) : detach_this(&n, &m, err);
	maps_close(&m);
	return ok;
}

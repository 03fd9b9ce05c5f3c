/* SPDX-License-Identifier: Apache-2.0 */
/* confirm.c: see confirm.h. A deadline of 0 is what stays. */
#include "bpf/confirm.h"

#include "bpf/host.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>

static bool clear_deadline(const struct maps *m, uint64_t cookie, struct weft_workload *w, struct err *err)
{
	w->deadline_ns = 0;
	if (bpf_map_update_elem(m->fd[MAP_WORKLOADS], &cookie, w, BPF_EXIST))
		return err_errno(err, "map workloads");
	printf("%s/%s: confirmed; it stays captured until weft-capture detach, and its listed ports are refused while "
	       "no proxy serves\n",
	       w->ns, w->name);
	return true;
}

static bool confirm_one(const struct node *n, const struct maps *m, uint64_t cookie, struct weft_workload *w,
			struct err *err)
{
	char instance[SPEC_INSTANCE_MAX];
	uint32_t left;

	workload_instance(w, instance);
	switch (host_state(w, &left)) {
	case HOST_UNDO_NONE:
		printf("%s/%s: in a network namespace of its own; nothing to confirm\n", w->ns, w->name);
		return true;
	case HOST_UNDO_KEPT:
		printf("%s/%s: is confirmed already\n", w->ns, w->name);
		return true;
	case HOST_UNDO_DONE:
		return err_set(err, ERR_CONFLICT,
			       "%s/%s: too late: nobody confirmed in time and the attach undid itself; connections go "
			       "around the proxy. "
			       "To try again: weft-capture detach --name %s --namespace %s, then weft-capture exec "
			       "with a longer --undo-after",
			       w->ns, w->name, w->name, w->ns);
	case HOST_UNDO_WAITING:
		break;
	}
	if (!node_proxy_runs(n, instance))
		return err_set(
		    err, ERR_CONFLICT,
		    "%s/%s: its proxy does not run, so its listed ports are refused; nothing is confirmed. Start it by "
		    "the same "
		    "weft-capture exec (%u s are left), or take it out: weft-capture detach --name %s --namespace %s",
		    w->ns, w->name, left, w->name, w->ns);
	return clear_deadline(m, cookie, w, err);
}

static bool confirm_all(const struct node *n, const struct maps *m, struct err *err)
{
	struct weft_workload w;
	uint64_t cookie = 0;
	size_t host = 0;
	bool ok = true;
	struct err one;

	while (workload_next(m, &cookie, &w)) {
		if (!(w.flags & WEFT_LISTED))
			continue;
		host++;
		if (!confirm_one(n, m, cookie, &w, &one)) {
			*err = one;
			ok = false;
		}
	}
	if (!host)
		printf("nothing waits for confirmation\n");
	return ok;
}

static bool confirm_named(const struct node *n, const struct maps *m, const struct spec *s, struct err *err)
{
	struct weft_workload w;
	uint64_t cookie = 0;

	return workload_find(m, s->ns, s->name, &cookie, &w, err) && confirm_one(n, m, cookie, &w, err);
}

static bool confirm_this(const struct node *n, const struct maps *m, struct err *err)
{
	struct weft_workload w;
	struct netns ns;

	if (!netns_read(&ns, err))
		return false;
	if (bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &ns.cookie, &w))
		return err_set(err, ERR_NOT_FOUND,
			       "this network namespace is not meshed; name the workload by --name, or --all");
	return confirm_one(n, m, ns.cookie, &w, err);
}

bool confirm_run(const struct options *o, struct err *err)
{
	struct spec s = {0};
	struct node n;
	struct maps m;
	bool ok;

	if (o->v[OPT_NAME] && !spec_identify(o, &s, err))
		return false;
	if (!node_open(o, false, &n, err) || !maps_open(&n, &m, err))
		return false;
	if (o->v[OPT_ALL])
		ok = confirm_all(&n, &m, err);
	else
		ok = o->v[OPT_NAME] ? confirm_named(&n, &m, &s, err) : confirm_this(&n, &m, err);
	maps_close(&m);
	return ok;
}

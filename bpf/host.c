/* SPDX-License-Identifier: Apache-2.0 */
/* host.c: see host.h. */
#include "bpf/host.h"

#include "bpf/list.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND 1000000000ull

static uint64_t boot_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

enum host_undo host_state(const struct weft_workload *w, uint32_t *ret_left_s)
{
	uint64_t now = boot_ns();

	*ret_left_s = 0;
	if (!w->deadline_ns)
		return w->flags & WEFT_LISTED ? HOST_UNDO_KEPT : HOST_UNDO_NONE;
	if (now >= w->deadline_ns)
		return HOST_UNDO_DONE;
	*ret_left_s = (uint32_t)((w->deadline_ns - now + SECOND - 1) / SECOND);
	return HOST_UNDO_WAITING;
}

static uint32_t undo_s(const struct spec *s)
{
	return s->undo_s ? s->undo_s : SPEC_UNDO_DEFAULT;
}

bool host_deadline(const struct maps *m, const struct netns *ns, const struct spec *s, uint64_t *ret_ns,
		   struct err *err)
{
	uint64_t fresh = boot_ns() + undo_s(s) * SECOND;
	struct weft_workload w;
	uint32_t left;

	if (!ns->host) {
		*ret_ns = 0;
		return true;
	}
	if (bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &ns->cookie, &w)) {
		*ret_ns = fresh;
		return true;
	}
	if (host_state(&w, &left) == HOST_UNDO_DONE)
		return err_set(err, ERR_CONFLICT,
			       "the last attach here, of %s/%s, undid itself since nobody confirmed it, and "
			       "connections go around the proxy; "
			       "clear it by: weft-capture detach --name %s --namespace %s, then attach again and "
			       "confirm within %u s",
			       w.ns, w.name, w.name, w.ns, undo_s(s));
	if (w.list == list_sum(s)) {
		*ret_ns = w.deadline_ns;
		return true;
	}
	/* The rows of the new list come into force one by one, before workload_mesh(): under the deadline already. */
	w.deadline_ns = *ret_ns = fresh;
	return bpf_map_update_elem(m->fd[MAP_WORKLOADS], &ns->cookie, &w, BPF_EXIST) == 0 ||
	       err_errno(err, "map workloads");
}

/* "80,90,..." of the ports that have the bit; the first sixteen. */
static const char *port_text(const struct spec *s, uint32_t bit, char out[static 160])
{
	size_t n = 0, at = 0;

	out[0] = '\0';
	for (size_t i = 0; i < s->n_ports; i++) {
		if (!(s->ports[i].bits & bit))
			continue;
		if (n++ < 16)
			at += (size_t)snprintf(out + at, 160 - at, "%s%u", at ? "," : "", s->ports[i].port);
	}
	if (n > 16)
		snprintf(out + at, 160 - at, " and %zu more", n - 16);
	return n ? out : "none";
}

void host_say(const struct netns *ns, const struct spec *s, uint64_t deadline_ns)
{
	struct weft_workload w = {.deadline_ns = deadline_ns, .flags = WEFT_LISTED};
	char in[160], out[160];
	uint32_t left;

	if (!ns->host)
		return;
	fprintf(stderr,
		"weft-capture exec: the machine's own network namespace (%s): captured are new connections to local "
		"ports %s and to %s ports %s; nothing else\n",
		ns->host, port_text(s, WEFT_PORT_DECLARED, in),
		list_has_cidrs(s) ? "the listed destinations'" : "remote", port_text(s, WEFT_PORT_LIST_OUT, out));
	if (host_state(&w, &left) == HOST_UNDO_KEPT)
		fprintf(stderr, "weft-capture exec: the same list was confirmed before, and stays\n");
	else
		fprintf(stderr,
			"weft-capture exec: undoes itself in %u s unless you confirm that you can still work here: "
			"weft-capture confirm --name %s --namespace %s\n",
			left, s->name, s->ns);
}

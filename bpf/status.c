/* SPDX-License-Identifier: Apache-2.0 */
/* status.c: see status.h. One document, printed as a table or as JSON. */
#include "bpf/status.h"

#include "bpf/host.h"
#include "bpf/load.h"
#include "bpf/workload.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define PORTS_SHOWN 64

static const char *const counter_labels[WEFT_COUNT_COUNT] = {
#define COUNTER(name, label, text) [WEFT_COUNT_##name] = label,
#include "bpf/counter.tbl.h"
#undef COUNTER
};

static json_t *ports_json(const struct maps *m, uint64_t cookie, uint32_t bit)
{
	uint16_t port[PORTS_SHOWN];
	size_t n = workload_ports(m, cookie, bit, port, PORTS_SHOWN);
	json_t *list = json_array();

	for (size_t i = 0; i < MIN(n, PORTS_SHOWN); i++)
		json_array_append_new(list, json_integer(port[i]));
	return list;
}

static json_t *addresses_json(const struct weft_workload *w)
{
	json_t *list = json_array();
	char text[IP_TEXT_MAX];
	struct ip ip;

	if (workload_ip(w->addr4, &ip))
		json_array_append_new(list, json_string(ip_text(&ip, text)));
	if (workload_ip(w->addr6, &ip))
		json_array_append_new(list, json_string(ip_text(&ip, text)));
	return list;
}

static json_t *link_json(const char *pin, const char *name)
{
	struct load_link l;
	char tag[17];

	if (!load_link_read(pin, &l))
		return json_pack("{s:s, s:b}", "name", name, "attached", 0);
	for (size_t i = 0; i < sizeof(l.tag); i++)
		snprintf(tag + 2 * i, 3, "%02x", l.tag[i]);
	return json_pack("{s:s, s:b, s:i, s:s}", "name", name, "attached", (int)l.attached, "id", (int)l.prog_id, "tag",
			 tag);
}

static const char *const undo_words[] = {[HOST_UNDO_NONE] = "none",
					 [HOST_UNDO_KEPT] = "confirmed",
					 [HOST_UNDO_WAITING] = "waiting",
					 [HOST_UNDO_DONE] = "undone"};

/* The machine's own namespace: whether the attach stays. Empty in a workload's own. */
static json_t *undo_json(const struct weft_workload *w)
{
	uint32_t left;
	enum host_undo undo = host_state(w, &left);

	return json_pack("{s:s, s:i}", "state", undo_words[undo], "secondsLeft", (int)left);
}

static json_t *workload_json(const struct node *n, const struct maps *m, uint64_t cookie, const struct weft_workload *w)
{
	char instance[SPEC_INSTANCE_MAX], number[24], pin[NODE_PATH_MAX];
	json_t *counts = json_object();

	workload_instance(w, instance);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)cookie); /* 64 bits: text in JSON */
	node_ns_path(n, cookie, "weft_steer", pin);
	for (int i = 0; i < WEFT_COUNT_COUNT; i++)
		json_object_set_new(counts, counter_labels[i], json_integer((json_int_t)w->count[i]));
	return json_pack(
	    "{s:s, s:s, s:s, s:s, s:I, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "instance", instance,
	    "namespace", w->ns, "name", w->name, "cookie", number, "netns", (json_int_t)w->netns_ino, "proxyRunning",
	    (int)node_proxy_runs(n, instance), "host", (w->flags & WEFT_LISTED) != 0, "undo", undo_json(w), "addresses",
	    addresses_json(w), "ports", ports_json(m, cookie, WEFT_PORT_DECLARED), "capturedOutPorts",
	    ports_json(m, cookie, WEFT_PORT_LIST_OUT), "excludedInPorts", ports_json(m, cookie, WEFT_PORT_EXCLUDE_IN),
	    "excludedOutPorts", ports_json(m, cookie, WEFT_PORT_EXCLUDE_OUT), "steering", link_json(pin, "weft_steer"),
	    "counters", counts);
}

static json_t *document(json_t *workloads, json_t *programs)
{
	return json_pack("{s:s, s:o, s:o}", "version", WEFT_VERSION, "workloads", workloads, "programs", programs);
}

static json_t *gather(const struct node *n, const struct maps *m)
{
	json_t *workloads = json_array(), *programs = json_array();
	struct weft_workload w;
	uint64_t cookie = 0;

	while (workload_next(m, &cookie, &w))
		json_array_append_new(workloads, workload_json(n, m, cookie, &w));
	for (const char *const *name = load_shared_names; *name; name++) {
		char pin[NODE_PATH_MAX];

		if (path_join(pin, "%s/%s", n->pins, *name))
			json_array_append_new(programs, link_json(pin, *name));
	}
	return document(workloads, programs);
}

static json_int_t counted(const json_t *w, enum weft_counter c)
{
	return json_integer_value(json_object_get(json_object_get(w, "counters"), counter_labels[c]));
}

static const char *undo_text(const json_t *w, char out[static 16])
{
	const json_t *undo = json_object_get(w, "undo");
	json_int_t left = json_integer_value(json_object_get(undo, "secondsLeft"));

	if (!left)
		return json_is_true(json_object_get(w, "host")) ? json_string_value(json_object_get(undo, "state"))
								: "-";
	snprintf(out, 16, "in %d s", (int)left);
	return out;
}

/* What the table's words in the column UNDO ask for. */
static void print_hints(const json_t *doc)
{
	const json_t *w;
	size_t i;

	json_array_foreach(json_object_get(doc, "workloads"), i, w)
	{
		const char *state = json_string_value(json_object_get(json_object_get(w, "undo"), "state"));
		const char *name = json_string_value(json_object_get(w, "name")),
			   *ns = json_string_value(json_object_get(w, "namespace"));

		if (!strcmp(state, "waiting"))
			printf("keep it: weft-capture confirm --name %s --namespace %s\n", name, ns);
		else if (!strcmp(state, "undone"))
			printf("%s/%s: nobody confirmed in time: connections go around its proxy; clear it: "
			       "weft-capture detach --name %s --namespace %s\n",
			       ns, name, name, ns);
	}
}

static void print_table(const json_t *doc)
{
	const json_t *w;
	size_t i, attached = 0;

	printf("%-32s %-11s %-8s %-9s %10s %10s %10s %10s %10s\n", "INSTANCE", "NETNS", "PROXY", "UNDO", "CAPTURED",
	       "STEERED", "REFUSED", "EXCLUDED", "UDP");
	json_array_foreach(json_object_get(doc, "workloads"), i, w)
	{
		char undo[16];

		printf("%-32s %-11lld %-8s %-9s %10lld %10lld %10lld %10lld %10lld\n",
		       json_string_value(json_object_get(w, "instance")),
		       json_integer_value(json_object_get(w, "netns")),
		       json_is_true(json_object_get(w, "proxyRunning")) ? "running" : "gone", undo_text(w, undo),
		       counted(w, WEFT_COUNT_CAPTURED), counted(w, WEFT_COUNT_STEERED),
		       counted(w, WEFT_COUNT_DROPPED) + counted(w, WEFT_COUNT_UNDIVERTED),
		       counted(w, WEFT_COUNT_EXCLUDED_OUT) + counted(w, WEFT_COUNT_EXCLUDED_IN),
		       counted(w, WEFT_COUNT_UDP));
	}
	json_array_foreach(json_object_get(doc, "programs"), i, w) attached +=
	    json_is_true(json_object_get(w, "attached"));
	print_hints(doc);
	printf("\n%zu of %zu shared programs attached\n", attached, json_array_size(json_object_get(doc, "programs")));
}

bool status_run(const struct options *o, struct err *err)
{
	bool json = !strcmp(o->v[OPT_OUTPUT], "json");
	struct node n;
	struct maps m;
	json_t *doc;

	if (!json && strcmp(o->v[OPT_OUTPUT], "table"))
		return err_set(err, ERR_INVALID, "--output: %s is neither table nor json", o->v[OPT_OUTPUT]);
	if (node_open(o, false, &n, err)) {
		if (!maps_open(&n, &m, err))
			return false;
		doc = gather(&n, &m);
		maps_close(&m);
	} else if (err->code == ERR_NOT_FOUND) {
		doc = document(json_array(), json_array()); /* nothing was ever attached: that is an answer */
	} else {
		return false;
	}
	if (json) {
		json_dumpf(doc, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_table(doc);
	}
	json_decref(doc);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* daemon_reach.c: what the API says of services beside what was applied: their endpoints as proxies get them, with the leases
 * of the workloads behind them, and which proxies hold what. Reads, changes nothing. */
#include "control/daemon_impl.h"
#include "lib/proto/weft.pb-c.h"
#include "lib/proto/xds.pb-c.h"

#define ENDPOINTS_LISTED_MAX 10000

static const char *const unlinked = "no link: it ends with its lease";

static void add_workload(const struct daemon *d, json_t *row, const char *key)
{
	struct str ns, name;
	char space[STORE_NS_MAX];

	if (!str_cut(str_of(key), '/', &ns, &name) || ns.len >= sizeof(space))
		return;
	memcpy(space, ns.p, ns.len);
	space[ns.len] = 0;
	const struct registry_workload *w = registry_find(d->registry, space, name.p);
	uint64_t now = loop_now_ms(d->loop);
	if (!w)
		return;
	json_object_set_new(row, "workload", json_string(key));
	json_object_set_new(row, "lease_ms", json_integer(w->until_ms > now ? (json_int_t)(w->until_ms - now) : 0));
	json_object_set_new(row, "linked", json_boolean(!list_empty(&w->links)));
	json_object_set_new(row, "version", json_string(w->version));
	if (list_empty(&w->links))
		json_object_set_new(row, "why", json_string(unlinked));
}

static json_t *endpoint_json(const struct daemon *d, const Weft__V1__Endpoint *e)
{
	char text[IP_TEXT_MAX] = "?";
	json_t *ports = json_array();
	struct ip ip = {.len = 0};

	if (e->address.len == 4 || e->address.len == 16) {
		ip.len = (uint8_t)e->address.len;
		memcpy(ip.b, e->address.data, e->address.len);
		ip_text(&ip, text);
	}
	for (size_t i = 0; i < e->n_ports; i++)
		json_array_append_new(ports,
				      json_pack("{s:I, s:I}", "servicePort", (json_int_t)e->ports[i]->service_port,
						"port", (json_int_t)e->ports[i]->port));
	json_t *row = json_pack("{s:s, s:o, s:b, s:s, s:s}", "address", text, "ports", ports, "meshed", e->meshed,
				"identity", e->identity, "zone", e->zone);
	if (e->workload[0])
		add_workload(d, row, e->workload);
	return row;
}

static void add_endpoints(const struct daemon *d, const char *service, json_t *list)
{
	const struct pushed *res = push_get(d->push, PUSHED_ENDPOINTS, service);
	if (!res)
		return;
	Envoy__Service__Discovery__V3__Resource *r =
	    envoy__service__discovery__v3__resource__unpack(NULL, res->packed.len, (const uint8_t *)res->packed.p);
	Weft__V1__Endpoints *e =
	    r && r->resource ? weft__v1__endpoints__unpack(NULL, r->resource->value.len, r->resource->value.data)
			     : NULL;
	for (size_t i = 0; e && i < e->n_endpoints && json_array_size(list) < ENDPOINTS_LISTED_MAX; i++)
		json_array_append_new(list, endpoint_json(d, e->endpoints[i]));
	if (e)
		weft__v1__endpoints__free_unpacked(e, NULL);
	if (r)
		envoy__service__discovery__v3__resource__free_unpacked(r, NULL);
}

json_t *daemon_reach(void *ctx, const json_t *services)
{
	const struct daemon *d = ctx;
	json_t *endpoints = json_array(), *v;
	const char *name;

	json_object_foreach((json_t *)(uintptr_t)services, name, v) add_endpoints(d, name, endpoints);
	return json_pack("{s:o, s:o}", "endpoints", endpoints, "resources", push_holders_json(d->push, services));
}

/* Workloads that live but have no push stream: what they hold is not known. */
json_t *daemon_progress(void *ctx, const json_t *services)
{
	const struct daemon *d = ctx;
	json_t *answer = push_progress_json(d->push, services), *away = json_array();

	for (const struct registry_workload *w = registry_next(d->registry, NULL); w; w = registry_next(d->registry, w))
		if (!push_connected(d->push, w->key) && json_array_size(away) < PUSH_LISTED_MAX)
			json_array_append_new(away, json_string(w->key));
	json_object_set_new(answer, "notConnected", away);
	return answer;
}

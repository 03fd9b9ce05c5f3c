/* SPDX-License-Identifier: Apache-2.0 */
/* daemon_pages.c: what weftd says of itself: readiness, metrics, and for the API who is connected, who is registered, and how
 * far each resource is. Reads, changes nothing. */
#include "control/daemon_impl.h"
#include "lib/mem.h"
#include "lib/metric.h"

#include <openssl/x509.h>
#include <time.h>

/* --- status --- */

/* The row of this workload among the proxies that are connected, or a new one. */
static json_t *proxy_row(json_t *by_name, json_t *proxies, const char *key)
{
	json_t *row = json_object_get(by_name, key);
	if (row)
		return row;
	row = json_pack("{s:s, s:b}", "name", key, "connected", 0);
	json_array_append_new(proxies, row);
	return row;
}

static void add_workload(const struct daemon *d, json_t *row, const struct registry_workload *w)
{
	uint64_t now = loop_now_ms(d->loop);
	json_object_set_new(row, "registered", json_true());
	json_object_set_new(row, "identity", json_string(w->identity));
	json_object_set_new(row, "version", json_string(w->version));
	json_object_set_new(row, "addresses", registry_addresses_json(w));
	json_object_set_new(row, "linked", json_boolean(!list_empty(&w->links)));
	json_object_set_new(row, "lease_ms", json_integer(w->until_ms > now ? (json_int_t)(w->until_ms - now) : 0));
}

/* Seconds since 1970. */
static int64_t expiry_of(struct str der)
{
	const unsigned char *at = (const unsigned char *)der.p;
	X509 *x = d2i_X509(NULL, &at, (long)der.len);
	struct tm tm;
	int64_t end = x && ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) == 1 ? (int64_t)timegm(&tm) : 0;
	X509_free(x);
	return end;
}

static json_t *certificates_json(const struct daemon *d)
{
	return json_pack("[{s:s, s:I}, {s:s, s:I}, {s:s, s:I}]", "name", "root", "notAfter",
			 (json_int_t)expiry_of(ca_root_der(d->ca)), "name", "issuer", "notAfter",
			 (json_int_t)expiry_of(ca_issuer_der(d->ca)), "name", "weftd", "notAfter",
			 (json_int_t)credential_not_after(d->credential));
}

json_t *daemon_status(void *ctx)
{
	const struct daemon *d = ctx;
	json_t *status = push_status(d->push), *proxies = json_object_get(status, "proxies");
	json_t *by_name = json_object(), *row;
	size_t i;
	json_array_foreach(proxies, i, row)
	    json_object_set(by_name, json_string_value(json_object_get(row, "name")), row);
	for (const struct registry_workload *w = registry_next(d->registry, NULL); w; w = registry_next(d->registry, w))
		add_workload(d, proxy_row(by_name, proxies, w->key), w);
	json_decref(by_name);
	json_object_set_new(status, "certificates", certificates_json(d));
	json_object_set_new(status, "workloads",
			    json_pack("{s:I, s:I}", "registered", (json_int_t)registry_count(d->registry), "guarded",
				      (json_int_t)registry_guarded(d->registry)));
	return status;
}

/* --- metrics --- */

struct figure {
	struct metric_family family;
	uint64_t value;
};

static void put_figures(const struct figure *f, size_t n, struct buf *out)
{
	struct metrics *m = metrics_new();
	for (size_t i = 0; i < n; i++) {
		struct metric *at = metric_get(m, &f[i].family, NULL);
		if (f[i].family.kind == METRIC_COUNTER)
			metric_add(at, f[i].value);
		else
			metric_set(at, (int64_t)f[i].value);
	}
	metrics_page(m, out);
	metrics_free(&m);
}

#define COUNTER(name, help, value)                                   \
	{                                                            \
		{"weftd_" name, help, METRIC_COUNTER, {NULL}}, value \
	}
#define GAUGE(name, help, value)                                   \
	{                                                          \
		{"weftd_" name, help, METRIC_GAUGE, {NULL}}, value \
	}

static void metrics_text(const struct daemon *d, struct buf *out)
{
	const struct push_counts *n = push_counts(d->push);
	const struct figure figures[] = {
	    GAUGE("proxies", "Push streams of proxies that are open", n->sessions),
	    GAUGE("subscriptions", "Names that proxies subscribe to", n->subscriptions),
	    GAUGE("links", "Links of proxies that are open", talk_server_count(d->talks)),
	    GAUGE("workloads", "Workloads that are registered", registry_count(d->registry)),
	    GAUGE("workloads_guarded", "Workloads kept although their leases are over", registry_guarded(d->registry)),
	    GAUGE("services", "Services", compile_services(d->compile)),
	    GAUGE("certificate_expiry_seconds", "End of weftd's own certificate, seconds since 1970",
		  (uint64_t)credential_not_after(d->credential)),
	    COUNTER("push_requests_total", "Requests and answers of proxies", n->requests),
	    COUNTER("push_responses_total", "Responses sent to proxies", n->responses),
	    COUNTER("push_resources_total", "Resources in these", n->resources),
	    COUNTER("push_removals_total", "Names said to be gone or not there", n->removals),
	    COUNTER("push_bytes_total", "Bytes of responses", n->bytes),
	    COUNTER("push_acks_total", "Responses that were applied whole", n->acks),
	    COUNTER("push_nacks_total", "Responses of which something was refused", n->nacks),
	    COUNTER("push_stalled_total", "Proxies disconnected because they did not read or answer", n->stalled),
	};
	put_figures(figures, ARRAY_LEN(figures), out);
}

void daemon_page(void *ctx, struct http_exchange *x)
{
	struct daemon *d = ctx;
	struct str path = exchange_request(x)->path;
	struct buf body;
	if (str_is(path, "/live")) {
		exchange_reply(x, 200, "text/plain", STR("ok\n"));
	} else if (str_is(path, "/ready")) {
		exchange_reply(x, d->ready ? 200 : 503, "text/plain", d->ready ? STR("ok\n") : STR("stopping\n"));
	} else if (str_is(path, "/metrics")) {
		buf_init(&body, SIZE_MAX);
		metrics_text(d, &body);
		exchange_reply_buf(x, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
	} else {
		exchange_reply(x, 404, "text/plain", STR("there are /ready, /live and /metrics\n"));
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c: the families that a proxy exports. One registry a thread. */
#include "proxy/stats.h"

#include "lib/mem.h"
#include "lib/metric.h"

static const struct metric_family requests = {
    .name = "weft_requests_total",
    .help = "Requests that ended, by direction, service, status and the reason row of the end.",
    .kind = METRIC_COUNTER,
    .labels = {"direction", "service", "status", "reason"},
};
static const struct metric_family durations = {
    .name = "weft_request_duration_seconds",
    .help = "Time from a complete request head to the end of the exchange.",
    .kind = METRIC_HISTOGRAM,
    .labels = {"direction"},
};
static const struct metric_family tunnels = {
    .name = "weft_tcp_connections_closed_total",
    .help = "Opaque connections that ended, by direction, service and reason.",
    .kind = METRIC_COUNTER,
    .labels = {"direction", "service", "reason"},
};
static const struct metric_family tunnel_bytes = {
    .name = "weft_tcp_bytes_total",
    .help = "Bytes of ended opaque connections; way: to or from the upstream.",
    .kind = METRIC_COUNTER,
    .labels = {"direction", "way"},
};
static const struct metric_family ejections = {
    .name = "weft_ejections_total",
    .help = "Endpoints that were taken out of use for a while, by service and reason of the last failure.",
    .kind = METRIC_COUNTER,
    .labels = {"service", "reason"},
};
static const struct metric_family retries = {
    .name = "weft_retries_total",
    .help = "Further attempts, by reason of the one before; result: sent; fresh (a kept "
	    "connection had ended: on a new one, not counted); budget (none was made, it was spent).",
    .kind = METRIC_COUNTER,
    .labels = {"reason", "result"},
};
static const struct metric_family opened = {
    .name = "weft_connections_total",
    .help = "Downstream connections accepted.",
    .kind = METRIC_COUNTER,
    .labels = {"direction"},
};
static const struct metric_family closed = {
    .name = "weft_connections_closed_total",
    .help =
	"Downstream connections that ended; secured: mutual TLS with a mesh peer (or with the local application, no).",
    .kind = METRIC_COUNTER,
    .labels = {"direction", "secured", "reason"},
};

static const struct metric_family speculations = {
    .name = "weft_speculative_dials_total",
    .help = "Connections dialled while the client was silent, by what became of them: carried, unused, failed.",
    .kind = METRIC_COUNTER,
    .labels = {"direction", "outcome"},
};

static const struct metric_family sheds = {
    .name = "weft_memory_shed_total",
    .help =
	"Given up for want of memory: pooled (an idle upstream connection), idle_session (an idle HTTP/2 connection), "
	"stream (a request that held the most), connection (likewise, a whole one).",
    .kind = METRIC_COUNTER,
    .labels = {"what"},
};

#define RECENT      16  /* power of two */
#define SERVICE_MAX 128 /* "namespace/name" and a NUL; longer ones are looked up each time */

/* A set of weft_requests_total that was used of late: most requests end as others just did. */
struct recent {
	struct metric *metric; /* NULL: none */
	uint16_t status;
	enum direction direction;
	enum reason reason;
	char service[SERVICE_MAX];
};

struct stats {
	struct metrics *metrics;
	struct recent recent[RECENT];
	struct metric *duration[2];
	uint64_t open[2];
};

static const char *way_name(enum direction d)
{
	return d == OUTBOUND ? "outbound" : "inbound";
}

struct stats *stats_new(void)
{
	struct stats *s = NEW(struct stats);
	s->metrics = metrics_new();
	for (int d = 0; d < 2; d++) {
		struct str v[] = {str_of(way_name((enum direction)d))};
		s->duration[d] = metric_get(s->metrics, &durations, v);
	}
	return s;
}

void stats_free(struct stats **s)
{
	if (*s == NULL)
		return;
	metrics_free(&(*s)->metrics);
	FREE(s);
}

static struct metric *request_metric(struct stats *s, enum direction d, const char *service, uint16_t status,
				     enum reason r)
{
	/* Where the text lies is only where to look: it is compared. */
	struct recent *e = &s->recent[(status + 3u * r + 5u * d + ((uintptr_t)service >> 4)) % RECENT];
	if (e->metric != NULL && e->status == status && e->reason == r && e->direction == d &&
	    strcmp(e->service, service) == 0)
		return e->metric;
	char digits[STR_U64_MAX];
	struct str name = str_of(service);
	struct str v[] = {str_of(way_name(d)), name, str_from_u64(status, digits), str_of(reason_row(r)->label)};
	struct metric *m = metric_get(s->metrics, &requests, v);
	if (name.len < SERVICE_MAX) {
		*e = (struct recent){.metric = m, .status = status, .direction = d, .reason = r};
		memcpy(e->service, name.p, name.len);
	}
	return m;
}

void stats_request(struct stats *s, enum direction d, const char *service, uint16_t status, enum reason r,
		   uint64_t took_us)
{
	metric_add(request_metric(s, d, service, status, r), 1);
	metric_observe_us(s->duration[d], took_us);
}

void stats_tunnel(struct stats *s, enum direction d, const char *service, enum reason r, uint64_t up_bytes,
		  uint64_t down_bytes)
{
	struct str v[] = {str_of(way_name(d)), str_of(service), str_of(reason_row(r)->label)};
	metric_add(metric_get(s->metrics, &tunnels, v), 1);
	struct str to[] = {str_of(way_name(d)), STR("to")}, from[] = {str_of(way_name(d)), STR("from")};
	metric_add(metric_get(s->metrics, &tunnel_bytes, to), up_bytes);
	metric_add(metric_get(s->metrics, &tunnel_bytes, from), down_bytes);
}

void stats_speculation(struct stats *s, enum direction d, const char *outcome)
{
	struct str v[] = {str_of(way_name(d)), str_of(outcome)};
	metric_add(metric_get(s->metrics, &speculations, v), 1);
}

void stats_ejection(struct stats *s, const char *service, enum reason why)
{
	struct str v[] = {str_of(service), str_of(reason_row(why)->label)};
	metric_add(metric_get(s->metrics, &ejections, v), 1);
}

void stats_retry(struct stats *s, enum reason why, const char *result)
{
	struct str v[] = {str_of(reason_row(why)->label), str_of(result)};
	metric_add(metric_get(s->metrics, &retries, v), 1);
}

void stats_open(struct stats *s, enum direction d)
{
	struct str v[] = {str_of(way_name(d))};
	metric_add(metric_get(s->metrics, &opened, v), 1);
	s->open[d]++;
}

void stats_close(struct stats *s, enum direction d, bool secured, enum reason r)
{
	struct str v[] = {str_of(way_name(d)), secured ? STR("yes") : STR("no"), str_of(reason_row(r)->label)};
	metric_add(metric_get(s->metrics, &closed, v), 1);
	MUST(s->open[d] > 0);
	s->open[d]--;
}

void stats_shed(struct stats *s, const char *what, size_t n)
{
	struct str v[] = {str_of(what)};
	if (n > 0)
		metric_add(metric_get(s->metrics, &sheds, v), n);
}

void stats_gauge(struct stats *s, const char *name, int64_t v)
{
	static const struct metric_family gauges[] = {
	    {.name = "weft_identity_expiry_seconds",
	     .help = "End of the certificate in force, seconds since 1970.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_config_services", .help = "Services that this proxy holds.", .kind = METRIC_GAUGE},
	    {.name = "weft_config_workloads", .help = "Workloads that this proxy holds.", .kind = METRIC_GAUGE},
	    {.name = "weft_config_serial",
	     .help = "Count of configuration snapshots since the start.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_upstream_connections", .help = "Connections in the upstream pools.", .kind = METRIC_GAUGE},
	    {.name = "weft_endpoints",
	     .help = "Endpoints of which live state is kept, by each thread.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_endpoints_ejected",
	     .help = "Endpoints that are ejected now, by each thread.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_handshakes", .help = "TLS handshakes of callers that have begun.", .kind = METRIC_GAUGE},
	    {.name = "weft_handshakes_waiting",
	     .help = "TLS handshakes of callers that wait for their turn.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_connections_open", .help = "Downstream connections that are open.", .kind = METRIC_GAUGE},
	    {.name = "weft_memory_limit_bytes",
	     .help = "Memory that the worker may use; 0: no limit.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_memory_used_bytes",
	     .help = "Private memory of the worker, as last measured.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_memory_level",
	     .help = "0: none, 1: shed (85 % of the limit), 2: close (95 %), 3: refuse (98 %).",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_memory_buffers_bytes",
	     .help = "Of it: buffers and arenas, spare ones too.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_memory_windows_bytes",
	     .help = "HTTP/2: bytes that came and were not passed on, and credit beyond the first windows.",
	     .kind = METRIC_GAUGE},
	    {.name = "weft_control_connected", .help = "1 while the link to weftd is up.", .kind = METRIC_GAUGE},
	};
	for (size_t i = 0; i < ARRAY_LEN(gauges); i++)
		if (str_eq(str_of(gauges[i].name), str_of(name)))
			metric_set(metric_get(s->metrics, &gauges[i], NULL), v);
}

void stats_sum(struct stats *into, const struct stats *from)
{
	metrics_sum(into->metrics, from->metrics);
	for (size_t d = 0; d < ARRAY_LEN(into->open); d++)
		into->open[d] += from->open[d];
}

void stats_page(const struct stats *s, struct buf *out)
{
	stats_gauge((struct stats *)s, "weft_connections_open", (int64_t)(s->open[0] + s->open[1]));
	metrics_page(s->metrics, out);
}

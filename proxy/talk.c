/* SPDX-License-Identifier: Apache-2.0 */
/* talk.c: registration and heartbeats. When the call ends but the uplink stays, it is tried again after a back-off (1 s
 * doubling to 15 s): a refusal stands until weftd thinks otherwise, and meanwhile the configuration goes on. */
#include "proxy/talk.h"

#include "lib/event.h"
#include "lib/grpc.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "lib/proto_arena.h"
#include "lib/utf8.h"
#include "proxy/uplink.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS   15000
#define UNPACKED_MAX     65536 /* bytes of a message of weftd's */

struct talk {
	struct talk_cfg cfg;
	struct http_session *session; /* NULL while the uplink is down */
	struct grpc_call *call;       /* NULL while it waits for another try */
	struct timer beat, retry;
	uint64_t backoff_ms;
	uint64_t beat_ms; /* between two heartbeats */
	uint64_t sequence, acknowledged;
	bool over; /* goodbye was said */
	bool skew_said;
	char refused[TALK_REASON_MAX]; /* "" nothing is wrong */
};

/* --- what we say --- */

static bool send_up(struct talk *t, const Weft__V1__LinkUp *m)
{
	size_t len = weft__v1__link_up__get_packed_size(m);
	uint8_t *bytes = mem_alloc(len + 1);
	weft__v1__link_up__pack(m, bytes);
	bool ok = grpc_send(t->call, str_make(bytes, len));
	mem_free(bytes);
	return ok;
}

static bool send_register(struct talk *t)
{
	const struct proxy_options *o = t->cfg.options;
	Weft__V1__LinkUp up = WEFT__V1__LINK_UP__INIT;
	Weft__V1__Register r = WEFT__V1__REGISTER__INIT;
	Weft__V1__StringPair label[OPTIONS_LABELS_MAX], *labels[OPTIONS_LABELS_MAX];
	Weft__V1__WorkloadPort port[OPTIONS_PORTS_MAX], *ports[OPTIONS_PORTS_MAX];
	char version[] = "weft-proxy " WEFT_VERSION;
	for (size_t i = 0; i < o->n_labels; i++) {
		weft__v1__string_pair__init(labels[i] = &label[i]);
		label[i].key = (char *)(uintptr_t)o->labels[i].key;
		label[i].value = (char *)(uintptr_t)o->labels[i].value;
	}
	for (size_t i = 0; i < o->n_ports; i++) {
		weft__v1__workload_port__init(ports[i] = &port[i]);
		port[i].port = o->ports[i].port;
		port[i].protocol = (Weft__V1__Protocol)o->ports[i].protocol;
		port[i].http_policy = o->ports[i].http_policy;
	}
	r.instance = (char *)(uintptr_t)o->instance;
	r.labels = labels;
	r.n_labels = o->n_labels;
	r.ports = ports;
	r.n_ports = o->n_ports;
	r.version = version;
	r.zone = (char *)(uintptr_t)(o->zone ? o->zone : "");
	up.kind_case = WEFT__V1__LINK_UP__KIND_REGISTER;
	up.register_ = &r;
	return send_up(t, &up);
}

static void on_beat(struct timer *timer)
{
	struct talk *t = CONTAINER_OF(timer, struct talk, beat);
	Weft__V1__LinkUp up = WEFT__V1__LINK_UP__INIT;
	Weft__V1__Heartbeat h = WEFT__V1__HEARTBEAT__INIT;
	struct err err;
	timer_start(&t->beat, t->beat_ms);
	h.sequence = ++t->sequence;
	up.kind_case = WEFT__V1__LINK_UP__KIND_HEARTBEAT;
	up.heartbeat = &h;
	if (t->sequence - t->acknowledged > TALK_LOST || !send_up(t, &up)) {
		err_set(&err, ERR_TIMEOUT, "weftd has not answered a heartbeat for %llu ms",
			(unsigned long long)(TALK_LOST * t->beat_ms));
		t->cfg.on_dead(t->cfg.ctx, &err);
	}
}

/* --- what weftd says --- */

/* There is no call any more; another one after a back-off. */
static void again(struct talk *t)
{
	timer_stop(&t->beat);
	timer_start(&t->retry, t->backoff_ms / 2 + uplink_jitter(t->backoff_ms / 2));
	t->backoff_ms = MIN(2 * t->backoff_ms, BACKOFF_MAX_MS);
}

static void take_registered(struct talk *t, const Weft__V1__Registered *r)
{
	char text[IP_TEXT_MAX] = "-";
	struct ip ip = {.len = (uint8_t)r->address.len};
	if (ip.len == 4 || (ip.len == 16 && r->address.len == 16)) {
		memcpy(ip.b, r->address.data, ip.len);
		ip_text(&ip, text);
	}
	t->refused[0] = '\0';
	t->backoff_ms = BACKOFF_FIRST_MS;
	/* Two may be lost before the lease runs out, however short weftd keeps it. */
	if (r->lease_s > 0 && r->lease_s < 3 * TALK_HEARTBEAT_MS / 1000)
		t->beat_ms = (uint64_t)r->lease_s * 1000 / 3;
	timer_start(&t->beat, t->beat_ms);
	event(EV_REGISTERED, "workload=\"%s\" address=%s lease_s=%u", r->workload, text, r->lease_s);
	t->cfg.on_registered(t->cfg.ctx, r->lease_s);
}

static void take_refused(struct talk *t, const char *reason)
{
	snprintf(t->refused, sizeof(t->refused), "%.*s",
		 (int)utf8_cut(reason, MIN(strlen(reason), TALK_REASON_MAX - 1)), reason);
	utf8_clean(t->refused);
	if (!t->refused[0])
		strcpy(t->refused, "refused without a reason");
	event(EV_REGISTRATION_REFUSED, "reason=\"%s\"", t->refused);
}

/* Clocks far apart make fresh certificates look expired or not yet valid: better said than searched for. */
static void look_at_clock(struct talk *t, int64_t theirs_ms)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t off = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	off = theirs_ms > 0 && theirs_ms < INT64_MAX / 2 ? off - theirs_ms : 0;
	bool skewed = llabs(off) > TALK_SKEW_MS;
	if (skewed && !t->skew_said)
		event(EV_CLOCK_SKEW,
		      "off_s=%lld text=\"this clock is %lld s %s weftd's: certificates may look invalid\"",
		      (long long)(off / 1000), llabs(off) / 1000, off > 0 ? "ahead of" : "behind");
	t->skew_said = skewed;
}

static void take(struct talk *t, const Weft__V1__LinkDown *m)
{
	switch (m->kind_case) {
	case WEFT__V1__LINK_DOWN__KIND_REGISTERED:
		take_registered(t, m->registered);
		break;
	case WEFT__V1__LINK_DOWN__KIND_REFUSED:
		take_refused(t, m->refused->reason);
		grpc_cancel(&t->call); /* asked again later, by a new call */
		again(t);
		break;
	case WEFT__V1__LINK_DOWN__KIND_HEARTBEAT_ACK:
		t->acknowledged = MIN(m->heartbeat_ack->sequence, t->sequence);
		look_at_clock(t, m->heartbeat_ack->now_ms);
		break;
	case WEFT__V1__LINK_DOWN__KIND__NOT_SET: /* something newer than this proxy */
	case _WEFT__V1__LINK_DOWN__KIND__CASE_IS_INT_SIZE:
		break;
	}
}

static void on_message(void *ctx, struct grpc_call *call, struct str message)
{
	struct talk *t = ctx;
	struct proto_arena memory;
	proto_arena_init(&memory, UNPACKED_MAX);
	Weft__V1__LinkDown *m = proto_unpack(&memory, &weft__v1__link_down__descriptor, message, NULL);
	if (m)
		take(t, m);
	proto_arena_done(&memory); /* one that talks nonsense does not answer heartbeats: that ends it */
}

static void on_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	struct talk *t = ctx;
	t->call = NULL;
	timer_stop(&t->beat);
	if (t->over || !t->session)
		return;
	if (status == GRPC_PERMISSION_DENIED || status == GRPC_INVALID_ARGUMENT)
		take_refused(t, text && text[0] ? text : "refused without a reason");
	again(t);
}

static const struct grpc_call_events events = {.on_message = on_message, .on_end = on_end};

/* --- its life --- */

static void begin(struct timer *timer)
{
	struct talk *t = CONTAINER_OF(timer, struct talk, retry);
	if (!t->session || t->over)
		return;
	t->sequence = t->acknowledged = 0;
	t->call =
	    codec_h2.room(t->session) ? grpc_call_new(t->session, t->cfg.authority, TALK_PATH, NULL, &events, t) : NULL;
	if (!t->call || !send_register(t)) {
		if (t->call)
			grpc_cancel(&t->call);
		timer_start(&t->retry, t->backoff_ms);
		return;
	}
	t->beat_ms = TALK_HEARTBEAT_MS;
	timer_start(&t->beat, t->beat_ms);
}

struct talk *talk_new(const struct talk_cfg *cfg)
{
	struct talk *t = NEW(struct talk);
	t->cfg = *cfg;
	t->backoff_ms = BACKOFF_FIRST_MS;
	timer_init(&t->beat, cfg->loop, on_beat);
	timer_init(&t->retry, cfg->loop, begin);
	return t;
}

void talk_free(struct talk **t)
{
	if (*t)
		talk_stop(*t);
	FREE(t);
}

void talk_start(struct talk *t, struct http_session *s)
{
	talk_stop(t);
	t->session = s;
	t->backoff_ms = BACKOFF_FIRST_MS;
	begin(&t->retry);
}

void talk_stop(struct talk *t)
{
	t->session = NULL;
	timer_stop(&t->beat);
	timer_stop(&t->retry);
	if (t->call)
		grpc_cancel(&t->call);
}

void talk_goodbye(struct talk *t)
{
	Weft__V1__LinkUp up = WEFT__V1__LINK_UP__INIT;
	Weft__V1__Goodbye bye = WEFT__V1__GOODBYE__INIT;
	t->over = true;
	timer_stop(&t->beat);
	timer_stop(&t->retry);
	up.kind_case = WEFT__V1__LINK_UP__KIND_GOODBYE;
	up.goodbye = &bye;
	if (t->call && send_up(t, &up))
		grpc_half_close(t->call);
}

const char *talk_refused(const struct talk *t)
{
	return t->refused[0] ? t->refused : NULL;
}

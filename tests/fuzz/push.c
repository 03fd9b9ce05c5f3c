/* SPDX-License-Identifier: Apache-2.0 */
/* push.c: fuzzes what weftd pushes: a DeltaDiscoveryResponse of any bytes, against a proxy that follows two addresses. What
 * was taken must be buildable into a snapshot, and readable there. */
#include "lib/event.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/subscribe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_send(void *ctx, struct str message)
{
	MUST(message.len > 0);
}

static struct loop *the_loop(void)
{
	static struct loop *loop;
	struct err err;
	if (!loop) {
		event_set_level(EVENT_ERROR);
		loop = loop_new(&err);
		MUST(loop != NULL);
	}
	return loop;
}

static void look(struct config *c, const char *at)
{
	struct addr to;
	struct target t;
	MUST(addr_parse(str_of(at), &to));
	snapshot_find(config_snapshot(c), &to, &t);
	if (t.kind == TARGET_SERVICE)
		for (size_t i = 0; i < t.port->endpoints->len; i++)
			MUST(!t.port->endpoints->v[i].meshed || t.port->endpoints->v[i].identity);
	if (t.kind == TARGET_WORKLOAD)
		MUST(!t.direct.meshed || t.direct.identity);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c = config_new(the_loop());
	struct subscribe *s = subscribe_new(the_loop(), c, "client-1", "shop/client");
	struct ip ip;
	struct err err;
	MUST(ip_parse(STR("10.9.0.1"), &ip));
	config_follow(c, &ip);
	MUST(ip_parse(STR("fd00::1"), &ip));
	config_follow(c, &ip);
	subscribe_start(s, on_send, NULL);
	/* Several responses in one input: each behind its length (two bytes). */
	while (size > 2) {
		size_t n = MIN((size_t)data[0] << 8 | data[1], size - 2);
		if (!subscribe_message(s, str_make(data + 2, n), &err))
			break;
		data += 2 + n;
		size -= 2 + n;
	}
	config_commit(c);
	look(c, "10.9.0.1:80");
	look(c, "[fd00::1]:80");
	json_t *dump = config_dump(c);
	MUST(dump != NULL);
	json_decref(dump);
	subscribe_free(&s);
	config_free(&c);
	return 0;
}

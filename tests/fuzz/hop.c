/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz hop: a message of HTTP/1 that the strict parser took goes over the hop: hop_encode(), the field list of HTTP/2 as the codec makes
 * it, what nghttp2 would let through, the head as the other sidecar reads it, hop_decode(). It must come out as it went in, or be
 * refused for a bound that it is beyond; and encoding must be undone by decoding alone (a second attempt on another kind of hop).
 *
 * The first byte picks what: Q a request, A an answer, H, C, U an answer to HEAD, CONNECT or an upgrade. */
#include "proxy/hop.h"

#include "lib/http/h2_head.h"
#include "lib/mem.h"
#include "proxy/pool.h"
#include "tests/unit/lib/http1_read.h"

#include <stdio.h>

#define DUMP_MAX (16u << 10) /* dumps are compared in one piece */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What HTTP/2 says in one way only is made so before the comparison; it is the same message all the same. */
static void as_the_hop_says_it(struct message *m, bool cookies)
{
	if (m->framing == FRAMING_TUNNEL) /* "Content-Length: 0" of a CONNECT */
		m->has_length = false;
	if (m->framing == FRAMING_TUNNEL && !m->request) { /* a 101 is a 200 there, and a 101 again at the end */
		m->status = m->status == 101 ? 200 : m->status;
		m->reason = STR("");
	}
	if (m->reason.len > 512 / 3) /* of longer phrases some more may come through */
		m->reason.len = 512 / 3;
	if (m->request && str_ieq(m->scheme, STR("https")))
		m->scheme = STR("https");
	else if (m->request)
		m->scheme = STR("http");
	if (!m->request)
		message_del(m, "host");
	if (!cookies)
		message_del(m, "cookie");
}

/* Several are joined on the way (RFC 9113 8.2.3). */
static bool one_cookie(const struct message *m)
{
	size_t n = 0;
	for (size_t i = 0; i < m->fields.len; i++)
		n += str_ieq(m->fields.v[i].name, STR("cookie"));
	return n <= 1;
}

/* Spelling is compared only while the field that says it had room for all of it. */
static void lower_names(struct message *m)
{
	for (size_t i = 0; i < m->fields.len; i++) {
		struct str *name = &m->fields.v[i].name;
		char *p = arena_alloc(m->arena, name->len);
		MUST(p != NULL);
		for (size_t k = 0; k < name->len; k++)
			p[k] = (char)(name->p[k] >= 'A' && name->p[k] <= 'Z' ? name->p[k] | 0x20 : name->p[k]);
		name->p = p;
	}
}

static struct str dump(struct message *m, bool cookies, struct buf *to)
{
	as_the_hop_says_it(m, cookies);
	buf_init(to, SIZE_MAX);
	http1_dump_head(to, m);
	buf_printf(to, " %d", m->absolute_form);
	return to->len <= DUMP_MAX ? buf_pullup(to, to->len) : (struct str){0};
}

/* The fields of a copy, so that what is done to it does not reach the message. */
static struct message copy_of(const struct message *m, struct arena *a)
{
	struct message copy = *m;
	copy.arena = a;
	copy.fields = (struct fields){0};
	for (size_t i = 0; i < m->fields.len; i++)
		MUST(fields_add(&copy.fields, a, m->fields.v[i].name, m->fields.v[i].value, true));
	return copy;
}

static void check_same(const struct message *was, const struct message *is, bool spelt)
{
	struct message a = copy_of(was, is->arena), b = copy_of(is, is->arena);
	struct buf before, after;
	if (!spelt)
		lower_names(&a), lower_names(&b);
	bool cookies = one_cookie(was);
	struct str sent = dump(&a, cookies, &before), came = dump(&b, cookies, &after);
	if (!str_eq(sent, came))
		fprintf(stderr, "sent " STR_FMT "\ncame " STR_FMT "\n", STR_ARG(sent), STR_ARG(came));
	MUST(str_eq(sent, came));
	buf_done(&before);
	buf_done(&after);
}

static bool beyond_bounds(const struct message *m)
{
	return m->authority.len > 255 + 6;
}

/* The list as nghttp2 gives it out at the other end. */
static struct message *over_http2(const struct message *m, struct http1_asked asked, struct arena *a)
{
	struct h2_nv nv;
	struct h2_head h;
	struct http_limits lim = pool_limits(0);
	h2_nv_message(&nv, m);
	h2_head_begin(&h, a, m->request, false);
	for (size_t i = 0; i < nv.n; i++) {
		char *name = mem_dup(nv.v[i].name, nv.v[i].namelen);
		for (size_t k = 0; k < nv.v[i].namelen; k++)
			name[k] = (char)(name[k] >= 'A' && name[k] <= 'Z' ? name[k] | 0x20 : name[k]);
		if (name[0] != ':')
			MUST(nghttp2_check_header_name((uint8_t *)name, nv.v[i].namelen));
		MUST(nghttp2_check_header_value(nv.v[i].value, nv.v[i].valuelen));
		h2_head_field(&h, &lim, arena_str(a, str_make(name, nv.v[i].namelen)),
			      str_make(nv.v[i].value, nv.v[i].valuelen));
		mem_free(name);
	}
	h2_nv_done(&nv);
	bool tunnel = asked.connect || asked.upgrade.len;
	h2_head_end(&h, &lim, m->framing == FRAMING_NONE && m->status / 100 != 1,
		    asked.head ? H2_ASKED_HEAD
		    : tunnel   ? H2_ASKED_CONNECT
			       : H2_ASKED_OTHER);
	MUST(h.bad == REASON_NONE || beyond_bounds(m));
	return h.bad == REASON_NONE ? h.m : NULL;
}

static void check(struct message *m, struct http1_asked asked)
{
	struct arena arena;
	bool unprocessed;
	arena_init(&arena, 1u << 20);
	hop_strip(m);
	struct message sent = copy_of(m, &arena);
	if (asked.upgrade.len && m->status / 100 == 2)
		MUST(hop_add_declined(&sent));
	MUST(hop_encode(&sent));
	const struct field *spelling = message_get(&sent, "x-weft-case");
	bool spelt =
	    !spelling || spelling->value.len < 512; /* names are longer seldom; beyond it some may be left out */
	struct message back = copy_of(&sent, &arena), *came = over_http2(&sent, asked, &arena);
	if (came && hop_decode(came, &unprocessed)) {
		MUST(!unprocessed);
		check_same(m, came, spelt);
	}
	if (m->request) { /* a second attempt, elsewhere */
		MUST(hop_decode(&back, NULL));
		check_same(m, &back, spelt);
	}
	arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http1_read r;
	if (size < 2 || size > 16384)
		return 0;
	struct http1_asked asked = {.head = data[0] == 'H', .connect = data[0] == 'C'};
	if (data[0] == 'U')
		asked.upgrade = STR("foo/2, websocket");
	http1_read(&r, str_make(data + 1, size - 1), 0, SIZE_MAX, data[0] == 'Q', asked);
	if (r.m)
		check(r.m, asked);
	http1_read_done(&r);
	return 0;
}

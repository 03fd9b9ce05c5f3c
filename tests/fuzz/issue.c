/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz issue: who may become whom. A sequence of IssueRequests on a fresh store, of any bytes or with credentials that are right, spent,
 * hurt or of others. A certificate comes only for the identity of the credential, only with exactly one, and never for weftd's own; a
 * refusal says why. An input is a sequence of requests: three bytes that say what is in it, and the bytes that those ask for. */
#include "control/issue.h"

#include "certs/csr.h"
#include "certs/key.h"
#include "certs/ossl.h"
#include "certs/peer.h"
#include "certs/token.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/world/store_world.h"

#include <stdlib.h>
#include <time.h>

#define REQUESTS_MAX 8
#define WEB          "spiffe://" STORE_WORLD_TD "/ns/shop/sa/web"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	struct ca *ca;
	uint8_t *csr;
	size_t csr_len;
	struct token token, expired;
} fixed;

static uint64_t now_ms(void)
{
	static uint64_t now;
	return now += 3600 * 1000; /* who was refused need not wait */
}

static struct token token_of(char digit, int64_t not_after)
{
	struct token t = {.not_after = not_after};
	memset(t.id, digit, sizeof(t.id) - 1);
	memset(t.secret, digit, sizeof(t.secret) - 1);
	strcpy(t.trust_domain, STORE_WORLD_TD);
	strcpy(t.ns, "shop");
	strcpy(t.sa, "web");
	return t;
}

static void make_fixed(void)
{
	EVP_PKEY *key = key_new(NULL);
	fixed.ca = ca_new(store_world_ca(), NULL);
	MUST(fixed.ca && key && csr_make(key, &fixed.csr, &fixed.csr_len, NULL));
	EVP_PKEY_free(key);
	fixed.token = token_of('a', (int64_t)time(NULL) + 86400);
	fixed.expired = token_of('e', 1);
}

static void add_token(struct store *s, const struct token *t)
{
	struct store_token row = {.not_after = t->not_after};
	strcpy(row.id, t->id);
	strcpy(row.ns, t->ns);
	strcpy(row.sa, t->sa);
	token_secret_hash(t->secret, row.secret_hash);
	MUST(store_token_add(s, &row, NULL));
}

struct world {
	struct store *store;
	struct issue *issue;
	char given[2][65]; /* the last rejoin secret, and the one before */
};

/* Who the answer says the caller is; it must be `id`, as must the certificate. */
static void check_issued(struct world *w, const struct issue_answer *a, const char *id)
{
	struct err err;
	struct spiffe seen;
	Weft__V1__IssueResponse *m = weft__v1__issue_response__unpack(NULL, a->len, a->message);
	MUST(m && m->n_chain == 2 && m->n_roots == 1 && strcmp(m->identity, id) == 0);
	X509 *leaf = ossl_cert(str_make(m->chain[0].data, m->chain[0].len), &err);
	MUST(leaf && peer_identity(leaf, STR(STORE_WORLD_TD), &seen, &err) && strcmp(seen.id, id) == 0);
	MUST(ossl_time(X509_get0_notAfter(leaf)) <= (int64_t)time(NULL) + 600);
	X509_free(leaf);
	if (m->rejoin[0]) {
		memcpy(w->given[1], w->given[0], sizeof(w->given[0]));
		strcpy(w->given[0], m->rejoin);
	}
	weft__v1__issue_response__free_unpacked(m, NULL);
}

static const char *token_text(size_t how, struct input *in, char out[static TOKEN_TEXT_MAX])
{
	struct token t = how == 2 ? fixed.expired : fixed.token;
	if (how == 0)
		return "";
	if (how == 3)
		t.secret[input_byte(in) % 64] = '0';
	if (how == 4)
		strcpy(t.sa, "admin");
	if (how >= 5) {
		struct str raw = input_short(in);
		snprintf(out, TOKEN_TEXT_MAX, "weft1." STR_FMT, STR_ARG(raw));
	} else
		MUST(token_format(&t, out, NULL));
	return out;
}

static const struct spiffe *certificate(size_t how, struct spiffe *id)
{
	static const char *const ids[] = {NULL, WEB, "spiffe://other.test/ns/shop/sa/web",
					  "spiffe://" STORE_WORLD_TD "/ns/weft-system/sa/weftd"};
	return ids[how & 3] && spiffe_parse(str_of(ids[how & 3]), id, NULL) ? id : NULL;
}

static void ask(struct world *w, struct input *in)
{
	static const char *const instances[] = {"web-1", "web-2", "", "No"};
	static uint8_t packed[ISSUE_REQUEST_MAX + 512];
	Weft__V1__IssueRequest m = WEFT__V1__ISSUE_REQUEST__INIT;
	size_t what = input_byte(in), token = input_byte(in) & 7, how = input_byte(in);
	char text[TOKEN_TEXT_MAX];
	struct spiffe id;
	struct issue_from from = {.id = certificate(how, &id), .lapsed = how & 4};
	struct issue_answer a;
	MUST(ip_parse(STR("10.0.0.5"), &from.ip));
	struct str csr = what & 8 ? input_long(in) : str_make(fixed.csr, fixed.csr_len);
	m.csr = (ProtobufCBinaryData){MIN(csr.len, 8192), (uint8_t *)(uintptr_t)csr.p};
	m.token = (char *)(uintptr_t)token_text(token, in, text);
	m.rejoin = how & 8 ? w->given[how >> 4 & 1] : (char *)(uintptr_t) "";
	m.instance = (char *)(uintptr_t)instances[what & 3];
	struct str bytes = input_long(in);
	bool any = what & 16, valid = token == 1, rejoin = m.rejoin[0];
	if (!any) {
		MUST(weft__v1__issue_request__get_packed_size(&m) <= sizeof(packed));
		bytes = str_make(packed, weft__v1__issue_request__pack(&m, packed));
	}
	issue_answer(w->issue, &from, bytes, &a);
	MUST((a.status == GRPC_OK) == (a.message != NULL) && (a.message || a.text[0]));
	if (a.message) {
		MUST(any || (token != 0) + rejoin + (from.id != NULL) == 1);
		MUST(any || token == 0 || valid);
		check_issued(w, &a, WEB); /* all there is */
		MUST(!from.id || strcmp(from.id->id, WEB) == 0);
	}
	issue_answer_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	if (!fixed.ca)
		make_fixed();
	struct world w = {.store = store_world_open()};
	struct issue_cfg cfg = {.store = w.store, .ca = fixed.ca, .lifetime_s = 600, .now_ms = now_ms};
	add_token(w.store, &fixed.token);
	add_token(w.store, &fixed.expired);
	w.issue = issue_new(&cfg, NULL);
	for (int i = 0; i < REQUESTS_MAX && in.left > 0; i++)
		ask(&w, &in);
	issue_free(&w.issue);
	store_world_close(&w.store);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* issue.c: deciding over one request, in the order of steps[]. What is cheap and needs no secret comes first; the store is written
 * last but for rejoin, where the write is the check (a failure behind it costs nothing: the presented secret stays valid). */
#include "control/issue.h"

#include "certs/ca.h"
#include "certs/csr.h"
#include "certs/ossl.h"
#include "certs/peer.h"
#include "certs/token.h"
#include "control/issue_limit.h"
#include "control/store.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "lib/proto_arena.h"

#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define ISSUE_MAGIC  0x69737375u
#define VERSION_MAX  63
#define UNPACKED_MAX (128u << 10) /* bytes of one request, unpacked */

struct issue {
	uint32_t magic;
	struct issue_cfg cfg;
	struct store_mesh mesh;
	struct issue_limit *limit;
	struct list calls;
};

enum credential_kind { BY_TOKEN, BY_REJOIN, BY_CERTIFICATE };
static const char *const kind_texts[] = {"join token", "rejoin secret", "certificate"};

/* One request on its way through the steps. Owns all of it; cleaned by attempt_done. */
struct attempt {
	struct issue *is;
	const struct issue_from *from;
	struct proto_arena memory; /* of req */
	Weft__V1__IssueRequest *req;
	enum credential_kind kind;
	struct token token;
	EVP_PKEY *public_key;
	struct spiffe id;
	char rejoin[65]; /* the new secret; empty: none */
	uint8_t rejoin_hash[STORE_HASH_LEN];
	X509 *leaf;
	struct err err;
	enum grpc_status status;
};

static uint64_t boottime_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

struct issue *issue_new(const struct issue_cfg *cfg, struct err *err)
{
	MUST(cfg->store && cfg->ca);
	struct issue *is = NEW(struct issue);
	is->magic = ISSUE_MAGIC;
	is->cfg = *cfg;
	if (!is->cfg.now_ms)
		is->cfg.now_ms = boottime_ms;
	is->limit = issue_limit_new();
	list_init(&is->calls);
	bool ok = cfg->lifetime_s > 0 && cfg->lifetime_s <= ISSUE_LIFETIME_MAX;
	if (!ok)
		err_set(err, ERR_INVALID, "lifetime of certificates: %llu s is not in 1 to %d",
			(unsigned long long)cfg->lifetime_s, ISSUE_LIFETIME_MAX);
	if (!ok || !store_mesh_get(cfg->store, &is->mesh, err))
		issue_free(&is);
	return is;
}

void issue_free(struct issue **pis)
{
	struct issue *is = *pis;
	*pis = NULL;
	if (!is)
		return;
	MUST_BE(is, ISSUE_MAGIC);
	MUST(list_empty(&is->calls));
	issue_limit_free(&is->limit);
	is->magic = 0;
	mem_free(is);
}

struct list *issue_calls(struct issue *is)
{
	MUST_BE(is, ISSUE_MAGIC);
	return &is->calls;
}

struct write_queue *issue_queue(const struct issue *is)
{
	return is->cfg.writes;
}

/* --- refusing --- */

static bool refuse(struct attempt *a, enum grpc_status status, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool refuse(struct attempt *a, enum grpc_status status, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	a->status = status;
	return err_set(&a->err, ERR_DENIED, "%s", text);
}

/* a->err is filled by a library; its code says whose fault it was. */
static bool refuse_by_err(struct attempt *a)
{
	switch (a->err.code) {
	case ERR_STORE:
	case ERR_SYSTEM:
		a->status = GRPC_UNAVAILABLE; /* ours: worth another try */
		break;
	case ERR_LIMIT:
		a->status = GRPC_RESOURCE_EXHAUSTED;
		break;
	case ERR_INVALID:
		a->status = GRPC_INVALID_ARGUMENT;
		break;
	default:
		a->status = GRPC_PERMISSION_DENIED;
	}
	return false;
}

/* --- the steps --- */

static bool step_limit(struct attempt *a)
{
	/* A neighbour behind the same address must not be able to stop the renewals of those who are in. */
	if (a->from->id && !a->from->lapsed)
		return true;
	uint64_t wait = issue_limit_wait_ms(a->is->limit, &a->from->ip, a->is->cfg.now_ms());
	return wait == 0 ||
	       refuse(a, GRPC_RESOURCE_EXHAUSTED, "too many refused requests from this address: try again in %llu s",
		      (unsigned long long)(wait + 999) / 1000);
}

static bool empty(const char *s)
{
	return !s || !s[0];
}

static bool step_kind(struct attempt *a)
{
	bool token = !empty(a->req->token), rejoin = !empty(a->req->rejoin), cert = a->from->id != NULL;
	if (!proto_known(&a->req->base))
		return refuse(a, GRPC_INVALID_ARGUMENT,
			      "the request has a field that this weftd does not know: update weftd before the proxies");
	if (token + rejoin + cert > 1)
		return refuse(a, GRPC_INVALID_ARGUMENT, "more than one credential (%s%s%s): send exactly one",
			      token ? "join token " : "", rejoin ? "rejoin secret " : "",
			      cert ? "client certificate" : "");
	if (token + rejoin + cert == 0)
		return refuse(a, GRPC_UNAUTHENTICATED,
			      "no credential: send a join token (`weft token create`), the rejoin secret of the state "
			      "directory, or "
			      "connect with a client certificate");
	a->kind = token ? BY_TOKEN : rejoin ? BY_REJOIN : BY_CERTIFICATE;
	return true;
}

static bool step_instance(struct attempt *a)
{
	const char *name = a->req->instance;
	if (!empty(a->req->version) && strlen(a->req->version) > VERSION_MAX)
		return refuse(a, GRPC_INVALID_ARGUMENT, "version: longer than %d characters", VERSION_MAX);
	if (empty(name) && a->kind == BY_CERTIFICATE)
		return true;
	return str_is_dns_label(str_of(name)) ||
	       refuse(a, GRPC_INVALID_ARGUMENT,
		      "instance \"%.80s\" is not a DNS label (a-z, 0-9, '-', at most 63): set --name",
		      name ? name : "");
}

static bool step_csr(struct attempt *a)
{
	a->public_key = csr_check(a->req->csr.data, a->req->csr.len, &a->err);
	return a->public_key || refuse_by_err(a);
}

/* The text of the token is compared with the row that it names; what it allows is only ever taken from the row. */
static bool token_matches(struct attempt *a, const struct store_token *row)
{
	uint8_t hash[STORE_HASH_LEN];
	token_secret_hash(a->token.secret, hash);
	return CRYPTO_memcmp(hash, row->secret_hash, sizeof(hash)) == 0 && strcmp(a->token.ns, row->ns) == 0 &&
	       strcmp(a->token.sa, row->sa) == 0 && strcmp(a->token.trust_domain, a->is->mesh.trust_domain) == 0;
}

static bool by_token(struct attempt *a)
{
	struct store_token row;
	if (!token_parse(str_of(a->req->token), &a->token, &a->err))
		return refuse_by_err(a);
	bool found = store_token_get(a->is->cfg.store, a->token.id, &row, &a->err);
	if (!found && a->err.code != ERR_NOT_FOUND)
		return refuse_by_err(a);
	/* One text for both: who made the id up learns no more than who made the secret up. */
	bool ok = found && token_matches(a, &row);
	if (!ok)
		refuse(
		    a, GRPC_PERMISSION_DENIED,
		    "join token %s is not one of this weftd (deleted, of another mesh, or forged): make a new one with "
		    "`weft token create`",
		    a->token.id);
	else if (row.not_after <= (int64_t)time(NULL))
		ok = refuse(a, GRPC_PERMISSION_DENIED,
			    "join token %s expired %lld s ago: make a new one with `weft token create`", a->token.id,
			    (long long)((int64_t)time(NULL) - row.not_after));
	else
		ok = spiffe_make(str_of(a->is->mesh.trust_domain), str_of(row.ns), str_of(row.sa), &a->id, &a->err) ||
		     refuse_by_err(a);
	if (found)
		store_token_done(&row);
	return ok;
}

static bool by_rejoin(struct attempt *a)
{
	uint8_t presented[STORE_HASH_LEN];
	struct store_instance inst;
	if (strlen(a->req->rejoin) != sizeof(a->rejoin) - 1)
		return refuse(a, GRPC_PERMISSION_DENIED, "the rejoin secret is damaged: join with a new token");
	token_secret_hash(a->req->rejoin, presented);
	if (!store_instance_rejoin(a->is->cfg.store, presented, a->rejoin_hash, &inst, &a->err))
		return refuse_by_err(a);
	bool ok =
	    strcmp(inst.name, a->req->instance) == 0 ||
	    refuse(a, GRPC_PERMISSION_DENIED,
		   "the rejoin secret is of workload %s/%s, not of \"%s\": one state directory serves one workload",
		   inst.ns, inst.name, a->req->instance);
	ok = ok && (spiffe_make(str_of(a->is->mesh.trust_domain), str_of(inst.ns), str_of(inst.sa), &a->id, &a->err) ||
		    refuse_by_err(a));
	store_instance_done(&inst);
	return ok;
}

static bool step_credential(struct attempt *a)
{
	if (a->kind != BY_CERTIFICATE) {
		if (!token_secret_new(a->rejoin, &a->err))
			return refuse_by_err(a);
		token_secret_hash(a->rejoin, a->rejoin_hash);
		return a->kind == BY_TOKEN ? by_token(a) : by_rejoin(a);
	}
	if (!str_is(a->from->id->trust_domain, a->is->mesh.trust_domain))
		return refuse(a, GRPC_PERMISSION_DENIED, "%s is of another trust domain than %s", a->from->id->id,
			      a->is->mesh.trust_domain);
	spiffe_copy(&a->id, a->from->id);
	return true;
}

/* weftd signs its own certificate itself; nobody else is ever called that, whatever a row of the store says. */
static bool step_reserved(struct attempt *a)
{
	if (!str_is(a->id.ns, WEFTD_NAMESPACE) || !str_is(a->id.sa, WEFTD_SERVICE_ACCT))
		return true;
	return refuse(a, GRPC_PERMISSION_DENIED, "%s is weftd's own identity and is not issued", a->id.id);
}

static bool step_sign(struct attempt *a)
{
	struct ca_leaf leaf = {.id = &a->id, .lifetime_s = a->is->cfg.lifetime_s};
	a->leaf = ca_sign(a->is->cfg.ca, a->public_key, &leaf, &a->err);
	if (a->leaf)
		return true;
	a->status = GRPC_UNAVAILABLE; /* the CSR was checked: what is left is our own authority */
	return false;
}

static bool step_commit(struct attempt *a)
{
	struct store_instance inst;
	if (a->kind != BY_TOKEN)
		return true;
	if (!store_instance_join(a->is->cfg.store, a->token.id, a->req->instance, a->rejoin_hash, &inst, &a->err))
		return refuse_by_err(a);
	store_instance_done(&inst);
	return true;
}

static bool (*const steps[])(struct attempt *) = {
    step_kind,       /* exactly one credential                                             */
    step_instance,   /* a name for the workload                                            */
    step_csr,        /* a P-256 key, and proof that the sender has it                      */
    step_credential, /* credential -> identity; a rejoin secret is rotated                 */
    step_reserved,   /* never weftd's own                                                  */
    step_sign,       /* identity + key -> certificate                                      */
    step_commit,     /* the join token is spent; only now may the certificate leave        */
};

/* --- the answer --- */

static void pack(struct attempt *a, struct issue_answer *ret)
{
	const struct store_mesh *mesh = &a->is->mesh;
	struct str issuer = ca_issuer_der(a->is->cfg.ca), root = ca_root_der(a->is->cfg.ca);
	uint8_t *leaf;
	size_t leaf_len;
	MUST(ossl_cert_der(a->leaf, &leaf, &leaf_len, NULL));
	ProtobufCBinaryData chain[2] = {{leaf_len, leaf}, {issuer.len, (uint8_t *)(uintptr_t)issuer.p}};
	ProtobufCBinaryData roots[1] = {{root.len, (uint8_t *)(uintptr_t)root.p}};
	Weft__V1__MeshCidr cidrs[STORE_CIDRS_MAX], *cidr_list[STORE_CIDRS_MAX];
	for (size_t i = 0; i < mesh->cidrs_len; i++) {
		weft__v1__mesh_cidr__init(&cidrs[i]);
		cidrs[i].address =
		    (ProtobufCBinaryData){mesh->cidrs[i].ip.len, (uint8_t *)(uintptr_t)mesh->cidrs[i].ip.b};
		cidrs[i].bits = mesh->cidrs[i].bits;
		cidr_list[i] = &cidrs[i];
	}
	Weft__V1__IssueResponse m = WEFT__V1__ISSUE_RESPONSE__INIT;
	m.n_chain = ARRAY_LEN(chain);
	m.chain = chain;
	m.n_roots = ARRAY_LEN(roots);
	m.roots = roots;
	m.identity = a->id.id;
	m.not_after = ossl_time(X509_get0_notAfter(a->leaf));
	m.rejoin = a->rejoin;
	m.n_cidrs = mesh->cidrs_len;
	m.cidrs = cidr_list;
	m.trust_domain = (char *)(uintptr_t)mesh->trust_domain;
	ret->len = weft__v1__issue_response__get_packed_size(&m);
	ret->message = mem_alloc(ret->len);
	weft__v1__issue_response__pack(&m, ret->message);
	mem_free(leaf);
}

static void say_issued(const struct attempt *a)
{
	char ip[IP_TEXT_MAX];
	BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(a->leaf), NULL);
	char *serial = n ? BN_bn2hex(n) : NULL;
	event(EV_ISSUED, "identity=\"%s\" instance=\"%s\" by=\"%s\" peer=\"%s\" serial=%s expires=%lld", a->id.id,
	      a->req->instance ? a->req->instance : "", a->from->lapsed ? "lapsed certificate" : kind_texts[a->kind],
	      ip_text(&a->from->ip, ip), serial ? serial : "?", (long long)ossl_time(X509_get0_notAfter(a->leaf)));
	OPENSSL_free(serial);
	BN_free(n);
}

static void attempt_done(struct attempt *a)
{
	if (a->req) {
		/* The arena does not wipe. */
		if (a->req->token)
			mem_wipe(a->req->token, strlen(a->req->token));
		if (a->req->rejoin)
			mem_wipe(a->req->rejoin, strlen(a->req->rejoin));
	}
	proto_arena_done(&a->memory);
	EVP_PKEY_free(a->public_key);
	X509_free(a->leaf);
	mem_wipe(a, sizeof(*a));
}

static bool step_read(struct attempt *a, struct str request)
{
	if (request.len > ISSUE_REQUEST_MAX)
		return refuse(a, GRPC_INVALID_ARGUMENT, "a request of %zu bytes: expected at most %u", request.len,
			      ISSUE_REQUEST_MAX);
	a->req = proto_unpack(&a->memory, &weft__v1__issue_request__descriptor, request, &a->err);
	if (a->req)
		return true;
	a->status = GRPC_INVALID_ARGUMENT;
	return err_prefix(&a->err, "not an IssueRequest of weft.v1");
}

bool issue_writes(struct issue *is, const struct issue_from *from, struct str request)
{
	MUST_BE(is, ISSUE_MAGIC);
	struct attempt a = {.is = is, .from = from};
	proto_arena_init(&a.memory, UNPACKED_MAX);
	bool writes = step_limit(&a) && step_read(&a, request) && (!empty(a.req->token) || !empty(a.req->rejoin));
	attempt_done(&a);
	return writes;
}

void issue_answer(struct issue *is, const struct issue_from *from, struct str request, struct issue_answer *ret)
{
	MUST_BE(is, ISSUE_MAGIC);
	struct attempt a = {.is = is, .from = from};
	proto_arena_init(&a.memory, UNPACKED_MAX);
	bool limited = !step_limit(&a);
	bool ok = !limited && step_read(&a, request);
	for (size_t i = 0; ok && i < ARRAY_LEN(steps); i++)
		ok = steps[i](&a);
	*ret = (struct issue_answer){.status = ok ? GRPC_OK : a.status};
	if (ok) {
		pack(&a, ret);
		say_issued(&a);
	} else {
		char ip[IP_TEXT_MAX];
		memcpy(ret->text, a.err.text, sizeof(ret->text));
		/* One that is waiting already does not wait longer for asking; our own failures are nobody's debt. */
		if (!limited && a.status != GRPC_UNAVAILABLE)
			issue_limit_refused(is->limit, &from->ip, is->cfg.now_ms());
		event(EV_ISSUE_REFUSED, "peer=\"%s\" why=\"%s\"", ip_text(&from->ip, ip), ret->text);
	}
	attempt_done(&a);
}

void issue_answer_done(struct issue_answer *a)
{
	mem_wipe_free(a->message, a->len);
	*a = (struct issue_answer){0};
}

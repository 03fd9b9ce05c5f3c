/* SPDX-License-Identifier: Apache-2.0 */
/* link.c: what this proxy says to weftd, put together: a first certificate where there is none (join), then one uplink that
 * carries configuration, registration and renewal, and one more for each further address family, for registration alone.
 *
 * Who it talks to is settled before anything is sent: without a certificate the root is the one whose hash stands in the join
 * token (or beside the rejoin secret), with one it is the mesh's; the name is always that of weftd. */
#include "proxy/link.h"

#include "lib/event.h"
#include "lib/grpc.h"
#include "lib/conn.h"
#include "lib/mem.h"
#include "certs/token.h"
#include "proxy/config_build.h"
#include "proxy/issue.h"
#include "proxy/keep.h"
#include "proxy/rejoin.h"
#include "proxy/renew.h"
#include "proxy/subscribe.h"
#include "proxy/talk.h"
#include "proxy/uplink.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_PORT    "4810"
#define AUTHORITY       "weftd"
#define LEASE_DEFAULT_S 15 /* weftd's, until it says another */

enum proof { PROOF_CERTIFICATE, PROOF_REJOIN, PROOF_TOKEN }; /* what a certificate is asked for with */

struct path { /* to weftd over one address family; the first of them carries everything */
	struct link *link;
	struct addr to;
	struct uplink *uplink; /* NULL: not begun */
	struct talk *talk;
};

struct link {
	struct link_cfg cfg;
	struct proxy_options options;
	struct token token;   /* have_token */
	struct rejoin rejoin; /* have_rejoin */
	bool have_token, have_rejoin;
	char trust_domain[TRUST_DOMAIN_MAX + 1];
	struct spiffe weftd;
	struct path paths[OPTIONS_CONTROL_MAX];
	size_t n_paths;
	struct subscribe *subscribe;
	struct keep *keep;     /* NULL without a state directory */
	struct grpc_call *ads; /* NULL while down */
	bool joining;          /* the uplink's attempt is for a certificate alone */
	bool leaving;
	bool registered; /* once, by the first path */
	struct renew renew;
	struct err trouble; /* what last went wrong with weftd; ERR_NONE since it worked */
	/* the request for a certificate under way */
	struct grpc_call *issue; /* NULL: none */
	EVP_PKEY *issue_key;
	enum proof issue_proof;
	bool issue_done;
	struct err issue_err;
};

/* --- identity --- */

static void identity_failed(struct link *l, const struct err *err)
{
	l->trouble = *err;
	event(EV_IDENTITY_FAILED, "why=\"%s\"", err->text);
}

static enum proof proof(const struct link *l)
{
	const struct credential *c = identity_credential(l->cfg.identity);
	if (c && (!renew_expired(c) || !(l->have_rejoin || l->have_token)))
		return PROOF_CERTIFICATE; /* an expired one may still renew within weftd's grace */
	return l->have_rejoin ? PROOF_REJOIN : PROOF_TOKEN;
}

/* Before the new certificate is used: once the old secret is spent, only this one brings the instance back. */
static void keep_secret(struct link *l, const struct issued *got)
{
	struct err err;
	const struct bundle *b = credential_bundle(got->credential);
	if (!got->rejoin[0])
		return;
	if (!l->have_rejoin || !bundle_has_hash(b, l->rejoin.root_hash)) {
		struct str root = bundle_root(b, 0);
		MUST(EVP_Digest(root.p, root.len, l->rejoin.root_hash, NULL, EVP_sha256(), NULL) == 1);
	}
	if (l->have_token && bundle_has_hash(b, l->token.root_hash))
		memcpy(l->rejoin.root_hash, l->token.root_hash, sizeof(l->rejoin.root_hash));
	strcpy(l->rejoin.trust_domain, l->trust_domain);
	strcpy(l->rejoin.secret, got->rejoin);
	l->have_rejoin = true;
	if (l->options.state_dir && !rejoin_store(l->options.state_dir, &l->rejoin, &err))
		event(EV_CONFIG_WARNING,
		      "text=\"the rejoin secret is not kept, a full restart will need a join token: %s\"", err.text);
}

static bool take_credential(struct link *l, const struct issued *got, struct err *err)
{
	keep_secret(l, got);
	if (!identity_set(l->cfg.identity, got->credential, err))
		return false;
	const struct spiffe *id = credential_id(got->credential);
	event(EV_IDENTITY_ISSUED, "identity=\"%s\" not_after=%lld", id->id,
	      (long long)credential_not_after(got->credential));
	config_hint_mesh(l->cfg.config, l->trust_domain, got->cidrs, got->n_cidrs);
	renew_set(&l->renew, got->credential);
	if (l->cfg.on_credential)
		l->cfg.on_credential(l->cfg.ctx, got->credential);
	return true;
}

static void issue_on_message(void *ctx, struct grpc_call *call, struct str message)
{
	struct link *l = ctx;
	struct issued got;
	struct issue_expect expect = {.key = l->issue_key, .trust_domain = l->trust_domain};
	if (l->issue_done)
		return;
	expect.ns = l->have_token && l->token.ns[0] ? l->token.ns : l->options.ns;
	expect.sa = l->have_token && l->token.sa[0] ? l->token.sa : NULL;
	if (l->issue_proof == PROOF_TOKEN)
		expect.root_hash = l->token.root_hash;
	else if (l->issue_proof == PROOF_REJOIN)
		expect.root_hash = l->rejoin.root_hash;
	if (!issue_unpack(message, &expect, &got, &l->issue_err))
		return;
	l->issue_done = take_credential(l, &got, &l->issue_err);
	credential_unref(&got.credential);
	mem_wipe(got.rejoin, sizeof(got.rejoin));
}

static void issue_over(struct link *l)
{
	if (l->issue)
		grpc_cancel(&l->issue);
	EVP_PKEY_free(l->issue_key);
	l->issue_key = NULL;
}

static void paths_begin(struct link *l);

static void issue_on_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	struct link *l = ctx;
	struct uplink *up = l->paths[0].uplink;
	l->issue = NULL;
	issue_over(l);
	if (l->issue_done) {
		if (l->joining)
			uplink_again(up);
		paths_begin(l);
		return;
	}
	struct err err = l->issue_err;
	if (status != GRPC_OK)
		err_set(&err, ERR_DENIED, "weftd gives no certificate: %s (status %d)", text ? text : "", (int)status);
	bool refused = status == GRPC_PERMISSION_DENIED || status == GRPC_UNAUTHENTICATED || status == GRPC_NOT_FOUND;
	if (refused && l->issue_proof == PROOF_REJOIN && l->have_token)
		l->have_rejoin = false; /* perhaps the store was made anew: the join token decides */
	const struct credential *c = identity_credential(l->cfg.identity);
	if (l->joining || (c && renew_expired(c))) {
		uplink_fail(up, &err);
		return;
	}
	identity_failed(l, &err);
	renew_later(&l->renew);
}

static const struct grpc_call_events issue_events = {.on_message = issue_on_message, .on_end = issue_on_end};

/* The worker that this one replaced may have spent the secret since it was read here. */
static void rejoin_again(struct link *l)
{
	struct rejoin now;
	if (l->options.state_dir && rejoin_load(l->options.state_dir, &now, NULL))
		l->rejoin = now;
	mem_wipe(&now, sizeof(now));
}

static bool issue_begin(struct link *l, struct http_session *s, struct err *err)
{
	struct issue_ask ask = {.instance = l->options.instance};
	uint8_t *bytes;
	size_t len;
	MUST(!l->issue && !l->issue_key);
	l->issue_proof = proof(l);
	if (l->issue_proof == PROOF_REJOIN)
		rejoin_again(l);
	l->issue_done = false;
	err_set(&l->issue_err, ERR_PROTOCOL, "weftd ended the call without an answer");
	l->issue_key = ask.key = key_new(err);
	if (l->issue_proof == PROOF_TOKEN)
		ask.token = l->options.token;
	else if (l->issue_proof == PROOF_REJOIN)
		ask.rejoin = l->rejoin.secret;
	if (!ask.key || !issue_pack(&ask, &bytes, &len, err))
		return false;
	l->issue = grpc_call_new(s, AUTHORITY, ISSUE_PATH, NULL, &issue_events, l);
	bool sent = grpc_send(l->issue, str_make(bytes, len));
	grpc_half_close(l->issue);
	mem_wipe_free(bytes, len);
	return sent || err_set(err, ERR_LIMIT, "the request for a certificate could not be queued");
}

static void on_due(struct renew *r)
{
	struct link *l = CONTAINER_OF(r, struct link, renew);
	struct http_session *s = uplink_session(l->paths[0].uplink);
	struct err err;
	if (!s || l->joining || l->issue)
		return; /* on_up looks again */
	if (codec_h2.room(s) && issue_begin(l, s, &err))
		return;
	issue_over(l);
	renew_later(r);
}

/* --- configuration --- */

static void ads_send(void *ctx, struct str message)
{
	struct link *l = ctx;
	struct err err;
	if (l->ads && !grpc_send(l->ads, message)) {
		err_set(&err, ERR_TIMEOUT, "weftd does not read what is asked of it");
		uplink_fail(l->paths[0].uplink, &err);
	}
}

static void ads_on_message(void *ctx, struct grpc_call *call, struct str message)
{
	struct link *l = ctx;
	struct err err;
	uplink_worked(l->paths[0].uplink);
	l->trouble.code = ERR_NONE;
	if (!subscribe_message(l->subscribe, message, &err))
		uplink_fail(l->paths[0].uplink, &err);
}

static void ads_on_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	struct link *l = ctx;
	struct err err;
	l->ads = NULL;
	err_set(&err, ERR_CLOSED, "weftd ended the configuration stream: %s (status %d)", text ? text : "",
		(int)status);
	uplink_fail(l->paths[0].uplink, &err);
}

static const struct grpc_call_events ads_events = {.on_message = ads_on_message, .on_end = ads_on_end};

/* --- uplinks --- */

static SSL_CTX *context(void *ctx, struct err *err)
{
	static const char *const alpn[] = {ALPN_H2, NULL};
	struct path *p = ctx;
	struct link *l = p->link;
	enum proof with = proof(l);
	if (p == &l->paths[0])
		l->joining = with != PROOF_CERTIFICATE;
	if (with != PROOF_CERTIFICATE && p != &l->paths[0]) {
		err_set(err, ERR_NOT_FOUND, "there is no certificate yet");
		return NULL;
	}
	if (with != PROOF_CERTIFICATE)
		return tlsctx_bootstrap(with == PROOF_REJOIN ? l->rejoin.root_hash : l->token.root_hash, alpn,
					conn_tls_arg_index(), err);
	SSL_CTX *tls = identity_client(l->cfg.identity);
	SSL_CTX_up_ref(tls);
	return tls;
}

static void on_up(void *ctx, struct http_session *s)
{
	struct path *p = ctx;
	struct link *l = p->link;
	struct err err;
	char text[ADDR_TEXT_MAX];
	if (p != &l->paths[0]) {
		talk_start(p->talk, s);
		return;
	}
	if (l->joining) {
		if (!issue_begin(l, s, &err))
			uplink_fail(p->uplink, &err);
		return;
	}
	event(EV_LINK_UP, "peer=\"%s\"", addr_text(&p->to, text));
	l->ads = grpc_call_new(s, AUTHORITY, SUBSCRIBE_PATH, NULL, &ads_events, l);
	subscribe_start(l->subscribe, ads_send, l);
	if (!l->ads)
		return; /* lost within */
	talk_start(p->talk, s);
	renew_set(&l->renew, identity_credential(l->cfg.identity));
}

static void on_down(void *ctx, const struct err *err)
{
	struct path *p = ctx;
	struct link *l = p->link;
	talk_stop(p->talk);
	if (p != &l->paths[0])
		return;
	if (l->joining)
		identity_failed(l, err);
	else {
		l->trouble = *err;
		event(EV_LINK_DOWN, "why=\"%s\"", err->text);
	}
	issue_over(l);
	if (l->ads) {
		subscribe_stop(l->subscribe);
		grpc_cancel(&l->ads);
	}
	subscribe_stop(l->subscribe);
}

/* Whoever is registered has to be back before the lease is over: weftd counts it from its own start, and from the last heartbeat. And
 * who waits longest sets when the mesh is whole again after weftd was restarted: at 15 s, all of it within 2.5 s. */
static uint64_t patience_ms(uint32_t lease_s)
{
	return (uint64_t)lease_s * 1000 / 6;
}

static void on_registered(void *ctx, uint32_t lease_s)
{
	struct path *p = ctx;
	p->link->registered = p->link->registered || p == &p->link->paths[0];
	uplink_worked(p->uplink);
	if (lease_s > 0)
		uplink_patience(p->uplink, patience_ms(lease_s));
}

static void on_dead(void *ctx, const struct err *err)
{
	struct path *p = ctx;
	uplink_fail(p->uplink, err);
}

/* The first path always; the others once there is something to show. */
static void paths_begin(struct link *l)
{
	for (size_t i = 0; i < l->n_paths; i++) {
		struct path *p = &l->paths[i];
		struct uplink_cfg cfg = {
		    .loop = l->cfg.loop,
		    .to = p->to,
		    .mark = l->cfg.mark,
		    .expect = l->weftd.id,
		    .context = context,
		    .on_up = on_up,
		    .on_down = on_down,
		    .ctx = p,
		};
		if (p->uplink || l->leaving || (i > 0 && !identity_ready(l->cfg.identity)))
			continue;
		p->uplink = uplink_new(&cfg);
		if (identity_ready(l->cfg.identity)) /* a worker after a crash: its predecessor was registered */
			uplink_patience(p->uplink, patience_ms(LEASE_DEFAULT_S));
	}
}

/* --- start --- */

static bool path_add(struct link *l, const struct addr *to)
{
	for (size_t i = 0; i < l->n_paths; i++)
		if (l->paths[i].to.ip.len == to->ip.len)
			return true; /* one a family is enough */
	if (l->n_paths == ARRAY_LEN(l->paths))
		return false;
	l->paths[l->n_paths++].to = *to;
	return true;
}

/* "host", "host:port", "[v6]:port", "v6". A name is looked up here, once, before the loop runs: it may block. */
static bool resolve(struct link *l, const char *text, struct err *err)
{
	char host[256], port[8] = DEFAULT_PORT;
	struct addr a;
	if (addr_parse(str_of(text), &a))
		return path_add(l, &a);
	if (ip_parse(str_of(text), &a.ip)) {
		a.port = (uint16_t)atoi(DEFAULT_PORT);
		return path_add(l, &a);
	}
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : strlen(text);
	uint64_t n;
	if (len == 0 || len >= sizeof(host) || (colon && (!str_to_u64(str_of(colon + 1), 65535, &n) || n == 0)))
		return err_set(err, ERR_INVALID, "weftd's address \"%.128s\": must be host:port", text);
	snprintf(host, sizeof(host), "%.*s", (int)len, text);
	if (colon)
		snprintf(port, sizeof(port), "%u", (unsigned)n);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG}, *list = NULL;
	int rc = getaddrinfo(host, port, &hints, &list);
	if (rc != 0)
		return err_set(err, ERR_NOT_FOUND, "weftd's address \"%.128s\": %s", text, gai_strerror(rc));
	for (struct addrinfo *i = list; i; i = i->ai_next) {
		addr_from_sockaddr(i->ai_addr, &a);
		if (a.ip.len)
			path_add(l, &a);
	}
	freeaddrinfo(list);
	return true;
}

static bool find_weftd(struct link *l, struct err *err)
{
	for (size_t i = 0; i < l->options.n_control; i++)
		if (!resolve(l, l->options.control[i], err))
			return false;
	if (l->n_paths == 0 && l->have_token && l->token.server[0] && !resolve(l, l->token.server, err))
		return false;
	return l->n_paths > 0 ||
	       err_set(err, ERR_INVALID, "no address of weftd: neither --control nor the join token says it");
}

/* Also makes the last part of the path. */
static bool check_state_dir(const char *dir, struct err *err)
{
	if (!dir)
		return true;
	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return err_errno(err, "state directory %s", dir);
	return access(dir, R_OK | W_OK | X_OK) == 0 || err_errno(err, "state directory %s", dir);
}

/* What there is to show: a credential handed over, a rejoin secret, a join token. */
static bool find_proof(struct link *l, struct err *err)
{
	const struct proxy_options *o = &l->options;
	const struct credential *c = identity_credential(l->cfg.identity);
	struct err why;
	if (o->token && !token_parse(str_of(o->token), &l->token, err))
		return err_prefix(err, "join token");
	l->have_token = o->token != NULL;
	l->have_rejoin = o->state_dir && rejoin_load(o->state_dir, &l->rejoin, &why);
	if (o->state_dir && !l->have_rejoin && why.code != ERR_NOT_FOUND)
		event(EV_CONFIG_WARNING, "text=\"%s\"", why.text);
	if (l->have_rejoin && l->have_token && strcmp(l->rejoin.trust_domain, l->token.trust_domain) != 0)
		l->have_rejoin = false; /* of another mesh: the token is what the operator says now */
	if (!c && !l->have_token && !l->have_rejoin)
		return err_set(err, ERR_NOT_FOUND,
			       "nothing to join with: no join token (weft token create), and no rejoin secret in %s",
			       o->state_dir ? o->state_dir : "a state directory");
	struct str td =
	    c ? credential_id(c)->trust_domain : str_of(l->have_token ? l->token.trust_domain : l->rejoin.trust_domain);
	snprintf(l->trust_domain, sizeof(l->trust_domain), STR_FMT, STR_ARG(td));
	return spiffe_make(td, STR("weft-system"), STR("weftd"), &l->weftd, err);
}

/* The extent of the mesh as the join token tells it; until weftd says more. */
static void hint(struct link *l)
{
	struct cidr cidrs[RESOURCE_CIDRS_MAX];
	size_t n = 0;
	struct str one, rest = str_of(l->have_token ? l->token.cidrs : "");
	while (rest.len && n < ARRAY_LEN(cidrs)) {
		str_cut(rest, ',', &one, &rest);
		if (cidr_parse(str_trim(one), &cidrs[n]))
			n++;
	}
	config_hint_mesh(l->cfg.config, l->trust_domain, cidrs, n);
}

static void talks_make(struct link *l)
{
	for (size_t i = 0; i < l->n_paths; i++) {
		struct path *p = &l->paths[i];
		struct talk_cfg cfg = {
		    .loop = l->cfg.loop,
		    .options = &l->options,
		    .authority = AUTHORITY,
		    .on_registered = on_registered,
		    .on_dead = on_dead,
		    .ctx = p,
		};
		p->link = l;
		p->talk = talk_new(&cfg);
	}
}

struct link *link_new(const struct link_cfg *cfg, struct err *err)
{
	struct link *l = NEW(struct link);
	l->cfg = *cfg;
	l->options = *cfg->options;
	if (!l->options.instance || !l->options.instance[0])
		err_set(err, ERR_INVALID, "this workload has no name: --name or WEFT_NAME");
	else if (check_state_dir(l->options.state_dir, err) && find_proof(l, err) && find_weftd(l, err))
		goto good;
	mem_wipe(&l->token, sizeof(l->token));
	mem_wipe(&l->rejoin, sizeof(l->rejoin));
	mem_free(l);
	return NULL;
good:;
	char *cluster = mem_printf("%s/%s", l->options.ns ? l->options.ns : l->token.ns, l->token.sa);
	renew_init(&l->renew, cfg->loop, on_due);
	hint(l);
	l->subscribe = subscribe_new(cfg->loop, cfg->config, l->options.instance, cluster);
	mem_free(cluster);
	if (l->options.state_dir)
		l->keep = keep_new(cfg->loop, cfg->config, l->options.state_dir);
	talks_make(l);
	paths_begin(l);
	return l;
}

/* --- end --- */

void link_goodbye(struct link *l)
{
	l->leaving = true;
	renew_stop(&l->renew);
	for (size_t i = 0; i < l->n_paths; i++) {
		talk_goodbye(l->paths[i].talk);
		if (l->paths[i].uplink)
			uplink_last(l->paths[i].uplink);
	}
}

void link_retire(struct link *l)
{
	l->leaving = true;
	renew_stop(&l->renew);
	keep_discard(&l->keep);
	for (size_t i = 0; i < l->n_paths; i++) {
		talk_stop(l->paths[i].talk);
		if (i > 0)
			uplink_free(&l->paths[i].uplink);
		else if (l->paths[i].uplink)
			uplink_last(l->paths[i].uplink);
	}
}

void link_free(struct link **lp)
{
	struct link *l = *lp;
	*lp = NULL;
	if (!l)
		return;
	renew_stop(&l->renew);
	subscribe_stop(l->subscribe);
	issue_over(l);
	if (l->ads)
		grpc_cancel(&l->ads);
	for (size_t i = 0; i < l->n_paths; i++) {
		talk_free(&l->paths[i].talk);
		uplink_free(&l->paths[i].uplink);
	}
	keep_free(&l->keep);
	subscribe_free(&l->subscribe);
	mem_wipe(&l->token, sizeof(l->token));
	mem_wipe(&l->rejoin, sizeof(l->rejoin));
	mem_free(l);
}

bool link_is_up(const struct link *l)
{
	return l->ads != NULL;
}

const char *link_trouble(const struct link *l)
{
	return l->trouble.code == ERR_NONE ? NULL : l->trouble.text;
}

bool link_settled(const struct link *l)
{
	return l->registered || l->trouble.code != ERR_NONE;
}

const char *link_refused(const struct link *l)
{
	for (size_t i = 0; i < l->n_paths; i++)
		if (talk_refused(l->paths[i].talk))
			return talk_refused(l->paths[i].talk);
	return NULL;
}

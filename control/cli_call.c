/* SPDX-License-Identifier: Apache-2.0 */
/* cli_call.c: from the administrator's configuration to one answered call of the API. weftd is believed only when it shows
 * its identity by the mesh's root. */
#include "certs/tlsctx.h"
#include "control/api.h"
#include "control/cli.h"
#include "lib/http/client.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_MAX 65536
#define ANSWER_MAX (256 * 1024 * 1024)

struct admin {
	json_t *json;
	char *path;
	const char *url, *trust_domain, *root_hash, *root, *certificate, *key, *bearer; /* into json */
};

static char *in_home(const char *name)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (xdg && *xdg)
		return mem_printf("%s/weft/%s", xdg, name);
	return home && *home ? mem_printf("%s/.config/weft/%s", home, name) : NULL;
}

char *cli_config_path(const struct cli *c, struct err *err)
{
	const char *env = getenv("WEFT_CONFIG");

	if (c->config)
		return mem_strdup(c->config);
	if (env && *env)
		return mem_strdup(env);
	char *home = in_home("config.json");
	if (home && access(home, F_OK) == 0)
		return home;
	mem_free(home);
	if (access("/etc/weft/admin.json", F_OK) == 0)
		return mem_strdup("/etc/weft/admin.json");
	err_set(err, ERR_NOT_FOUND,
		"how to reach weftd is not known: no --config, WEFT_CONFIG, ~/.config/weft/config.json or "
		"/etc/weft/admin.json;"
		" `weftd init` makes the last one");
	return NULL;
}

/* --- the configuration --- */

static bool read_text(const char *path, char *out, size_t size, size_t *ret_len, struct err *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, "%s", path);
	size_t len = 0;
	ssize_t n;
	while (len < size && (n = read(fd, out + len, size - len)) > 0)
		len += (size_t)n;
	bool ok = fstat(fd, &st) == 0;
	close(fd);
	if (!ok || len == size)
		return err_set(err, ERR_INVALID, "%s: it is not a configuration of weft", path);
	if (st.st_mode & 077)
		cli_say("%s: others may read it (mode %03o) and it holds a key; chmod 600 it", path, st.st_mode & 0777);
	*ret_len = len;
	return true;
}

static bool read_fields(struct admin *a, struct err *err)
{
	static const char *const known[] = {"url",         "trustDomain", "rootHash", "root",
					    "certificate", "key",         "token",    NULL};

	if (!json_is_object(a->json))
		return err_set(err, ERR_INVALID, "it is not a JSON object");
	if (!json_fields_known(a->json, known, NULL, err) || !json_get_str(a->json, "url", true, NULL, &a->url, err) ||
	    !json_get_str(a->json, "trustDomain", true, NULL, &a->trust_domain, err) ||
	    !json_get_str(a->json, "rootHash", false, NULL, &a->root_hash, err) ||
	    !json_get_str(a->json, "root", false, NULL, &a->root, err) ||
	    !json_get_str(a->json, "certificate", false, NULL, &a->certificate, err) ||
	    !json_get_str(a->json, "key", false, NULL, &a->key, err) ||
	    !json_get_str(a->json, "token", false, NULL, &a->bearer, err))
		return false;
	if (!a->bearer && (!a->certificate || !a->key || !a->root))
		return err_set(err, ERR_INVALID, "it needs root, certificate and key, or rootHash and token");
	return !a->bearer || a->certificate || a->root_hash ||
	       err_set(err, ERR_INVALID, "it needs rootHash, so that the token is shown to the right weftd only");
}

static void admin_done(struct admin *a)
{
	json_decref(a->json);
	mem_free(a->path);
}

static bool admin_read(const struct cli *c, struct admin *ret, struct err *err)
{
	struct admin a = {.json = NULL};
	size_t len = 0;

	a.path = cli_config_path(c, err);
	if (!a.path)
		return false;
	char *text = mem_zalloc(CONFIG_MAX);
	bool ok = read_text(a.path, text, CONFIG_MAX, &len, err);
	if (ok) {
		a.json = json_read(str_make(text, len), err);
		ok = (a.json && read_fields(&a, err)) || err_prefix(err, "%s", a.path);
	}
	mem_wipe_free(text, CONFIG_MAX);
	if (!ok)
		admin_done(&a);
	else
		*ret = a;
	return ok;
}

/* --- reaching weftd --- */

/* "https://host:port" -> host (without brackets) and port */
static bool split_url(const char *url, char *host, size_t host_size, char *port, size_t port_size, struct err *err)
{
	const char *at = strncmp(url, "https://", 8) == 0 ? url + 8 : NULL;
	size_t len = at ? strcspn(at, "/") : 0;
	const char *end = at + len, *colon = NULL;
	bool bracket = at && *at == '[';

	if (!at || len == 0 || (*end == '/' && end[1]))
		return err_set(err, ERR_INVALID, "url %.80s: expected https://HOST:PORT", url);
	for (const char *p = end; p > at && !colon && *p != ']'; p--)
		colon = *p == ':' ? p : NULL;
	size_t host_len = (size_t)((colon ? colon : end) - at) - (bracket ? 2 : 0);
	size_t port_len = colon ? (size_t)(end - colon) - 1 : 0;
	if (host_len >= host_size || port_len >= port_size || (bracket && (colon ? colon : end)[-1] != ']'))
		return err_set(err, ERR_INVALID, "url %.80s: expected https://HOST:PORT", url);
	memcpy(host, at + bracket, host_len);
	host[host_len] = 0;
	snprintf(port, port_size, "%.*s", (int)port_len, colon ? colon + 1 : "");
	if (!port_len)
		snprintf(port, port_size, "%d", API_PORT);
	return true;
}

static bool resolve(const char *url, struct addr *ret, struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
	char host[256], port[8];

	if (!split_url(url, host, sizeof(host), port, sizeof(port), err))
		return false;
	int rc = getaddrinfo(host, port, &hints, &list);
	if (rc != 0)
		return err_set(err, ERR_NOT_FOUND, "%s: %s", host, gai_strerror(rc));
	addr_from_sockaddr(list->ai_addr, ret);
	freeaddrinfo(list);
	return true;
}

static bool hash_of(const char *hex, uint8_t out[static 32])
{
	for (size_t i = 0; i < 32; i++)
		if (!hex[2 * i] || sscanf(hex + 2 * i, "%2hhx", &out[i]) != 1)
			return false;
	return hex[64] == 0;
}

/* Identity by certificate; with a token alone, trust by the root's hash. */
static SSL_CTX *tls_of(const struct admin *a, struct err *err)
{
	static const char *const alpn[] = {ALPN_H2, NULL};
	uint8_t hash[32];

	if (!a->certificate || !a->key || !a->root) {
		if (!hash_of(a->root_hash, hash)) {
			err_set(err, ERR_INVALID, "%s: rootHash: expected 64 hex digits", a->path);
			return NULL;
		}
		return tlsctx_bootstrap(hash, alpn, conn_tls_arg_index(), err);
	}
	struct credential *cred = credential_from_pem(str_of(a->certificate), str_of(a->key), str_of(a->root), err);
	if (!cred) {
		err_prefix(err, "%s", a->path);
		return NULL;
	}
	SSL_CTX *ctx = tlsctx_client(cred, alpn, conn_tls_arg_index(), err);
	credential_unref(&cred);
	return ctx;
}

static bool answer_json(struct http_answer *answer, json_t **ret, struct err *err)
{
	size_t len = answer->body.len;
	char *text = mem_alloc(len + 1);

	for (size_t at = 0; at < len;) {
		struct str piece = buf_peek(&answer->body);
		memcpy(text + at, piece.p, piece.len);
		at += piece.len;
		buf_drain(&answer->body, piece.len);
	}
	*ret = json_read(str_make(text, len), err);
	mem_free(text);
	return *ret || err_prefix(err, "weftd answered %u with what is not JSON", answer->status);
}

/* The API's own words; its code comes back as ours. */
static bool api_refused(const json_t *answer, unsigned status, json_int_t *ret_object, struct err *err)
{
	const json_t *e = json_object_get(answer, "error");
	const char *text = json_string_value(json_object_get(e, "text"));
	const json_t *object = json_object_get(e, "object");

	if (ret_object && json_is_integer(object))
		*ret_object = json_integer_value(object);
	if (!text)
		return err_set(err, ERR_PROTOCOL, "weftd answered %u without saying why", status);
	return err_set(err, status == 404 ? ERR_NOT_FOUND : ERR_INVALID, "%s", text);
}

static bool run(const struct admin *a, struct http_call *call, struct err *err, struct http_answer *answer)
{
	struct tls_peer peer = {.expect = NULL};
	char expect[SPIFFE_ID_MAX];

	snprintf(expect, sizeof(expect), "spiffe://%s/ns/weft-system/sa/weftd", a->trust_domain);
	peer.expect = expect;
	call->dial.tls_arg = &peer;
	call->dial.tls = tls_of(a, err);
	if (!call->dial.tls)
		return false;
	bool ok = http_call_wait(call, answer, err);
	SSL_CTX_free(call->dial.tls);
	if (!ok && peer.err.code != ERR_NONE)
		return err_set(err, peer.err.code, "weftd at %s: %s", a->url, peer.err.text);
	return ok || err_prefix(err, "weftd at %s", a->url);
}

bool cli_call(const struct cli *c, const char *method, const char *path, const json_t *body, json_t **ret,
	      json_int_t *ret_object, struct err *err)
{
	struct admin a;
	struct http_answer answer;
	uint64_t timeout_ms = 30000;
	json_t *json = NULL;

	if (ret_object)
		*ret_object = -1;
	if (c->timeout && (!str_to_ms(str_of(c->timeout), &timeout_ms) || timeout_ms == 0))
		return err_set(err, ERR_INVALID, "--timeout %.40s: expected a time like 10s", c->timeout);
	if (!admin_read(c, &a, err))
		return false;
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct http_call call = {.dial = {.timeout_ms = MIN(timeout_ms, 10000)},
				 .method = method,
				 .authority = a.url + 8,
				 .path = path,
				 .content_type = text ? "application/json" : NULL,
				 .bearer = a.bearer,
				 .body = str_of(text),
				 .answer_max = ANSWER_MAX,
				 .timeout_ms = timeout_ms};
	bool ok = resolve(a.url, &call.dial.to, err) && run(&a, &call, err, &answer);
	if (ok) {
		ok = answer_json(&answer, &json, err) &&
		     (answer.status < 300 || api_refused(json, answer.status, ret_object, err));
		buf_done(&answer.body);
	}
	if (ok)
		*ret = json;
	else
		json_decref(json);
	free(text);
	admin_done(&a);
	return ok;
}

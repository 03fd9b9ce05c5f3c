/* SPDX-License-Identifier: Apache-2.0 */
/* init.c: everything is checked before the first file is made; what was made is taken away again when the next step fails. */
#include "control/init.h"

#include "certs/ca.h"
#include "certs/key.h"
#include "control/api.h"
#include "control/store.h"
#include "control/vip.h"
#include "lib/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADMIN_DAYS 365

static bool add_cidr(struct store_mesh *m, const char *text, struct err *err)
{
	struct cidr c;

	if (!cidr_parse(str_of(text), &c))
		return err_set(
		    err, ERR_INVALID,
		    "--mesh-cidr %.64s: it is not a network (like 10.1.0.0/16 or fd00:1::/48, host bits zero)", text);
	if (c.bits < 4)
		return err_set(err, ERR_INVALID,
			       "--mesh-cidr %.64s: so large a network would make nearly every address part of the mesh",
			       text);
	for (size_t i = 0; i < m->cidrs_len; i++)
		if (m->cidrs[i].bits == c.bits && ip_eq(&m->cidrs[i].ip, &c.ip))
			return true;
	if (m->cidrs_len == STORE_CIDRS_MAX)
		return err_set(err, ERR_INVALID, "--mesh-cidr: at most %d networks", STORE_CIDRS_MAX - 2);
	m->cidrs[m->cidrs_len++] = c;
	return true;
}

static bool check_server(const char *server, struct err *err)
{
	const char *colon = strrchr(server, ':');
	uint64_t port;

	if (!colon || colon == server || strlen(server) >= sizeof(((struct store_mesh *)0)->server) ||
	    !str_to_u64(str_of(colon + 1), 65535, &port) || port == 0)
		return err_set(err, ERR_INVALID,
			       "--server %.80s: expected HOST:PORT as proxies reach weftd, like 10.0.0.1:4810", server);
	return true;
}

static bool mesh_of(const struct init_options *o, struct store_mesh *ret, struct err *err)
{
	struct store_mesh m = {.cidrs_len = 0};

	if (!o->trust_domain)
		return err_set(err, ERR_INVALID,
			       "--trust-domain is missing: the name of the mesh in every identity, like mesh.example");
	if (!trust_domain_valid(str_of(o->trust_domain)))
		return err_set(err, ERR_INVALID,
			       "--trust-domain %.80s: expected a-z, 0-9, ., - and _, at most 255 bytes",
			       o->trust_domain);
	if (o->cidrs_len == 0)
		return err_set(
		    err, ERR_INVALID,
		    "--mesh-cidr is missing: the networks whose workloads are in the mesh, like 10.1.0.0/16");
	for (size_t i = 0; i < o->cidrs_len; i++)
		if (!add_cidr(&m, o->cidrs[i], err))
			return false;
	/* The services' virtual addresses are inside whatever else is. */
	if (!add_cidr(&m, VIP_CIDR_V4, err) || !add_cidr(&m, VIP_CIDR_V6, err) ||
	    (o->server && !check_server(o->server, err)))
		return false;
	snprintf(m.trust_domain, sizeof(m.trust_domain), "%s", o->trust_domain);
	snprintf(m.server, sizeof(m.server), "%s", o->server ? o->server : "");
	*ret = m;
	return true;
}

static bool make_parent(const char *path, mode_t mode, struct err *err)
{
	char *copy = mem_strdup(path);
	bool ok = true;

	for (char *slash = strchr(copy + 1, '/'); ok && slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(copy, mode) != 0 && errno != EEXIST)
			ok = err_errno(err, "directory %s", copy);
		*slash = '/';
	}
	mem_free(copy);
	return ok;
}

/* --- the administrator's configuration --- */

static char *pem_text(BIO *bio)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);
	char *text = mem_strndup(data, (size_t)len);

	BIO_free(bio);
	return text;
}

static bool der_to_pem(BIO *bio, struct str der)
{
	const unsigned char *p = (const unsigned char *)der.p;
	X509 *x = d2i_X509(NULL, &p, (long)der.len);
	bool ok = x && PEM_write_bio_X509(bio, x) == 1;

	X509_free(x);
	return ok;
}

static void hex_of(const uint8_t *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
}

static json_t *config_of(struct ca *ca, X509 *leaf, EVP_PKEY *key, const char *url, const char *trust_domain)
{
	BIO *certificate = BIO_new(BIO_s_mem()), *root = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_secmem());
	uint8_t hash[32];
	char hex[65];

	MUST(certificate && root && secret);
	MUST(PEM_write_bio_X509(certificate, leaf) == 1 && der_to_pem(certificate, ca_issuer_der(ca)) &&
	     der_to_pem(root, ca_root_der(ca)) &&
	     PEM_write_bio_PKCS8PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL) == 1);
	MUST(EVP_Digest(ca_root_der(ca).p, ca_root_der(ca).len, hash, NULL, EVP_sha256(), NULL) == 1);
	hex_of(hash, sizeof(hash), hex);
	char *c = pem_text(certificate), *r = pem_text(root), *k = pem_text(secret);
	json_t *config = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "url", url, "trustDomain", trust_domain,
				   "rootHash", hex, "root", r, "certificate", c, "key", k);
	mem_free(c);
	mem_free(r);
	mem_wipe_free(k, strlen(k));
	return config;
}

static bool write_config(const char *path, const json_t *config, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 && errno == EEXIST)
		return err_set(err, ERR_EXISTS, "%s: it exists already; nothing was changed", path);
	if (fd < 0)
		return err_errno(err, "%s", path);
	bool ok = json_dumpfd(config, fd, JSON_INDENT(2)) == 0 && write(fd, "\n", 1) == 1 && fsync(fd) == 0;
	if (!ok)
		err_errno(err, "%s", path);
	close(fd);
	if (!ok)
		unlink(path);
	return ok;
}

static bool make_admin(const struct ca_material *m, const char *trust_domain, const char *url, json_t **ret,
		       struct err *err)
{
	struct spiffe id;
	struct ca *ca = ca_new(m, err);
	EVP_PKEY *key = ca ? key_new(err) : NULL;
	X509 *leaf = NULL;

	if (key && spiffe_make(str_of(trust_domain), STR("weft-system"), STR(ADMIN_SA), &id, err))
		leaf = ca_sign(ca, key, &(struct ca_leaf){.id = &id, .lifetime_s = ADMIN_DAYS * 86400ull, .operator = true}, err);
	if (leaf)
		*ret = config_of(ca, leaf, key, url, trust_domain);
	X509_free(leaf);
	EVP_PKEY_free(key);
	if (ca)
		ca_free(&ca);
	return leaf != NULL;
}

static void url_of(const struct init_options *o, char *out, size_t size)
{
	const char *colon = o->server ? strrchr(o->server, ':') : NULL;

	if (o->url)
		snprintf(out, size, "%s", o->url);
	else if (colon)
		snprintf(out, size, "https://%.*s:%d", (int)(colon - o->server), o->server, API_PORT);
	else
		snprintf(out, size, "https://127.0.0.1:%d", API_PORT);
}

static bool absent(const char *path, struct err *err)
{
	if (access(path, F_OK) == 0)
		return err_set(err, ERR_EXISTS, "%s: it exists already; nothing was changed", path);
	return errno == ENOENT || err_errno(err, "%s", path);
}

bool init_run(const struct init_options *o, struct err *err)
{
	struct store_mesh mesh;
	struct ca_material material = {0};
	json_t *config = NULL;
	char url[256];

	url_of(o, url, sizeof(url));
	if (!mesh_of(o, &mesh, err) || !make_parent(o->store, 0700, err) || !make_parent(o->admin_config, 0755, err) ||
	    !absent(o->store, err) || !absent(o->admin_config, err) ||
	    !ca_make(str_of(mesh.trust_domain), &material, err))
		return false;
	bool ok = make_admin(&material, mesh.trust_domain, url, &config, err) &&
		  store_create(o->store, &mesh, &material, err);
	if (ok && !write_config(o->admin_config, config, err)) {
		unlink(o->store); /* the one just made: without its administrator it is of no use */
		ok = false;
	}
	json_decref(config);
	ca_material_done(&material);
	return ok;
}

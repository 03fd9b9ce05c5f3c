/* SPDX-License-Identifier: Apache-2.0 */
/* verdict.h: what was learned about undeclared ports (and about who dials us), so that it is found out once and not on every connection.
 * A bounded memory: the longest unused goes first, and what was not seen again for an hour is forgotten. It knows nothing of how a
 * verdict is reached (session.c). One a thread. */
#ifndef WEFT_PROXY_VERDICT_H
#define WEFT_PROXY_VERDICT_H

#include "lib/sock.h"
#include "lib/str.h"

#define VERDICT_MAX      4096
#define VERDICT_MS       3600000 /* not confirmed for so long: forgotten */
#define VERDICT_DOUBT_MS 60000   /* confirmed within: a doubt alone does not shake it */
#define VERDICT_KEY_MAX  512     /* longer keys are cut: a name has at most 320 bytes, a version 128 */

enum known {
	KNOWN_NOTHING,
	KNOWN_HTTP,         /* port: an application answered in HTTP there */
	KNOWN_SERVER_FIRST, /* port: the server speaks first */
	KNOWN_PLAIN,        /* peer: has only ever come in plaintext */
	KNOWN_MESH,         /* peer: has been verified as a sidecar */
};

struct verdicts;

struct verdict_key {
	size_t len;
	char text[VERDICT_KEY_MAX];
};
/* A port of a service; another version of the Service is another place. */
void verdict_key_service(struct verdict_key *k, const char *name, const char *version, uint16_t port);
void verdict_key_addr(struct verdict_key *k, const struct addr *a); /* a workload's, or our own */
void verdict_key_ip(struct verdict_key *k, const struct ip *ip);    /* a peer's */

struct verdicts *verdicts_new(void);
void verdicts_free(struct verdicts **v);
size_t verdicts_len(const struct verdicts *v);

enum known verdict_get(struct verdicts *v, const struct verdict_key *k, uint64_t now_ms);
/* Learns or confirms. True when it is news: nothing or something else was known. */
bool verdict_learn(struct verdicts *v, const struct verdict_key *k, enum known is, uint64_t now_ms);
void verdict_forget(struct verdicts *v, const struct verdict_key *k); /* it was contradicted */
/* Something speaks against it, but proves nothing: forgotten unless it was confirmed lately. */
void verdict_doubt(struct verdicts *v, const struct verdict_key *k, uint64_t now_ms);

#endif

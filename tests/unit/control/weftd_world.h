/* SPDX-License-Identifier: Apache-2.0 */
/* weftd_world.h: a weftd that issues certificates and takes registrations over gRPC and TLS on loopback, and one proxy that calls it; all
 * on one loop. */
#ifndef WEFT_TESTS_WEFTD_WORLD_H
#define WEFT_TESTS_WEFTD_WORLD_H

#include "certs/ca.h"
#include "certs/tlsctx.h"
#include "certs/token.h"
#include "control/issue_call.h"
#include "control/registry.h"
#include "control/store.h"
#include "control/talk.h"
#include "control/write_queue.h"
#include "lib/listener.h"

#define WORLD_HELD_MAX 1024 /* bytes of registrations that wait */
#define WORLD_TD       "weft.test"
#define WORLD_WEFTD    "spiffe://weft.test/ns/weft-system/sa/weftd"

extern const char *const world_alpn[];

struct weftd_world {
	char dir[64];
	struct loop *loop;
	struct store *store;
	struct write_queue *writes;
	struct ca *ca;
	struct bundle *bundle;
	struct issue *issue;
	struct registry *registry;
	struct talk_server *talks;
	SSL_CTX *tls; /* the server borrows it */
	struct grpc_server *server;
	struct listener *listener;
	struct addr at;
	uint8_t root_hash[32];
	/* client */
	struct http_session *session;
	struct conn *conn;
	struct tls_peer peer;
	struct grpc_call *call;
	bool ready, failed, ended;
	enum grpc_status status;
	char text[600];
	uint8_t *answer;
	size_t answer_len;
	unsigned answers;
	EVP_PKEY *key;
};
extern struct weftd_world w;

/* A fixture. */
void world_make(void);
void world_drop(void);

void world_run_ms(uint64_t ms);
/* Runs until one of both; 10 s without is a failed test. */
void world_until(const bool *a, const bool *b);

/* --- the proxy --- */

/* True when connected and of that identity; takes tls over. */
bool world_dial(SSL_CTX *tls, const char *expect);
SSL_CTX *world_bootstrap(void); /* a client that has nothing but the hash of a root */
void world_hang_up(void);
/* A fresh token for shop/orders. */
void world_token(char text[static TOKEN_TEXT_MAX]);
/* w.call; what comes on it is in w: the last message, how many, how it ended. */
void world_open_call(const char *path);
/* The call Issue with `copies` of the message; what comes is in w. */
void world_begin_call(const char *token, const char *rejoin, const char *instance, int copies);
void world_call(const char *token, const char *rejoin, const char *instance, int copies);
/* Of weftd's own CA. The caller's. */
struct credential *world_credential(const char *ns, const char *sa, bool with_root);
/* What was issued, the caller's; and the rejoin secret that came with it. */
struct credential *world_credential_of_answer(char rejoin[static 65]);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* upgrade.h: a WebSocket between a client and an application of which one speaks HTTP/1.1 and the other HTTP/2. An Upgrade proves itself with
 * a key and an answer to it (RFC 6455 4), extended CONNECT needs neither (RFC 8441 5): what the one side lacks is made, what the other
 * does not know is taken out. Nothing else of an upgrade needs help: the codecs translate it. */
#ifndef WEFT_PROXY_UPGRADE_H
#define WEFT_PROXY_UPGRADE_H

#include "lib/http/message.h"

enum upgrade_does {
	UPGRADE_NOTHING, /* no WebSocket, or both sides speak the same */
	UPGRADE_PROVES,  /* the client wants proof that the application need not give */
	UPGRADE_CHECKS,  /* the application gives proof that the client has not asked for */
};

struct upgrade {
	enum upgrade_does does;
	char accept[32]; /* base64 of SHA-1: 28 characters */
};

/* Before a request goes to the application: `to_h2`, what that speaks; m->version, what the client speaks. Once for each request. */
bool upgrade_ask(struct upgrade *u, struct message *m, bool to_h2) MUST_USE;
/* Before the answer that opens the tunnel goes back. False: the proof is wrong, or the arena is full. */
bool upgrade_open(const struct upgrade *u, struct message *m) MUST_USE;

#endif

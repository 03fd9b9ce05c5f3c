/* SPDX-License-Identifier: Apache-2.0 */
/* upgrade.c: see upgrade.h. SHA-1 proves no identity here: it only shows that a server knows what a WebSocket is. */
#include "proxy/upgrade.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#define KEY      "Sec-WebSocket-Key"
#define ACCEPT   "Sec-WebSocket-Accept"
#define GUID     "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define KEY_TEXT 24 /* 16 bytes in base64 */

static bool accept_of(struct str key, char ret[32])
{
	char text[KEY_TEXT + sizeof(GUID)];
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	if (key.len != KEY_TEXT)
		return false;
	memcpy(text, key.p, KEY_TEXT);
	memcpy(text + KEY_TEXT, GUID, sizeof(GUID) - 1);
	if (EVP_Digest(text, KEY_TEXT + sizeof(GUID) - 1, sum, &n, EVP_sha1(), NULL) != 1)
		return false;
	EVP_EncodeBlock((unsigned char *)ret, sum, (int)n);
	return true;
}

static bool add_key(struct upgrade *u, struct message *m)
{
	unsigned char random[16];
	char key[KEY_TEXT + 1];
	if (RAND_bytes(random, sizeof(random)) != 1)
		return false;
	EVP_EncodeBlock((unsigned char *)key, random, sizeof(random));
	u->does = UPGRADE_CHECKS;
	return accept_of(str_make(key, KEY_TEXT), u->accept) &&
	       message_add(m, STR(KEY), str_make(key, KEY_TEXT), false);
}

bool upgrade_ask(struct upgrade *u, struct message *m, bool to_h2)
{
	*u = (struct upgrade){UPGRADE_NOTHING, ""};
	bool from_h2 = m->version == HTTP_2;
	if (from_h2 == to_h2 || m->framing != FRAMING_TUNNEL || !str_ieq(m->protocol, STR("websocket")))
		return true;
	const struct field *key = message_get(m, KEY);
	if (from_h2)
		return key != NULL || add_key(u, m);
	if (key != NULL && accept_of(key->value, u->accept))
		u->does = UPGRADE_PROVES;
	message_del(m, KEY);
	return true;
}

bool upgrade_open(const struct upgrade *u, struct message *m)
{
	const struct field *f;
	switch (u->does) {
	case UPGRADE_NOTHING:
		break;
	case UPGRADE_PROVES:
		message_del(m, ACCEPT);
		return message_add(m, STR(ACCEPT), str_of(u->accept), false);
	case UPGRADE_CHECKS:
		f = message_get(m, ACCEPT);
		if (f == NULL || !str_is(f->value, u->accept))
			return false;
		message_del(m, ACCEPT);
		break;
	}
	return true;
}

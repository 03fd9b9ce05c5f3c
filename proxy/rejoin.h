/* SPDX-License-Identifier: Apache-2.0 */
/* rejoin.h: the rejoin secret on disk: what a sidecar comes back with after a full restart, when its join token is spent. It
 * changes at each use. The file is 0600 in the state directory, replaced atomically and made durable before the old secret
 * is forgotten. Also says which root to trust before there is a certificate. */
#ifndef WEFT_PROXY_REJOIN_H
#define WEFT_PROXY_REJOIN_H

#include "lib/err.h"
#include "proxy/issue.h"

struct rejoin {
	uint8_t root_hash[32];
	char trust_domain[256];
	char secret[ISSUE_REJOIN_MAX];
};

/* False with ERR_NOT_FOUND when there is none. Wipe *ret with mem_wipe after use. */
bool rejoin_load(const char *dir, struct rejoin *ret, struct err *err);
bool rejoin_store(const char *dir, const struct rejoin *r, struct err *err);

/* Puts a file in place of the one before, or leaves that; 0600. `durable`: on the disk when this returns. */
bool state_write(const char *dir, const char *name, const void *bytes, size_t len, bool durable, struct err *err);
/* Whole file, at most max bytes; mem_wipe_free(*ret, *ret_len). ERR_NOT_FOUND when there is none. */
bool state_read(const char *dir, const char *name, size_t max, uint8_t **ret, size_t *ret_len, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* own_cert.h: weftd's own certificate, spiffe://TD/ns/weft-system/sa/weftd, which its embedded CA signs at each start and anew at
 * half its life. The key lives in memory only. */
#ifndef WEFT_CONTROL_OWN_CERT_H
#define WEFT_CONTROL_OWN_CERT_H

#include "certs/ca.h"
#include "certs/credential.h"

#define OWN_NS         "weft-system"
#define OWN_SA         "weftd"
#define OWN_LIFETIME_S 86400

/* names: DNS names and addresses that clients outside the mesh may know it by; NULL-terminated. The chain has the root too:
 * who joins knows it by its hash only. */
struct credential *own_cert_new(struct ca *ca, const char *trust_domain, const char *const *names, struct err *err);
/* Half of its life is over. */
bool own_cert_due(const struct credential *c, int64_t now_s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* vip.h: virtual addresses of services: the lowest free of 240.0.0.0/4 and fd77:6566:7400:1::/64, kept in the store, not
 * given to another service for 24 h after their service went (clients and caches may still hold them). */
#ifndef WEFT_CONTROL_VIP_H
#define WEFT_CONTROL_VIP_H

#include "control/store.h"

#define VIP_REST_MS (24 * 3600 * 1000) /* not reused for so long */
#define VIP_CIDR_V4 "240.0.0.0/4"
#define VIP_CIDR_V6 "fd77:6566:7400:1::/64"

/* All within a transaction of the store (from an admit function). service: "namespace/name". */
/* The address that the service has or had in this family (AF_INET, AF_INET6), else the lowest free one. */
bool vip_take(struct store *s, const char *service, int family, struct ip *ret, struct err *err);
/* This very address for the service; ERR_CONFLICT names the service that has it. */
bool vip_claim(struct store *s, const char *service, const struct ip *ip, struct err *err);
/* Frees every address of the service but the `keep_len` ones given. */
bool vip_free(struct store *s, const char *service, const struct ip *keep, size_t keep_len, struct err *err);

#endif

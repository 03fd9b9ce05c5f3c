/* SPDX-License-Identifier: Apache-2.0 */
/* feed.h: resources as weftd would push them, for the tests of configuration and subscription. */
#ifndef WEFT_TESTS_FEED_H
#define WEFT_TESTS_FEED_H

#include "lib/proto/weft.pb-c.h"
#include "proxy/resource.h"

#define FEED_BYTES_MAX (256u << 10)

struct feed { /* one packed resource; feed.from points into it */
	struct resource_from from;
	char name[RESOURCE_NAME_MAX], version[64], alias[4][RESOURCE_ALIAS_MAX];
	struct str aliases[4];
	uint8_t bytes[FEED_BYTES_MAX];
};

/* "shop/orders" at `vip` with port 80 (protocol as given). */
void feed_service(struct feed *f, const char *name, const char *version, const char *vip, enum protocol p);
/* One meshed endpoint at ip:8080 for port 80; ip NULL: none. */
void feed_endpoints(struct feed *f, const char *service, const char *version, const char *vip, const char *ip);
/* Lists the Service at this version, and `extra_type` (NULL: nothing else) of the same name and version "x1". */
void feed_manifest(struct feed *f, const char *service, const char *version, const char *vip,
		   const char *service_version, const char *extra_type);
void feed_workload(struct feed *f, const char *name, const char *version, const char *ip);
void feed_self(struct feed *f, const char *version);
void feed_mesh(struct feed *f, const char *version, const char *trust_domain); /* cidr 10.0.0.0/8 */
/* Any message under a name. */
void feed_message(struct feed *f, enum resource_type t, const char *name, const char *version,
		  const ProtobufCMessage *m);
void feed_alias(struct feed *f, const char *ip);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* kind_service.h: a normalised `v1` Service as a struct, for whoever pushes or lists it. */
#ifndef WEFT_CONTROL_KIND_SERVICE_H
#define WEFT_CONTROL_KIND_SERVICE_H

#include "lib/err.h"
#include "lib/proto/weft.pb-c.h"
#include "lib/sock.h"

#include <jansson.h>

#define SERVICE_PORTS_MAX 128
#define SERVICE_VIPS_MAX  2

struct service_port {
	const char *name; /* "" when it has none; into the object */
	uint16_t port, target;
	Weft__V1__Protocol protocol;
};
struct service {
	const char *ns, *name;  /* into the object */
	const json_t *selector; /* {"app": "orders"}; NULL: none, its endpoints come from EndpointSlices */
	bool headless;          /* clusterIP None: no virtual address */
	struct ip vips[SERVICE_VIPS_MAX];
	size_t vips_len;
	struct service_port ports[SERVICE_PORTS_MAX];
	size_t ports_len;
};
/* Reads an object that object_check() and the store made; everything borrows from it. False only for an object that is not
 * one (a store written by a later version). */
bool service_read(const json_t *object, struct service *ret, struct err *err);
/* True when every pair of the selector is in labels (either may be NULL; no selector matches nothing). */
bool service_selects(const struct service *s, const json_t *labels);

/* What a name says of a protocol: appProtocol ("kubernetes.io/h2c"), a port's name or its part before the first "-", or the
 * protocol of a workload's port ("8080/http"). False: it says nothing. */
bool protocol_of(const char *name, Weft__V1__Protocol *ret);

#endif

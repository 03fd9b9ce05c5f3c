/* SPDX-License-Identifier: Apache-2.0 */
/* kind_endpointslice.h: a normalised `discovery.k8s.io/v1` EndpointSlice as a struct: endpoints that nobody registered,
 * so they are outside the mesh. */
#ifndef WEFT_CONTROL_KIND_ENDPOINTSLICE_H
#define WEFT_CONTROL_KIND_ENDPOINTSLICE_H

#include "lib/err.h"
#include "lib/sock.h"

#include <jansson.h>

#define SLICE_ENDPOINTS_MAX 1000 /* as Kubernetes has it */
#define SLICE_PORTS_MAX     100

struct slice_port {
	const char *name; /* "" when it has none: matches a service's port of the same name */
	uint16_t port;
};
struct slice_endpoint {
	struct ip ip;     /* the first address; Kubernetes too takes only the first */
	bool ready;       /* conditions.ready, true when not said */
	const char *zone; /* NULL: none */
};
struct slice {
	const char *ns, *name;
	const char *service; /* label kubernetes.io/service-name, in the same namespace; "" when it has none */
	struct slice_port ports[SLICE_PORTS_MAX];
	size_t ports_len;
	struct slice_endpoint *endpoints; /* slice_done() */
	size_t endpoints_len;
};
bool slice_read(const json_t *object, struct slice *ret, struct err *err);
void slice_done(struct slice *s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.h: the configuration as the data path reads it: immutable, counted, swapped whole. Made by config.c from pushed
 * resources (link) or from a file (-f); read by sessions and requests, which keep the one they began with.
 *
 * Service, endpoint set and workload are counted by themselves, so that a new snapshot shares what did not change.
 * References may be dropped on any thread (atomic counts). */
#ifndef WEFT_PROXY_SNAPSHOT_H
#define WEFT_PROXY_SNAPSHOT_H

#include "lib/sock.h"
#include "lib/str.h"

enum protocol { PROTOCOL_UNDECLARED, PROTOCOL_HTTP, PROTOCOL_HTTP2, PROTOCOL_TCP, PROTOCOL_TLS, PROTOCOL_COUNT };
const char *protocol_name(enum protocol p); /* "undeclared", "http", "http2", "tcp", "tls" */
/* The name as users write it: those above and "grpc", "h2c" (http2), "" (undeclared). */
bool protocol_parse(struct str s, enum protocol *ret);

struct endpoint { /* one address and port to dial, of one service port */
	struct addr addr;
	const char *identity; /* expected spiffe:// URI; NULL only when !meshed */
	const char *workload; /* "namespace/instance" */
	const char *zone;     /* "" when unknown */
	uint32_t weight;      /* >= 1 */
	bool meshed;
};

struct endpoint_set { /* the endpoints of one port of a service; immutable, counted */
	unsigned refs;
	size_t len;
	struct endpoint v[];
};
struct endpoint_set *endpoint_set_ref(struct endpoint_set *s);
void endpoint_set_unref(struct endpoint_set **s);

struct service_port {
	uint16_t port;
	enum protocol protocol;
	const char *name; /* "" when unnamed */
	/* By the family of the address that was dialled, as Kubernetes does: an application that listens on IPv4 only is not asked over IPv6
	 * because its host has both. All of the service's endpoints where none is of that family; the two may be one set. Never NULL, may
	 * be empty. */
	struct endpoint_set *endpoints, *endpoints6;
};
static inline struct endpoint_set *service_port_endpoints(const struct service_port *p, const struct ip *dialled)
{
	return dialled->len == 16 ? p->endpoints6 : p->endpoints;
}

struct route_table; /* snapshot_route.h */

struct service { /* immutable, counted; endpoints of a changed set make a new service struct */
	unsigned refs;
	const char *name;    /* "namespace/name" */
	const char *version; /* of the Service resource it came from: "which policy decided" */
	size_t n_vips, n_ports;
	struct ip *vips;
	struct service_port *ports;
	struct route_table *routes; /* attached to it; NULL: none. Owned by a reference */
};

/* A port that a workload listens on, as declared: this workload's own, or a remote one's. */
struct inbound_port {
	uint16_t port;
	enum protocol protocol;
	bool http_policy; /* HTTP policy applies: opaque streams (weft1-tcp) are refused here */
};

struct workload { /* a pod's own address; immutable, counted */
	unsigned refs;
	const char *name;     /* "namespace/instance" */
	const char *version;  /* of the Workload resource it came from */
	const char *identity; /* expected spiffe:// URI; NULL only when !meshed */
	bool meshed;
	size_t n_addrs, n_ports;
	struct ip *addrs;
	struct inbound_port *ports; /* declared ones; others may be dialled too, undeclared */
};

struct snapshot;
struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot **s);

/* What is known of an address and port. */
enum target_kind {
	TARGET_EXTERNAL, /* outside the mesh CIDRs and not named by any resource: passed on as it is, at once */
	TARGET_UNKNOWN,  /* inside, and answered "nothing there" (or no control plane to ask): refused */
	TARGET_ASK,      /* inside, not asked yet or not answered: wait for view_want() */
	TARGET_NO_PORT,  /* a service that has no such port */
	TARGET_SERVICE,
	TARGET_WORKLOAD,
};
struct target { /* pointers are borrowed from the snapshot */
	enum target_kind kind;
	const struct service *service;   /* TARGET_SERVICE, TARGET_NO_PORT */
	const struct service_port *port; /* TARGET_SERVICE */
	const struct workload *workload; /* TARGET_WORKLOAD */
	struct endpoint direct;          /* TARGET_WORKLOAD: the address asked for, and whom to expect there */
	enum protocol protocol;          /* declared, or PROTOCOL_UNDECLARED */
	struct endpoint_set *endpoints;  /* TARGET_SERVICE: the port's, of the family that was dialled */
};
void snapshot_find(const struct snapshot *s, const struct addr *to, struct target *ret);

/* This workload's own inbound ports. */
const struct inbound_port *snapshot_inbound(const struct snapshot *s, uint16_t port); /* NULL: undeclared */
const char *snapshot_trust_domain(const struct snapshot *s);                          /* "" while unknown */
uint64_t snapshot_serial(const struct snapshot *s);                                   /* counts up with every swap */
size_t snapshot_services(const struct snapshot *s);
size_t snapshot_workloads(const struct snapshot *s);

#endif

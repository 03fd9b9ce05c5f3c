/* SPDX-License-Identifier: Apache-2.0 */
/* feed.c: packs resources for tests. */
#include "feed.h"

#include <stdio.h>

static void split(const char *name, char ns[64], char base[256])
{
	sscanf(name, "%63[^/]/%255s", ns, base);
}

static ProtobufCBinaryData ip_bytes(const char *text, struct ip *ip)
{
	MUST(ip_parse(str_of(text), ip));
	return (ProtobufCBinaryData){ip->len, ip->b};
}

void feed_message(struct feed *f, enum resource_type t, const char *name, const char *version,
		  const ProtobufCMessage *m)
{
	memset(f, 0, offsetof(struct feed, bytes));
	snprintf(f->name, sizeof(f->name), "%s", name);
	snprintf(f->version, sizeof(f->version), "%s", version);
	MUST(protobuf_c_message_get_packed_size(m) <= sizeof(f->bytes));
	size_t len = protobuf_c_message_pack(m, f->bytes);
	f->from = (struct resource_from){
	    .type = t,
	    .name = str_of(f->name),
	    .version = str_of(f->version),
	    .bytes = str_make(f->bytes, len),
	    .aliases = f->aliases,
	};
}

void feed_alias(struct feed *f, const char *ip)
{
	size_t i = f->from.n_aliases++;
	MUST(i < ARRAY_LEN(f->alias));
	snprintf(f->alias[i], sizeof(f->alias[i]), "addr:%s", ip);
	f->aliases[i] = str_of(f->alias[i]);
}

void feed_service(struct feed *f, const char *name, const char *version, const char *vip, enum protocol p)
{
	Weft__V1__Service s = WEFT__V1__SERVICE__INIT;
	Weft__V1__ServicePort port = WEFT__V1__SERVICE_PORT__INIT, *ports[] = {&port};
	char ns[64], base[256], port_name[] = "http";
	struct ip ip;
	ProtobufCBinaryData vips[] = {ip_bytes(vip, &ip)};
	split(name, ns, base);
	s.namespace_ = ns;
	s.name = base;
	s.vips = vips;
	s.n_vips = 1;
	port.name = port_name;
	port.port = 80;
	port.protocol = (Weft__V1__Protocol)p;
	s.ports = ports;
	s.n_ports = 1;
	feed_message(f, RESOURCE_SERVICE, name, version, &s.base);
	feed_alias(f, vip);
}

void feed_endpoints(struct feed *f, const char *service, const char *version, const char *vip, const char *ip)
{
	Weft__V1__Endpoints m = WEFT__V1__ENDPOINTS__INIT;
	Weft__V1__Endpoint e = WEFT__V1__ENDPOINT__INIT, *v[] = {&e};
	Weft__V1__EndpointPort port = WEFT__V1__ENDPOINT_PORT__INIT, *ports[] = {&port};
	char name[RESOURCE_NAME_MAX], identity[] = "spiffe://test.mesh/ns/shop/sa/orders", workload[] = "shop/orders-1";
	struct ip addr;
	snprintf(name, sizeof(name), "%s", service);
	m.service = name;
	m.endpoints = v;
	m.n_endpoints = ip ? 1 : 0;
	if (ip)
		e.address = ip_bytes(ip, &addr);
	e.identity = identity;
	e.meshed = true;
	e.workload = workload;
	port.service_port = 80;
	port.port = 8080;
	e.ports = ports;
	e.n_ports = 1;
	feed_message(f, RESOURCE_ENDPOINTS, service, version, &m.base);
	feed_alias(f, vip);
}

void feed_manifest(struct feed *f, const char *service, const char *version, const char *vip,
		   const char *service_version, const char *extra_type)
{
	Weft__V1__Manifest m = WEFT__V1__MANIFEST__INIT;
	Weft__V1__ManifestEntry own = WEFT__V1__MANIFEST_ENTRY__INIT, extra = WEFT__V1__MANIFEST_ENTRY__INIT;
	Weft__V1__ManifestEntry *v[] = {&own, &extra};
	char name[RESOURCE_NAME_MAX], type[128], own_version[64], extra_version[] = "x1", extra_url[128];
	snprintf(name, sizeof(name), "%s", service);
	snprintf(type, sizeof(type), "%s", resource_type_url(RESOURCE_SERVICE));
	snprintf(own_version, sizeof(own_version), "%s", service_version);
	snprintf(extra_url, sizeof(extra_url), "%s%s", RESOURCE_TYPE_PREFIX, extra_type ? extra_type : "");
	m.service = name;
	own.type_url = type;
	own.name = extra.name = name;
	own.version = own_version;
	extra.type_url = extra_url;
	extra.version = extra_version;
	m.entries = v;
	m.n_entries = extra_type ? 2 : 1;
	feed_message(f, RESOURCE_MANIFEST, service, version, &m.base);
	feed_alias(f, vip);
}

void feed_workload(struct feed *f, const char *name, const char *version, const char *ip)
{
	Weft__V1__Workload w = WEFT__V1__WORKLOAD__INIT;
	char ns[64], base[256], identity[] = "spiffe://test.mesh/ns/shop/sa/orders";
	struct ip addr;
	ProtobufCBinaryData addrs[] = {ip_bytes(ip, &addr)};
	split(name, ns, base);
	w.namespace_ = ns;
	w.name = base;
	w.identity = identity;
	w.meshed = true;
	w.addresses = addrs;
	w.n_addresses = 1;
	feed_message(f, RESOURCE_WORKLOAD, name, version, &w.base);
	feed_alias(f, ip);
}

void feed_self(struct feed *f, const char *version)
{
	Weft__V1__Self s = WEFT__V1__SELF__INIT;
	Weft__V1__WorkloadPort port = WEFT__V1__WORKLOAD_PORT__INIT, *ports[] = {&port};
	char ns[] = "shop", name[] = "client-1", sa[] = "client";
	s.name = name;
	s.namespace_ = ns;
	s.service_account = sa;
	port.port = 9000;
	port.protocol = WEFT__V1__PROTOCOL__HTTP;
	port.http_policy = true;
	s.ports = ports;
	s.n_ports = 1;
	feed_message(f, RESOURCE_SELF, "self", version, &s.base);
}

void feed_mesh(struct feed *f, const char *version, const char *trust_domain)
{
	Weft__V1__MeshConfig m = WEFT__V1__MESH_CONFIG__INIT;
	Weft__V1__MeshCidr cidr = WEFT__V1__MESH_CIDR__INIT, *cidrs[] = {&cidr};
	char td[256];
	struct ip ip;
	snprintf(td, sizeof(td), "%s", trust_domain);
	m.trust_domain = td;
	cidr.address = ip_bytes("10.0.0.0", &ip);
	cidr.bits = 8;
	m.cidrs = cidrs;
	m.n_cidrs = 1;
	feed_message(f, RESOURCE_MESH, "mesh", version, &m.base);
}

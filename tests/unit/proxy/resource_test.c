/* SPDX-License-Identifier: Apache-2.0 */
/* Pushed resources: what is taken, and what is refused with which words. */
#include "feed.h"

#include <check.h>
#include <stdio.h>

static struct feed f;

static void taken(void)
{
	struct err err = {0};
	struct resource *r = resource_new(&f.from, &err);
	ck_assert_msg(r != NULL, "%s", err.text);
	ck_assert_str_eq(r->name, f.name);
	ck_assert_str_eq(r->version, f.version);
	void *m = resource_message(r);
	resource_message_free(r, m);
	resource_unref(&r);
}

static void refused(const char *words)
{
	struct err err = {0};
	struct resource *r = resource_new(&f.from, &err);
	ck_assert_ptr_null(r);
	ck_assert_msg(strstr(err.text, words) != NULL, "\"%s\" is not in \"%s\"", words, err.text);
}

START_TEST(takes_each_type)
{
	feed_service(&f, "shop/orders", "v1", "240.0.0.1", PROTOCOL_HTTP);
	taken();
	feed_endpoints(&f, "shop/orders", "v1", "240.0.0.1", "10.1.0.2");
	taken();
	feed_endpoints(&f, "shop/orders", "v1", "240.0.0.1", NULL);
	taken();
	feed_manifest(&f, "shop/orders", "v1", "240.0.0.1", "v1", NULL);
	taken();
	feed_workload(&f, "shop/orders-1", "v1", "fd00::2");
	taken();
	feed_self(&f, "v1");
	taken();
	feed_mesh(&f, "v1", "test.mesh");
	taken();
}
END_TEST

START_TEST(keeps_address_aliases_and_drops_others)
{
	feed_service(&f, "shop/orders", "v1", "240.0.0.1", PROTOCOL_HTTP);
	feed_alias(&f, "not-an-ip");
	feed_alias(&f, "fd00::1");
	struct resource *r = resource_new(&f.from, NULL);
	ck_assert_uint_eq(r->n_aliases, 2);
	struct ip ip;
	ck_assert(ip_parse(STR("fd00::1"), &ip));
	ck_assert(ip_eq(&r->aliases[1], &ip));
	resource_unref(&r);
}
END_TEST

START_TEST(refuses_envelopes_that_do_not_fit)
{
	feed_service(&f, "shop/orders", "", "240.0.0.1", PROTOCOL_HTTP);
	refused("version");
	feed_service(&f, "shop/orders", "v 1", "240.0.0.1", PROTOCOL_HTTP);
	refused("version");
	feed_service(&f, "shop/orders", "v1", "240.0.0.1", PROTOCOL_HTTP);
	f.from.name = STR("shop/other");
	refused("the content says \"shop/orders\"");
	f.from.name = STR("orders");
	refused("namespace/name");
	f.from.name = STR("shop/../orders");
	refused("namespace/name");
	f.from.name = STR("Shop/orders");
	refused("namespace/name");
	feed_self(&f, "v1");
	f.from.name = STR("other");
	refused("must be \"self\"");
	feed_endpoints(&f, "shop/orders", "v1", "240.0.0.1", NULL);
	f.from.name = STR("shop/other");
	refused("service: the content says");
}
END_TEST

START_TEST(refuses_bytes_that_are_no_message)
{
	feed_service(&f, "shop/orders", "v1", "240.0.0.1", PROTOCOL_HTTP);
	f.from.bytes.len--;
	refused("not a message of type Service");
	f.from.bytes = STR("\xff\xff\xff\xff\xff");
	refused("not a message");
	f.from.bytes.len = 0;
	refused("the content says \"/\"");
}
END_TEST

START_TEST(refuses_unknown_fields_at_any_depth)
{
	feed_service(&f, "shop/orders", "v1", "240.0.0.1", PROTOCOL_HTTP);
	uint8_t extra[FEED_BYTES_MAX];
	memcpy(extra, f.from.bytes.p, f.from.bytes.len);
	size_t len = f.from.bytes.len;
	extra[len++] = 15 << 3; /* field 15, varint */
	extra[len++] = 1;
	f.from.bytes = str_make(extra, len);
	refused("field 15 of Service is not known");

	static const uint8_t nested[] = {
	    0x0a, 6, 'o',  'r', 'd',  'e', 'r', 's', 0x12, 4, 's', 'h', 'o', 'p', /* name, namespace */
	    0x22, 4, 0x10, 80,  0x78, 1,                                          /* ports[0]: port 80, field 15 = 1 */
	};
	f.from.bytes = str_make(nested, sizeof(nested));
	refused("ports[0]: field 15 of ServicePort");
}
END_TEST

static void service_with(void (*change)(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip))
{
	Weft__V1__Service s = WEFT__V1__SERVICE__INIT;
	Weft__V1__ServicePort port = WEFT__V1__SERVICE_PORT__INIT, port2 = WEFT__V1__SERVICE_PORT__INIT;
	Weft__V1__ServicePort *ports[] = {&port, &port2};
	static uint8_t bytes[] = {240, 0, 0, 1};
	ProtobufCBinaryData vips[] = {{4, bytes}, {4, bytes}};
	s.namespace_ = (char *)"shop";
	s.name = (char *)"orders";
	s.vips = vips;
	s.n_vips = 1;
	s.ports = ports;
	s.n_ports = 1;
	port.port = port2.port = 80;
	change(&s, &port, vips);
	feed_message(&f, RESOURCE_SERVICE, "shop/orders", "v1", &s.base);
}

static void port_zero(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	p->port = 0;
}
static void port_big(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	p->port = 70000;
}
static void port_twice(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	s->n_ports = 2;
}
static void odd_protocol(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	p->protocol = (Weft__V1__Protocol)9;
}
static void odd_port_name(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	p->name = (char *)"a\nb";
}
static void vip_short(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	vip->len = 3;
}
static void vip_twice(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	s->n_vips = 2;
}
static void vip_loopback(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	static uint8_t lo[] = {127, 0, 0, 1};
	vip->data = lo;
}
static void vip_any(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	static uint8_t any[16];
	*vip = (ProtobufCBinaryData){16, any};
}
static void vip_mapped(Weft__V1__Service *s, Weft__V1__ServicePort *p, ProtobufCBinaryData *vip)
{
	static uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 10};
	*vip = (ProtobufCBinaryData){16, mapped};
}

START_TEST(refuses_bad_parts_of_a_service)
{
	service_with(port_zero);
	refused("ports[0].port: 0 is not in 1 to 65535");
	service_with(port_big);
	refused("ports[0].port: 70000 is not in 1 to 65535");
	service_with(port_twice);
	refused("ports[1].port: 80 is there twice");
	service_with(odd_protocol);
	refused("ports[0].protocol: 9 is not known");
	service_with(odd_port_name);
	refused("ports.name");
	service_with(vip_short);
	refused("vips[0]: 3 bytes");
	service_with(vip_twice);
	refused("vips[1]: 240.0.0.1 is there twice");
	service_with(vip_loopback);
	refused("vips[0]: 127.0.0.1 cannot be reached");
	f.from.origin = RESOURCE_FILE;
	taken();
	service_with(vip_any);
	refused("vips[0]: :: cannot be reached");
	service_with(vip_mapped);
	refused("vips[0]: 16 bytes");
}
END_TEST

START_TEST(refuses_an_endpoint_in_the_mesh_without_identity)
{
	Weft__V1__Endpoints m = WEFT__V1__ENDPOINTS__INIT;
	Weft__V1__Endpoint e = WEFT__V1__ENDPOINT__INIT, *v[] = {&e};
	uint8_t bytes[] = {10, 0, 0, 1};
	m.service = (char *)"shop/orders";
	m.endpoints = v;
	m.n_endpoints = 1;
	e.address = (ProtobufCBinaryData){4, bytes};
	feed_message(&f, RESOURCE_ENDPOINTS, "shop/orders", "v1", &m.base);
	taken();
	e.meshed = true;
	feed_message(&f, RESOURCE_ENDPOINTS, "shop/orders", "v1", &m.base);
	refused("endpoints[0]: identity");
	e.identity = (char *)"spiffe://test.mesh/ns/shop";
	feed_message(&f, RESOURCE_ENDPOINTS, "shop/orders", "v1", &m.base);
	refused("endpoints[0]: identity");
	e.identity = (char *)"spiffe://test.mesh/ns/shop/sa/orders";
	e.weight = 2000000;
	feed_message(&f, RESOURCE_ENDPOINTS, "shop/orders", "v1", &m.base);
	refused("endpoints[0]: weight: 2000000");
}
END_TEST

START_TEST(refuses_a_manifest_that_lists_what_is_not_understood)
{
	feed_manifest(&f, "shop/orders", "v1", "240.0.0.1", "v1", "AuthorizationPolicy");
	refused("AuthorizationPolicy\" is not known to this proxy");
	feed_manifest(&f, "shop/orders", "v1", "240.0.0.1", "v1", "Service");
	refused("sorted, each once");
	Weft__V1__Manifest m = WEFT__V1__MANIFEST__INIT;
	m.service = (char *)"shop/orders";
	feed_message(&f, RESOURCE_MANIFEST, "shop/orders", "v1", &m.base);
	refused("the service itself is not listed");
}
END_TEST

START_TEST(refuses_a_mesh_config_with_a_crooked_cidr)
{
	Weft__V1__MeshConfig m = WEFT__V1__MESH_CONFIG__INIT;
	Weft__V1__MeshCidr c = WEFT__V1__MESH_CIDR__INIT, *v[] = {&c};
	uint8_t bytes[] = {10, 1, 0, 0};
	m.trust_domain = (char *)"test.mesh";
	m.cidrs = v;
	m.n_cidrs = 1;
	c.address = (ProtobufCBinaryData){4, bytes};
	c.bits = 8;
	feed_message(&f, RESOURCE_MESH, "mesh", "v1", &m.base);
	refused("cidrs[0]: 10.1.0.0/8: has bits set behind the prefix");
	c.bits = 33;
	feed_message(&f, RESOURCE_MESH, "mesh", "v1", &m.base);
	refused("cidrs[0]: bits: 33");
	c.bits = 16;
	m.trust_domain = (char *)"Test Mesh";
	feed_message(&f, RESOURCE_MESH, "mesh", "v1", &m.base);
	refused("trust_domain");
}
END_TEST

START_TEST(aliases_have_one_spelling)
{
	struct ip ip;
	char text[RESOURCE_ALIAS_MAX];
	ck_assert(resource_alias_parse(STR("addr:fd00:0::1"), &ip));
	ck_assert_str_eq(resource_alias(&ip, text), "addr:fd00::1");
	ck_assert(!resource_alias_parse(STR("fd00::1"), &ip));
	ck_assert(!resource_alias_parse(STR("addr:"), &ip));
	ck_assert(!resource_alias_parse(STR("addr:10.0.0.1:80"), &ip));
}
END_TEST

Suite *resource_suite(void);
Suite *resource_suite(void)
{
	Suite *s = suite_create("resource");
	TCase *t = tcase_create("resource");
	tcase_add_test(t, takes_each_type);
	tcase_add_test(t, keeps_address_aliases_and_drops_others);
	tcase_add_test(t, refuses_envelopes_that_do_not_fit);
	tcase_add_test(t, refuses_bytes_that_are_no_message);
	tcase_add_test(t, refuses_unknown_fields_at_any_depth);
	tcase_add_test(t, refuses_bad_parts_of_a_service);
	tcase_add_test(t, refuses_an_endpoint_in_the_mesh_without_identity);
	tcase_add_test(t, refuses_a_manifest_that_lists_what_is_not_understood);
	tcase_add_test(t, refuses_a_mesh_config_with_a_crooked_cidr);
	tcase_add_test(t, aliases_have_one_spelling);
	suite_add_tcase(s, t);
	return s;
}

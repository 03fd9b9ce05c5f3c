# SPDX-License-Identifier: Apache-2.0
"""weftd's push and registration against an independent client (python3-grpcio): what docs/push.md promises, on the wire."""

import base64
import json
import signal
import ssl
import time

import pytest

from harness.mesh import Mesh
from harness.netns import wait_until
from harness.xds import ON_DEMAND, XdsProxy

HTTP = 1


@pytest.fixture
def mesh(net, tmp_path, program):
    program("weftd"), program("weft")
    with Mesh(net, tmp_path) as m:
        m.start_control(args=("--lease", "2s"))
        yield m


@pytest.fixture
def proxy(mesh, net):
    """proxy("orders-1"): joined as shop/orders (the name before the dash) on a host of its own."""
    made = []

    def make(instance, labels=None, join=True, host=None):
        sa = instance.split("-")[0]
        p = XdsProxy(host or net.host(instance), mesh, instance, sa=sa)
        made.append(p)
        if join:
            e = p.join(mesh.new_token("shop", sa, labels or {"app": sa}))
            assert e["identity"].endswith(f"/ns/shop/sa/{sa}")
        return p

    yield make
    for p in made:
        p.close()


def addresses(body):
    return sorted(e["address"] for e in body["endpoints"])


def b64(host, family=4):
    import ipaddress

    return base64.b64encode(ipaddress.ip_address(host.ip4 if family == 4 else host.ip6).packed).decode()


def test_address_leads_to_service_endpoints_and_manifest(mesh, proxy):
    vip4, vip6 = mesh.service("orders", {80: (8080, "http")}, {"app": "orders"})
    server, client = proxy("orders-1"), proxy("web-1")
    client.open()
    client.subscribe(f"addr:{vip4}")
    s = client.wait_push("Service", name="shop/orders")
    assert sorted(s["aliases"]) == sorted([f"addr:{vip4}", f"addr:{vip6}"])
    assert s["type_url"] == "type.googleapis.com/weft.v1.Service" and len(s["version"]) == 16
    assert s["body"]["ports"] == [{"name": "p80", "port": 80, "protocol": "HTTP"}]
    m = client.wait_push("Manifest", name="shop/orders")
    assert m["body"]["entries"] == [{"type_url": s["type_url"], "name": "shop/orders", "version": s["version"]}]
    e = client.wait_push("Endpoints", name="shop/orders")
    assert e["body"]["endpoints"] == []
    client.wait_push("Workload", removed=f"addr:{vip4}")

    at = client.mark()
    r = server.talk({"app": "orders"}, [(8080, HTTP)])
    assert (r["workload"], r["lease_s"], r["address"]) == ("shop/orders-1", 2, server.host.ip4)
    e = client.wait_push("Endpoints", name="shop/orders", after=at)
    (one,) = e["body"]["endpoints"]
    assert one["address"] == b64(server.host) and one["meshed"] and one["workload"] == "shop/orders-1"
    assert one["identity"].endswith("/ns/shop/sa/orders") and one["ports"] == [{"service_port": 80, "port": 8080}]

    # the workload by its own address, and itself
    client.subscribe(f"addr:{server.host.ip4}", types=("Workload",))
    w = client.wait_push("Workload", name="shop/orders-1")
    assert w["body"]["meshed"] and w["body"]["ports"][0]["port"] == 8080
    server.open()
    server.request("Self", subscribe=["self", "shop/web-1"])
    own = server.wait_push("Self", name="self")
    assert own["body"]["name"] == "orders-1" and own["body"]["service_account"] == "orders"
    server.wait_push("Self", removed="shop/web-1")
    client.request("Self", subscribe=["self", "shop/orders-1"])
    client.wait_push("Self", removed="shop/orders-1")
    assert not any(p["resources"] for p in client.pushes("Self"))
    server.request("MeshConfig", subscribe=["*"])
    mc = server.wait_push("MeshConfig", name="mesh")["body"]
    assert len(mc["roots"]) == 1 and {c["bits"] for c in mc["cidrs"]} == {24, 64, 4}

    # a clean stop takes the endpoint away at once, not after the lease
    at, began = client.mark(), time.monotonic()
    server.do("goodbye")
    client.wait_push("Endpoints", name="shop/orders", after=at, match=lambda b: not b["endpoints"])
    assert time.monotonic() - began < 1.0
    client.wait_push("Workload", removed="shop/orders-1", after=at)


def test_what_is_not_there_is_said_and_comes_when_it_comes(mesh, proxy):
    client = proxy("web-1")
    client.open()
    client.subscribe("addr:240.0.0.1", "shop/later")
    for t in ON_DEMAND:
        client.wait_push(t, removed="addr:240.0.0.1")
        client.wait_push(t, removed="shop/later")
    at = client.mark()
    assert mesh.service("later", {80: (80, "http")}, {"app": "later"})[0] == "240.0.0.1"
    client.wait_push("Manifest", name="shop/later", after=at)
    order = [p["type"] for p in client.pushes(after=at)]
    assert order.index("Service") < order.index("Manifest")
    at = client.mark()
    mesh.weft("delete", "service", "later", "-n", "shop")
    for t in ("Service", "Endpoints", "Manifest"):
        client.wait_push(t, removed="shop/later", after=at)
        client.wait_push(t, removed="addr:240.0.0.1", after=at)


def test_killed_sidecar_keeps_its_endpoint_until_the_lease_ends(mesh, proxy):
    mesh.service("orders", {80: (8080, "http")}, {"app": "orders"})
    server, client = proxy("orders-1"), proxy("web-1")
    server.talk({"app": "orders"}, [(8080, HTTP)], beat=0.3)
    client.open()
    client.subscribe("shop/orders")
    client.wait_push("Endpoints", name="shop/orders", match=lambda b: b["endpoints"])
    at, began = client.mark(), time.monotonic()
    server.kill()
    mesh.weftd.wait_output(r"proxy_left .*registered=lease")
    client.wait_push("Endpoints", name="shop/orders", after=at, match=lambda b: not b["endpoints"])
    assert time.monotonic() - began > 1.5  # not because the link was lost
    mesh.weftd.wait_output(r"lease_expired workload=shop/orders-1")


def test_reconnect_and_restart_bring_differences_only(mesh, proxy):
    mesh.service("orders", {80: (8080, "http")}, {"app": "orders"})
    mesh.service("pay", {80: (8080, "http")}, {"app": "pay"})
    server, client = proxy("orders-1"), proxy("web-1")
    server.talk({"app": "orders"}, [(8080, HTTP)], beat=0.3)
    client.open()
    client.subscribe("shop/orders", "shop/pay")
    client.wait_push("Endpoints", name="shop/orders", match=lambda b: b["endpoints"])
    client.sync()
    held = {t: {r["name"]: r["version"] for p in client.pushes(t) for r in p["resources"]} for t in ON_DEMAND}
    assert set(held["Endpoints"]) == {"shop/orders", "shop/pay"}

    # weftd dies hard and comes back; the proxy's link did not survive, its endpoint does
    mesh.weftd.kill()
    client.wait(lambda e: e["event"] == "ads_end")
    mesh.start_control(args=("--lease", "2s"))
    mesh.weftd.wait_output(r"ready services=2 workloads=1")
    client.do("disconnect")
    at = client.mark()
    client.open()
    held["Service"]["shop/vanished"] = "0123456789abcdef"
    client.subscribe("shop/orders", "shop/pay", initial=held)
    client.wait_push("Service", removed="shop/vanished", after=at)
    client.sync()
    assert not [r for p in client.pushes(after=at) for r in p["resources"]]
    # and what differs is sent
    client.do("disconnect")
    at = client.mark()
    held["Endpoints"]["shop/pay"] = "fedcba9876543210"
    client.open()
    client.subscribe("shop/orders", "shop/pay", initial=held)
    client.wait_push("Endpoints", name="shop/pay", after=at)
    client.sync()
    assert [r["name"] for p in client.pushes(after=at) for r in p["resources"]] == ["shop/pay"]
    # the workload comes back within its grace: no endpoint was ever dropped
    server.do("disconnect")
    server.talk({"app": "orders"}, [(8080, HTTP)], beat=0.3)
    time.sleep(2.5)  # longer than the grace: only the new registration keeps it
    client.sync()
    assert not [p for p in client.pushes("Endpoints", after=at) if any(r["name"] == "shop/orders" for r in p["resources"])]


def test_one_bad_of_ten_is_named_in_the_status(mesh, proxy):
    for i in range(10):
        mesh.service(f"s{i}", {80: (8080, "http")}, {"app": "x"})
    client = proxy("web-1")
    client.open(auto=False)
    client.request("Service", subscribe=[f"shop/s{i}" for i in range(10)])
    e = client.wait(lambda e: e["event"] == "push" and e["type"] == "Service")
    assert len(e["resources"]) == 10
    client.request("Service", nonce=e["nonce"], error="shop/s3: ports[0].port: odd")

    def status():
        s = json.loads(mesh.weft("status", "-o", "json").stdout)
        r = {r["name"]: r for r in s["resources"] if r["type"] == "Service"}
        return (s, r) if r.get("shop/s3", {}).get("refused") else None

    s, r = wait_until(status, 5, "the refusal in the status")
    assert r["shop/s3"]["summary"] == "applied by 0 of 1, refused by 1: ports[0].port: odd"
    assert r["shop/s3"]["refusals"][0]["proxy"] == "shop/web-1"
    assert all(r[f"shop/s{i}"]["summary"] == "applied by 1 of 1" for i in range(10) if i != 3)
    (p,) = s["proxies"]
    assert p["name"] == "shop/web-1" and p["connected"] and (p["acked"], p["refused"], p["resources"]) == (9, 1, 10)
    assert "refused by 1: ports[0].port: odd" in mesh.weft("status").stdout
    mesh.weftd.wait_output(r"nack proxy=shop/web-1 type=Service name=\"shop/s3\"")


def test_who_has_no_certificate_gets_nothing(mesh, proxy):
    p = proxy("web-1", join=False)
    p.open(bare=True)
    p.subscribe("addr:240.0.0.1", types=("Service",))
    assert p.wait(lambda e: e["event"] == "ads_end")["code"] == "UNAUTHENTICATED"
    p.talk(expect="talk_end")
    assert p.wait(lambda e: e["event"] == "talk_end")["code"] == "UNAUTHENTICATED"
    assert not p.pushes()


def test_foreign_instance_labels_and_addresses_register_nothing(mesh, proxy):
    mesh.service("orders", {80: (8080, "http")}, {"app": "orders"})
    victim, thief = proxy("orders-1"), proxy("thief-1")
    victim.talk({"app": "orders"}, [(8080, HTTP)])
    for args, reason in (
        (dict(labels={"app": "orders"}), "app=orders is not allowed"),
        (dict(instance="orders-1"), "was issued to service account orders, not to thief"),
        (dict(instance="nobody"), "instance shop/nobody"),
        (dict(ports=[(0, HTTP)]), "ports[0].port: 0"),
        (dict(ports=[(80, HTTP), (80, HTTP)]), "there twice"),
        (dict(ports=[(80, 77)]), "77 is not known"),
        (dict(addresses=["10.99.0.77", "fd00::1", "10.0.0.1"]), "addresses: 3"),
    ):
        at = thief.mark()
        assert reason in thief.talk(expect="register_refused", **args)["reason"]
        assert thief.wait(lambda e: e["event"] == "talk_end", after=at)["code"] in ("PERMISSION_DENIED", "INVALID_ARGUMENT")
    # said addresses count only where a link came from: another's address is not taken
    thief.talk({"app": "thief"}, [(80, HTTP)], addresses=[victim.host.ip6])
    (w,) = [w for w in mesh.get("workloads")["items"] if w["name"] == "thief-1"] if "items" in mesh.get("workloads") else [None]
    assert w["addresses"] == [thief.host.ip4]
    # nor may it listen to what is the other's alone
    thief.open(node="orders-1")
    thief.request("Self", subscribe=["self"])
    assert thief.wait(lambda e: e["event"] == "ads_end")["code"] == "PERMISSION_DENIED"
    mesh.weftd.wait_output(r"register_refused .*thief")


def test_a_second_family_is_an_address_when_a_link_comes_from_it(mesh, proxy, net):
    mesh.service("orders", {80: (8080, "http")}, {"app": "orders"})
    server, client = proxy("orders-1"), proxy("web-1")
    server.talk({"app": "orders"}, [(8080, HTTP)], addresses=[server.host.ip6])
    client.open()
    client.subscribe("shop/orders")
    e = client.wait_push("Endpoints", name="shop/orders", match=lambda b: b["endpoints"])
    assert addresses(e["body"]) == [b64(server.host)]
    # a second link of the same instance over IPv6, with the certificate of a rejoin
    other = XdsProxy(server.host, mesh, "orders-1", sa="orders")
    try:
        rejoin = [e for e in server.events if e["event"] == "issued"][0]["rejoin"]
        other.server = f"[{mesh.control.ip6}]:4810"
        other.close()
        other.start()
        assert other.issue(rejoin=rejoin)["event"] == "issued"
        at = client.mark()
        assert other.talk({"app": "orders"}, [(8080, HTTP)], addresses=[server.host.ip4])["address"] == server.host.ip6
        e = client.wait_push("Endpoints", name="shop/orders", after=at, match=lambda b: len(b["endpoints"]) == 2)
        assert addresses(e["body"]) == sorted([b64(server.host), b64(server.host, 6)])
    finally:
        other.close()


def test_noise_ends_the_stream_and_nothing_else(mesh, proxy):
    calm, noisy = proxy("calm-1"), proxy("noisy-1")
    rejoin = [e for e in noisy.events if e["event"] == "issued"][0]["rejoin"]
    calm.open()
    calm.subscribe("shop/x")
    calm.sync()
    for to in ("ads", "talk"):
        noisy.open()
        noisy.talk({"app": "noisy"}, [(80, HTTP)])
        at = noisy.mark()
        noisy.do("raw", to=to, hex="ff" * 64)
        assert noisy.wait(lambda e: e["event"] == f"{to}_end", after=at)["code"] == "INVALID_ARGUMENT"
        noisy.do("goodbye")
        noisy.do("disconnect")
    noisy.close()
    noisy.start()
    noisy.issue(rejoin=rejoin)
    noisy.open()
    noisy.request("Service", subscribe=["a" * 600])
    assert noisy.wait(lambda e: e["event"] == "ads_end")["code"] == "INVALID_ARGUMENT"
    # bytes that are not even TLS, and a handshake that stops half way
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"A" * 100, bytes(5000)):
        with noisy.host.connect(mesh.control.ip4, 4810) as s:
            s.sendall(junk)
    at = calm.mark()
    mesh.service("x", {80: (80, "http")}, {"app": "x"})
    calm.wait_push("Service", name="shop/x", after=at)


def test_who_does_not_answer_holds_up_nobody(mesh, proxy):
    """A hundred services with long endpoint lists to one who never ACKs: at most the window goes out, others are served at once."""
    for base in range(0, 100, 25):
        docs = []
        for i in range(base, base + 25):
            docs.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{i}", "namespace": "shop"},
                         "spec": {"ports": [{"name": "http", "port": 80}]}})
            docs.append({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                         "metadata": {"name": f"s{i}-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": f"s{i}"}},
                         "ports": [{"name": "http", "port": 80}],
                         "endpoints": [{"addresses": [f"10.{i}.{k // 250}.{k % 250 + 1}"]} for k in range(1000)]})
        mesh.apply("".join("---\n" + json.dumps(d) + "\n" for d in docs))
    slow, quick = proxy("slow-1"), proxy("quick-1")
    slow.open(auto=False)
    slow.request("Endpoints", subscribe=[f"shop/s{i}" for i in range(100)])
    quick.open()
    quick.subscribe("shop/s1", "shop/new", types=("Endpoints",))
    quick.wait_push("Endpoints", name="shop/s1")
    at, began = quick.mark(), time.monotonic()
    mesh.service("new", {80: (80, "http")}, {"app": "new"})
    quick.wait_push("Endpoints", name="shop/new", after=at)
    assert time.monotonic() - began < 2.0
    # as many responses as fill the window, and none more: the rest is kept back, not queued
    wait_until(lambda: len(slow.pushes("Endpoints")) >= 4, 10, "the first MiB")
    sent = [r for p in json.loads(mesh.weft("status", "-o", "json").stdout)["proxies"] if p["name"] == "shop/slow-1" for r in [p["lag_ms"]]]
    assert sent[0] > 0
    assert len([r for p in slow.pushes("Endpoints") for r in p["resources"]]) < 100
    # it answers after all: everything comes, in order, once
    answered = set()

    def drain():
        for p in slow.pushes("Endpoints"):
            if p["nonce"] not in answered:
                answered.add(p["nonce"])
                slow.request("Endpoints", nonce=p["nonce"])
        return len({r["name"] for p in slow.pushes("Endpoints") for r in p["resources"]}) == 100

    wait_until(drain, 20, "all hundred after the answers")


def test_orderly_stop_and_pages(mesh, proxy):
    p = proxy("web-1")
    p.open()
    p.subscribe("shop/x")
    p.sync()
    page = mesh.control.run(["curl", "-s", "http://127.0.0.1:4814/metrics"]).stdout
    assert "weftd_proxies 1" in page and "weftd_push_responses_total" in page
    assert mesh.control.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:4814/nothing"]).stdout == "404"
    mesh.weftd.signal(signal.SIGTERM)
    assert p.wait(lambda e: e["event"] == "ads_end")["code"] == "UNAVAILABLE"
    assert mesh.weftd.wait(5) == 0
    assert "stopped" in mesh.weftd.output()

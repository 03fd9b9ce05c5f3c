# SPDX-License-Identifier: Apache-2.0
"""What the command line says of proxies that are connected: who holds what, who has applied it, who has not and why."""

import json
import os
import re
import signal
import time

import pytest

from harness.mesh import Mesh
from harness.netns import wait_until
from harness.xds import XdsProxy

pytest.importorskip("grpc")

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {selector: {app: orders}, ports: [{name: http, port: %d, targetPort: 8080}]}
"""


@pytest.fixture
def mesh(net, tmp_path):
    with Mesh(net, tmp_path) as m:
        m.start_control()
        yield m


@pytest.fixture
def two(mesh, net):
    """Two proxies that hold shop/orders."""
    mesh.apply(SERVICE % 80)
    proxies = []
    for name in ("web-1", "web-2"):
        p = XdsProxy(net.host(name), mesh, name, sa="web")
        p.join(mesh.new_token("shop", "web"))
        p.talk()
        p.open()
        p.subscribe(f"addr:{mesh.vips('orders')[0]}")
        p.wait_push("Manifest", name="shop/orders")
        p.sync()
        proxies.append(p)
    yield proxies
    for p in proxies:
        p.close()


def wait(mesh, *args, seconds="5s"):
    return mesh.weft("wait", *args, "--timeout", seconds, check=False)


def test_wait_ends_when_all_have_applied_it(mesh, two):
    mesh.apply(SERVICE % 81)
    for args in (["--revision", "2"], ["service", "orders", "-n", "shop"], []):
        done = wait(mesh, *args)
        assert done.returncode == 0 and done.stdout.startswith("applied by every proxy that holds it"), (args, done)


def test_wait_names_a_proxy_that_is_stopped_and_holds_up_nobody_else(mesh, two):
    web1, web2 = two
    os.kill(web1.child.pid, signal.SIGSTOP)
    try:
        mesh.apply(SERVICE % 82)
        web2.wait_push("Service", name="shop/orders", match=lambda b: b["ports"][0]["port"] == 82)
        began = time.monotonic()
        done = wait(mesh, "--revision", "2", seconds="2s")
        assert done.returncode == 1 and 1.5 < time.monotonic() - began < 10
        assert re.search(r"shop/web-1: Service shop/orders: sent \d+\.\d s ago, not answered", done.stderr), done.stderr
        assert "shop/web-2" not in done.stderr and done.stdout == ""
        text = mesh.weft("describe", "service", "orders", "-n", "shop").stdout
        assert re.search(r"shop/web-1 +Service shop/orders +[0-9a-f]{16} +waiting: sent", text), text
        assert re.search(r"shop/web-2 +Service shop/orders +[0-9a-f]{16} +applied", text), text
        # what is deleted waits for it, too
        mesh.weft("delete", "service", "orders", "-n", "shop")
        done = wait(mesh, "--revision", "3", seconds="1s")
        assert done.returncode == 1 and "shop/web-1: " in done.stderr and "shop/web-2" not in done.stderr, done
    finally:
        os.kill(web1.child.pid, signal.SIGCONT)
    done = wait(mesh, "--revision", "3", seconds="10s")
    assert done.returncode == 0, done.stderr


def test_wait_ends_at_once_when_the_rest_has_refused(mesh, two):
    web1, web2 = two
    web1.do("disconnect")
    web1.wait(lambda e: e["event"] == "disconnected")
    at = web1.mark()
    web1.open(auto=False)
    web1.request("Service", subscribe=["shop/orders"])
    first = web1.wait(lambda e: e["event"] == "push" and e["type"] == "Service", after=at)
    web1.request("Service", nonce=first["nonce"])
    at = web1.mark()
    mesh.apply(SERVICE % 83)
    push = web1.wait(lambda e: e["event"] == "push" and e["type"] == "Service", after=at)
    web1.request("Service", nonce=push["nonce"], error="shop/orders: I do not like port 83")
    began = time.monotonic()
    done = wait(mesh, "service", "orders", "-n", "shop", seconds="30s")
    assert done.returncode == 1 and time.monotonic() - began < 10
    assert "shop/web-1: Service shop/orders: refused: I do not like port 83" in done.stderr, done.stderr
    # rollback makes all of them well again
    at = web1.mark()
    assert mesh.weft("rollback", "1").stdout == "Service shop/orders changed\n"
    push = web1.wait(lambda e: e["event"] == "push" and e["type"] == "Service", after=at)
    web1.request("Service", nonce=push["nonce"])
    assert wait(mesh).returncode == 0


ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: orders, port: 80}]
  rules: [{backendRefs: [{name: orders, port: 80, weight: %d}]}]
"""


def test_a_route_is_waited_for_where_its_service_is_held_and_rolled_back(mesh, two):
    web1, web2 = two
    mesh.apply(ROUTE % 1)  # 2
    assert wait(mesh, "httproute", "canary", "-n", "shop").stdout.startswith("applied by every proxy")
    os.kill(web1.child.pid, signal.SIGSTOP)
    try:
        mesh.apply(ROUTE % 9)  # 3
        for args in (["--revision", "3"], ["httproute", "canary", "-n", "shop"]):
            done = wait(mesh, *args, seconds="1s")
            assert done.returncode == 1 and "shop/web-1: Manifest shop/orders: sent" in done.stderr and "web-2" not in done.stderr, done
    finally:
        os.kill(web1.child.pid, signal.SIGCONT)
    assert wait(mesh, "--revision", "3").returncode == 0
    assert mesh.weft("rollback", "2").stdout == "HTTPRoute shop/canary changed\n"
    assert mesh.get("httproute", "canary")["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1
    assert wait(mesh).returncode == 0


def test_describe_shows_endpoints_with_their_workloads(mesh, net):
    orders = XdsProxy(net.host("orders"), mesh, "orders-1", sa="orders")
    try:
        orders.join(mesh.new_token("shop", "orders", {"app": "orders"}))
        orders.talk(labels={"app": "orders"}, ports=[(8080, "HTTP")])
        mesh.apply(SERVICE % 80)
        text = mesh.weft("describe", "service", "orders", "-n", "shop").stdout
        identity = re.escape("spiffe://weft.test/ns/shop/sa/orders")
        assert re.search(rf"^  {re.escape(orders.host.ip4)} +80>8080 +shop/orders-1 +{identity} +alive$", text, re.M), text
        orders.kill()
        wait_until(lambda: "not connected, ends in" in mesh.weft("describe", "service", "orders", "-n", "shop").stdout, 5,
                   "the lost link in words")
        e = json.loads(mesh.weft("describe", "service", "orders", "-n", "shop", "-o", "json").stdout)["endpoints"][0]
        assert e["workload"] == "shop/orders-1" and e["linked"] is False and 0 < e["lease_ms"] <= 15000
    finally:
        orders.close()


def test_a_weftd_that_did_not_run_ends_no_lease(net, tmp_path):
    """As in a very long apply, or on a machine that slept: who could not renew is not gone."""
    with Mesh(net, tmp_path) as mesh:
        mesh.start_control(args=["--lease", "2s"])
        orders = XdsProxy(net.host("orders"), mesh, "orders-1", sa="orders")
        try:
            orders.join(mesh.new_token("shop", "orders", {"app": "orders"}))
            orders.talk(labels={"app": "orders"}, ports=[(8080, "HTTP")], beat=0.5)
            os.kill(mesh.weftd.pid, signal.SIGSTOP)
            time.sleep(4)
            os.kill(mesh.weftd.pid, signal.SIGCONT)
            at = orders.mark()
            orders.wait(lambda e: e["event"] == "beat", after=at)
            time.sleep(2.5)  # longer than the lease: a tick has looked at it
            assert "lease_expired" not in mesh.weftd.output() and "workload_gone" not in mesh.weftd.output()
            assert mesh.get("workloads")["items"][0]["leaseMs"] > time.time() * 1000
            # it still ends when nobody renews it
            orders.kill()
            wait_until(lambda: "lease_expired" in mesh.weftd.output() or "workload_gone" in mesh.weftd.output(), 10, "the end of the lease")
        finally:
            orders.close()


def test_a_sidecar_is_dumped_checked_and_waited_for(mesh, net):
    """A real one: config dump by its name, check of its socket, wait until it has applied what it holds."""
    orders = mesh.workload(net.host("orders"), "orders-1", sa="orders", labels={"app": "orders"}, ports="8080/http")
    orders.start(ready=False)
    mesh.apply(SERVICE % 80)
    orders.wait_ready()
    run = ["--run-dir", str(mesh.run_dir)]
    dump = json.loads(mesh.weft("config", "dump", "orders-1", "-n", "shop", *run).stdout)
    assert dump == json.loads(mesh.weft("config", "dump", "--socket", orders.admin_socket()).stdout)
    assert "weft.test" in json.dumps(dump)
    report = json.loads(mesh.weft("check", "-o", "json", *run).stdout)
    lines = {line["description"]: line["result"] for c in report["categories"] for line in c["checks"]}
    for part in ("all 1 proxies are connected", "every proxy has applied what it was sent", "every proxy is of weftd's version",
                 "no workload is kept beyond its lease", "1 proxy of this machine answers"):
        assert lines.get(part) == "success", (part, lines)
    assert wait(mesh).stdout.startswith("applied by every proxy")
    orders.capture.popen.kill()
    wait_until(lambda: "registered but not connected: shop/orders-1" in mesh.weft("check", check=False).stdout, 10, "its absence in words")

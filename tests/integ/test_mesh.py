# SPDX-License-Identifier: Apache-2.0
"""The whole path with a control plane: join, register, push on demand, serve, and what happens when weftd goes away."""

import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from harness.mesh import Mesh
from harness.netns import wait_until
from test_hop import HTTP

@pytest.fixture
def mesh(net, tmp_path):
    with Mesh(net, tmp_path) as m:
        m.start_control()
        yield m


def shop(mesh, net, **kw):
    """orders (HTTP on 8080) and web, both up, one Service. Returns (orders, web, vips)."""
    orders = mesh.workload(net.host("orders"), "orders-1", sa="orders", labels={"app": "orders"}, ports="8080/http", **kw)
    web = mesh.workload(net.host("web"), "web-1", sa="web", **kw)
    orders.host.start_python(HTTP, "8080")
    orders.host.wait_port(8080)
    orders.start(ready=False)
    web.start(ready=False)
    vips = mesh.service("orders", {80: (8080, "http")}, {"app": "orders"})
    orders.wait_ready()
    web.wait_ready()
    return orders, web, vips


def get(host, url, timeout=5):
    """(status, body, headers as text)"""
    r = host.run(["curl", "-s", "-S", "-g", "-i", "-m", str(timeout), url], check=False)
    m = re.match(r"HTTP/1.1 (\d+)[^\n]*\n(.*?)\r?\n\r?\n(.*)", r.stdout, re.S)
    return (int(m.group(1)), m.group(3), m.group(2).lower()) if m else (0, r.stdout, "")


class Load:
    """Requests in a loop from a host, one connection each `reconnect`, until stop(); counts what failed and says the first failure."""

    CODE = r"""
import http.client, sys, time
ip, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
ok = bad = 0; first = ""; c = None
print("begun", flush=True)
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        if c is None:
            c = http.client.HTTPConnection(ip, port, timeout=5)
        c.request("GET", path); r = c.getresponse(); r.read()
        assert r.status == 200, "%d %s" % (r.status, r.getheader("x-weft-error"))
        ok += 1
        if ok % 20 == 0: c.close(); c = None
    except Exception as e:
        bad += 1; first = first or "%s after %d good ones" % (e, ok); c = None; time.sleep(0.01)
print("result", ok, bad, first, flush=True)
"""

    def __init__(self, host, ip, port=80, path="/load"):
        self.proc = host.popen(["/usr/bin/python3", "-u", "-c", self.CODE, ip, str(port), path], stdin=subprocess.PIPE)
        self.proc.wait_output("begun")

    def stop(self):
        """(good, failed, text of the first failure)"""
        self.proc.popen.stdin.write(b"\n")
        self.proc.popen.stdin.close()
        m = self.proc.wait_output(r"result (\d+) (\d+) ?(.*)", 15)
        return int(m.group(1)), int(m.group(2)), m.group(3)


def test_a_service_is_reached_by_vip_and_by_pod_address_over_both_families(mesh, net):
    orders, web, vips = shop(mesh, net)
    for url in (f"http://{vips[0]}/a", f"http://[{vips[1]}]/a", f"http://{orders.host.ip4}:8080/a", f"http://[{orders.host.ip6}]:8080/a"):
        assert get(web.host, url)[:2] == (200, "hello /a\n"), url
    assert orders.metric("weft_requests_total", direction="inbound", status="200") == 4
    assert web.metric("weft_requests_total", direction="outbound", status="200") == 4


def test_calls_go_on_while_weftd_is_away_and_a_worker_restarts(mesh, net):
    orders, web, vips = shop(mesh, net)
    assert get(web.host, f"http://{vips[0]}/")[0] == 200
    kept = mesh.state_dir / "shop-web-1" / "config"  # written at most once a second
    wait_until(lambda: kept.exists() and b"shop/orders" in kept.read_bytes(), 5, "the configuration on disk")
    load = Load(web.host, vips[0])
    mesh.weftd.kill()
    for w in (web, orders):
        old = w.worker()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: w.pids()[1] not in (None, old), 5, "a new worker")
        w.wait_ready()
    away = time.monotonic()
    while time.monotonic() - away < 10:
        assert get(web.host, f"http://{vips[0]}/")[0] == 200
        time.sleep(0.5)
    mesh.start_control()
    wait_until(lambda: len(mesh.weft("status", "-o", "json").stdout) and get(web.host, f"http://{vips[0]}/")[0] == 200, 10, "calls after weftd is back")
    good, bad, first = load.stop()
    # What was in flight in a killed worker is lost; nothing else is.
    assert good > 100 and bad <= 4, (good, bad, first)
    assert "lease_expired" not in mesh.weftd.output()


def test_an_endpoint_is_kept_over_a_restart_of_weftd(mesh, net):
    orders, web, vips = shop(mesh, net)
    assert get(web.host, f"http://{vips[0]}/")[0] == 200
    mesh.weftd.stop()
    mesh.start_control()
    # Over the lease of 15 s: it must be renewed, not run out.
    end = time.monotonic() + 17
    while time.monotonic() < end:
        assert get(web.host, f"http://{vips[0]}/")[0] == 200
        time.sleep(0.25)


def test_the_proxy_holds_what_it_uses_and_not_the_whole_mesh(mesh, net):
    orders, web, vips = shop(mesh, net)
    many = "\n---\n".join(json.dumps({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{i}", "namespace": "many"},
        "spec": {"selector": {"app": f"s{i}"}, "ports": [{"port": 80, "targetPort": 8080}]}}) for i in range(1000))
    mesh.apply(many)
    mesh.service("second", {81: (8080, "http")}, {"app": "orders"})
    second = mesh.vips("second")
    assert get(web.host, f"http://{vips[0]}/")[0] == 200
    assert get(web.host, f"http://{second[0]}:81/")[0] == 200
    assert web.metric("weft_config_services") == 2


def test_an_unknown_address_inside_the_mesh_is_refused_with_a_reason_and_an_external_one_is_not_delayed(mesh, net):
    orders, web, vips = shop(mesh, net)
    outside = net.host("outside")
    outside.add_address("10.50.0.1/24")
    web.host.run(["ip", "route", "add", "10.50.0.0/24", "via", outside.ip4])
    outside.run(["ip", "route", "add", web.host.ip4, "dev", "eth0", "src", "10.50.0.1"])
    outside.start_python(HTTP, "8080")
    outside.wait_port(8080)
    mesh.weftd.kill()
    began = time.monotonic()
    r = web.host.run(["curl", "-sS", "-m", "10", "http://240.0.99.99/"], check=False)
    assert r.returncode != 0
    assert time.monotonic() - began < 4
    assert re.search(r"session_end direction=outbound reason=(config_timeout|unknown_address)", web.log())
    began = time.monotonic()
    assert get(web.host, "http://10.50.0.1:8080/x")[:2] == (200, "hello /x\n")
    assert time.monotonic() - began < 1


def test_renewal_every_two_seconds_fails_no_request(net, tmp_path):
    with Mesh(net, tmp_path) as mesh:
        mesh.start_control(args=["--certificate-lifetime", "4s"])
        orders, web, vips = shop(mesh, net)
        assert get(web.host, f"http://{vips[0]}/")[0] == 200
        before = web.log().count("identity_issued")
        load = Load(web.host, vips[0])
        wait_until(lambda: web.log().count("identity_issued") - before >= 4, 15, "four renewals")
        good, bad, first = load.stop()
        assert good > 100 and bad == 0, (good, bad, first)


def test_a_stopped_workload_is_no_endpoint_any_more_at_once(mesh, net):
    orders, web, vips = shop(mesh, net)
    assert get(web.host, f"http://{vips[0]}/")[0] == 200
    began = time.monotonic()
    orders.stop()
    wait_until(lambda: "no_healthy" in get(web.host, f"http://{vips[0]}/")[2], 5, "no endpoint left")
    assert time.monotonic() - began < 5


ECHO_V4 = r"""
import socket, sys, threading
s = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True:
    c, _ = s.accept()
    c.sendall(b"here"); c.close()
"""


def test_an_application_that_listens_on_ipv4_only_is_not_asked_over_ipv6_by_an_ipv4_address(mesh, net):
    """Hosts have both families; the endpoint is chosen of the family that was dialled, and of the other where there is none."""
    app = mesh.workload(net.host("app"), "app-1", sa="app", labels={"app": "app"}, ports="7000/tcp")
    web = mesh.workload(net.host("web"), "web-1", sa="web")
    app.host.start_python(ECHO_V4, "7000")
    app.host.wait_port(7000)
    app.start(ready=False)
    web.start(ready=False)
    vips = mesh.service("app", {7000: (7000, "tcp")}, {"app": "app"})
    app.wait_ready()
    web.wait_ready()
    for _ in range(10):
        with web.host.connect(vips[0], 7000) as c:
            assert c.recv(16) == b"here"


def test_an_operator_can_drain_a_sidecar_before_it_is_stopped(mesh, net):
    orders, web, vips = shop(mesh, net)
    assert get(web.host, f"http://{vips[0]}/")[0] == 200
    assert "draining" in orders.admin("/drain", method="POST")
    assert orders.status("/ready")[0] == 503
    wait_until(lambda: "no_healthy" in get(web.host, f"http://{vips[0]}/")[2], 5, "no endpoint left")
    assert orders.capture.alive()
    assert orders.stop() == 0

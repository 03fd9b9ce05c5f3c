# SPDX-License-Identifier: Apache-2.0
"""HTTPRoute with a control plane: matches, weights, changes under load, what is refused, what comes back when a route goes."""

import json
import re
import subprocess

import pytest
from harness.mesh import Mesh
from harness.netns import wait_until
from test_mesh import Load

# Says its own name and the path to whoever asks; one thread a connection, kept alive.
SERVER = r"""
import socket, sys, threading
name = sys.argv[2].encode()
def serve(c):
    have = b""
    while True:
        while b"\r\n\r\n" not in have:
            more = c.recv(65536)
            if not more:
                return
            have += more
        head, _, have = have.partition(b"\r\n\r\n")
        body = name + b" " + head.split(b" ", 2)[1] + b"\n"
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
s = socket.create_server(("", int(sys.argv[1])), backlog=512)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""

# Many calls over a few kept connections: prints how often each name answered, and how many answers were none of a backend.
COUNT = r"""
import collections, json, socket, sys
ip, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
got = collections.Counter()
request = b"GET /count HTTP/1.1\r\nHost: orders\r\n\r\n"
def connect():
    c = socket.create_connection((ip, port), timeout=10)
    return c, c.makefile("rb")
def answer(f):
    # whether the connection stays
    status = f.readline().split()
    length, stays = 0, True
    while (line := f.readline()) not in (b"\r\n", b""):
        k, _, v = line.lower().partition(b":")
        if k == b"content-length":
            length = int(v)
        if k == b"connection" and b"close" in v:
            stays = False
    body = f.read(length)
    got[body.split(b" ")[0].decode() if status[1] == b"200" else status[1].decode()] += 1
    return stays
conns = [connect() for _ in range(8)]
for i in range(0, n, len(conns)):
    for c, _ in conns:
        c.sendall(request)
    conns = [x if answer(x[1]) else connect() for x in conns]
print(json.dumps(got))
"""


def route(name="canary", rules=None, backends=None, parent="orders", **parent_ref):
    rules = rules or [{"backendRefs": backends}]
    return json.dumps({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": parent, **parent_ref}], "rules": rules}})


def to(name, weight=1, port=80):
    return {"name": name, "port": port, "weight": weight}


def service(name, selector):
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
                       "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})


class Shop:
    def __init__(self, mesh, net, versions):
        self.mesh = mesh
        self.web = mesh.workload(net.host("web"), "web-1", sa="web", env={"WEFT_BALANCER": "round-robin"})
        for v in versions:
            w = mesh.workload(net.host(v), f"orders-{v}", sa="orders", labels={"app": "orders", "version": v}, ports="8080/http")
            w.host.start_python(SERVER, "8080", v)
            w.host.wait_port(8080)
            w.start(ready=False)
        self.web.start(ready=False)
        mesh.apply("\n---\n".join([service("orders", {"app": "orders", "version": "v1"})] +
                                  [service(f"orders-{v}", {"app": "orders", "version": v}) for v in versions]))
        self.vip = mesh.vips("orders")[0]
        for w in mesh.workloads.values():
            w.wait_ready()

    def get(self, path="/", *args, vip=None):
        """(status, name of the version that answered or body, x-weft-error)"""
        r = self.web.host.run(["curl", "-s", "-S", "-g", "-i", "-m", "5", *args, f"http://{vip or self.vip}{path}"], check=False)
        m = re.match(r"HTTP/1.1 (\d+)[^\n]*\n(.*?)\r?\n\r?\n(.*)", r.stdout, re.S)
        assert m, (r.stdout, r.stderr)
        error = re.search(r"(?mi)^x-weft-error: (.*?)\r?$", m.group(2))
        return int(m.group(1)), m.group(3).split(" ")[0], error.group(1) if error else ""

    def count(self, n):
        r = self.web.host.run(["/usr/bin/python3", "-c", COUNT, self.vip, "80", str(n)], timeout=120)
        return json.loads(r.stdout)

    def until(self, version, path="/"):
        wait_until(lambda: self.get(path)[1] == version, 5, f"{path} from {version}")


@pytest.fixture
def shop(net, tmp_path):
    with Mesh(net, tmp_path) as m:
        m.start_control()
        yield Shop(m, net, ["v1", "v2"])


def test_header_path_method_and_query_decide_and_the_rest_is_404(shop):
    assert shop.get()[:2] == (200, "v1")
    shop.mesh.apply(route(rules=[
        {"matches": [{"headers": [{"name": "version", "value": "2"}]}], "backendRefs": [to("orders-v2")]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/foo"}}], "backendRefs": [to("orders-v2")]},
        {"matches": [{"path": {"type": "Exact", "value": "/only"}, "method": "POST"}], "backendRefs": [to("orders-v2")]},
        {"matches": [{"queryParams": [{"name": "beta", "value": "1"}]}], "backendRefs": [to("orders-v2")]},
        {"matches": [{"path": {"value": "/v1"}}], "backendRefs": [to("orders-v1")]}]))
    shop.until("v2", "/foo")
    rows = [("/foo/bar", (), 200, "v2"), ("/foo?x", (), 200, "v2"), ("/foobar", (), 404, None), ("/", (), 404, None),
            ("/", ("-H", "Version: 2"), 200, "v2"), ("/", ("-H", "Version: 22"), 404, None),
            ("/only", ("-d", "x"), 200, "v2"), ("/only", (), 404, None), ("/only/", ("-d", "x"), 404, None),
            ("/?beta=1", (), 200, "v2"), ("/?beta=2", (), 404, None), ("/v1/x", (), 200, "v1"), ("/v1/x", ("-H", "version: 2"), 200, "v1")]
    for path, args, status, version in rows:
        got = shop.get(path, *args)
        assert got[0] == status, (path, args, got)
        if version:
            assert got[1] == version, (path, args, got)
        else:
            assert got[2].startswith("outbound;no_route"), (path, args, got)


def test_http2_and_a_client_that_pauses_follow_the_route_too(shop):
    shop.mesh.apply(route(rules=[{"matches": [{"path": {"value": "/v2"}}], "backendRefs": [to("orders-v2")]},
                                 {"matches": [{"path": {"value": "/none"}}]}]))
    shop.until("v2", "/v2")
    for path, status in (("/none/x", "500"), ("/other", "404")):
        r = shop.web.host.run(["curl", "-s", "-S", "-m", "5", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code} %{http_version}",
                               f"http://{shop.vip}{path}"])
        assert r.stdout == f"{status} 2", (path, r.stdout)
    # The port is undeclared: without the route a silent client would be taken for opaque, and get around it.
    pause = ("import socket, sys, time\n"
             "c = socket.create_connection((sys.argv[1], 80), timeout=5); time.sleep(0.5)\n"
             "c.sendall(b'GET /other HTTP/1.1\\r\\nHost: orders\\r\\n\\r\\n'); print(c.recv(4096).decode())")
    r = shop.web.host.run(["/usr/bin/python3", "-c", pause, shop.vip])
    assert r.stdout.startswith("HTTP/1.1 404 ") and "no_route" in r.stdout, r.stdout


def test_a_canary_splits_by_weight(shop):
    shop.mesh.apply(route(backends=[to("orders-v1", 70), to("orders-v2", 30)]))
    wait_until(lambda: "v2" in shop.count(40), 5, "the route in force")
    got = shop.count(10000)
    assert got["v1"] + got["v2"] == 10000, got
    assert 6800 <= got["v1"] <= 7200, got


def test_weights_change_under_load_without_an_error(shop):
    shop.mesh.apply(route(backends=[to("orders-v1", 100), to("orders-v2", 0)]))
    wait_until(lambda: shop.mesh.get("httproute", "canary")["status"], 5, "the route")
    assert shop.get()[1] == "v1"
    load = Load(shop.web.host, shop.vip)
    for weight in (10, 50, 90, 30, 100):
        shop.mesh.apply(route(backends=[to("orders-v1", 100 - weight), to("orders-v2", weight)]))
    shop.until("v2")
    wait_until(lambda: shop.count(40) == {"v2": 40}, 5, "all at v2")
    good, bad, first = load.stop()
    assert good > 50 and bad == 0, (good, bad, first)


def test_a_route_moves_to_a_new_backend_in_one_file_without_an_error(net, tmp_path):
    with Mesh(net, tmp_path) as mesh:
        mesh.start_control()
        shop = Shop(mesh, net, ["v1", "v2"])
        mesh.apply(route(backends=[to("orders-v1")]))
        shop.until("v1")
        load = Load(shop.web.host, shop.vip)
        for i in range(10):
            mesh.apply(service(f"new-{i}", {"app": "orders", "version": "v2" if i % 2 else "v1"}) + "\n---\n" +
                       route(backends=[to(f"new-{i}")]))
            wait_until(lambda: shop.get()[1] == ("v2" if i % 2 else "v1"), 5, "the move")
        good, bad, first = load.stop()
        assert good > 50 and bad == 0, (good, bad, first)


def test_removal_restores_and_a_bad_file_changes_nothing(shop):
    shop.mesh.apply(route(backends=[to("orders-v2")]))
    shop.until("v2")
    before = shop.mesh.get("httproute", "canary")
    # What weftd adds to it is no difference.
    assert shop.mesh.weft("diff", "-f", "-", input=route(backends=[to("orders-v2")])).stdout == ""
    assert re.search(r"canary +orders +1 +orders-v2:80=1 +True +True", shop.mesh.weft("get", "httproutes", "-n", "shop").stdout)
    described = shop.mesh.weft("describe", "httproute", "canary", "-n", "shop").stdout
    assert re.search(r"Accepted +True +Accepted", described) and re.search(r"ResolvedRefs +True +ResolvedRefs", described), described
    bad = json.loads(route(backends=[to("orders-v1")]))
    bad["spec"]["rules"][0]["filters"] = [{"type": "RequestMirror"}]
    r = shop.mesh.weft("apply", "-f", "-", input=service("other", {"app": "other"}) + "\n---\n" + json.dumps(bad), check=False)
    assert r.returncode == 1
    assert "HTTPRoute shop/canary: spec.rules[0].filters: not supported yet" in r.stderr
    assert shop.mesh.weft("get", "service", "other", "-n", "shop", check=False).returncode == 1
    assert shop.mesh.get("httproute", "canary") == before
    assert shop.count(40) == {"v2": 40}
    shop.mesh.weft("delete", "httproute", "canary", "-n", "shop")
    shop.until("v1")
    assert shop.count(40) == {"v1": 40}


def test_what_is_missing_is_said_in_status_and_answered_with_500_by_its_share(shop):
    shop.mesh.apply(route(backends=[to("orders-v1"), to("gone")]))
    wait_until(lambda: "500" in shop.count(40), 5, "the route in force")
    got = shop.count(1000)
    assert 400 <= got["500"] <= 600 and got["500"] + got["v1"] == 1000, got
    errors = {shop.get()[2] for _ in range(20)}
    assert "outbound;no_backend;shop/canary" in errors, errors
    parent = shop.mesh.get("httproute", "canary")["status"]["parents"][0]
    conditions = {c["type"]: c for c in parent["conditions"]}
    assert conditions["Accepted"]["status"] == "True"
    assert conditions["ResolvedRefs"]["status"] == "False" and conditions["ResolvedRefs"]["reason"] == "BackendNotFound"
    assert conditions["ResolvedRefs"]["message"] == "spec.rules[0].backendRefs[1]: there is no Service gone"
    assert "spec.rules[0].backendRefs[1]: there is no Service gone" in shop.mesh.weft("status").stdout
    # No backend at all, and none with weight.
    for backends in ([], [to("orders-v1", 0)]):
        shop.mesh.apply(route(backends=backends) if backends else route(rules=[{}]))
        wait_until(lambda: shop.get()[0] == 500, 5, "500")
        assert shop.count(40) == {"500": 40}
    # It appears: resolved, and served.
    shop.mesh.apply(route(backends=[to("gone")]))
    shop.mesh.apply(service("gone", {"app": "orders", "version": "v2"}))
    shop.until("v2")
    assert shop.mesh.get("httproute", "canary")["status"]["parents"][0]["conditions"][1]["status"] == "True"
    assert "there is no Service" not in shop.mesh.weft("status").stdout


def test_a_route_may_lead_to_its_own_parent_and_stands_over_a_restart_of_all(shop):
    shop.mesh.apply(route(backends=[to("orders", 50), to("orders-v2", 50)]))
    wait_until(lambda: "v2" in shop.count(40), 5, "the route in force")
    got = shop.count(400)
    assert got["v1"] > 100 and got["v2"] > 100 and got["v1"] + got["v2"] == 400, got
    dump = shop.web.admin("/config")
    assert ["Route", "shop/canary"] in [[r["type"], r["name"]] for r in dump["resources"]]
    assert dump["routes"] == {"shop/orders": [{"route": "shop/canary", "path": "prefix /", "backends": [
        {"service": f"shop/{name}", "port": 80, "weight": 50, "endpoints": 1} for name in ("orders", "orders-v2")]}]}, dump["routes"]
    # The copy on disk has the route, its backends and their endpoints: a worker restarted without weftd goes on with them.
    kept = shop.mesh.state_dir / "shop-web-1" / "config"
    wait_until(lambda: kept.exists() and b"shop/canary" in kept.read_bytes(), 5, "the configuration on disk")
    shop.mesh.weftd.stop()
    old = shop.web.worker()
    shop.web.host.run(["kill", "-9", str(old)])
    wait_until(lambda: shop.web.pids()[1] not in (None, old), 5, "a new worker")
    shop.web.wait_ready()
    got = shop.count(400)
    assert got["v1"] > 100 and got["v2"] > 100 and got["v1"] + got["v2"] == 400, got
    # And with weftd back the route can change.
    shop.mesh.start_control()
    shop.mesh.apply(route(backends=[to("orders-v2")]))
    wait_until(lambda: shop.count(40) == {"v2": 40}, 15, "the new route")


def test_a_rendered_file_with_a_route_is_taken_by_the_proxy(program, tmp_path):
    path = tmp_path / "mesh.yaml"
    good = route(rules=[{"matches": [{"path": {"type": "Exact", "value": "/x"}, "method": "GET", "headers": [{"name": "a", "value": "b"}],
                                      "queryParams": [{"name": "c", "value": "d"}]}], "backendRefs": [to("orders-v2", 3)]}, {}], sectionName="http")
    services = [service("orders", {"app": "orders"}), service("orders-v2", {"app": "orders"})]
    render = [program("weft"), "config", "render", "-f", path, "--name", "web-1", "-n", "shop", "--trust-domain", "weft.test"]
    path.write_text("\n---\n".join([good, *services]))
    r = subprocess.run(render, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout)["routes"][0]["parents"] == [{"service": "shop/orders", "port": 80}]
    (tmp_path / "mesh.json").write_text(r.stdout)
    r = subprocess.run([program("weft-proxy"), "-t", "-f", tmp_path / "mesh.json"], capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stdout + r.stderr
    for text, want in (([good, services[0]], "HTTPRoute shop/canary: there is no Service shop/orders-v2 in the files"),
                       ([route(backends=[to("orders", port=81)]), *services], "HTTPRoute shop/canary: Service orders has no port 81"),
                       ([route(backends=[], port=81), *services], "HTTPRoute shop/canary: spec.parentRefs[0]: Service orders has no such port")):
        path.write_text("\n---\n".join(text))
        r = subprocess.run(render, capture_output=True, text=True, timeout=30)
        assert r.returncode == 1 and want in r.stderr, r.stderr

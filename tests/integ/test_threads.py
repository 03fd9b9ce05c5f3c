# SPDX-License-Identifier: Apache-2.0
"""A sidecar with several worker threads behaves as one with one: every protocol, configuration under load, limits that are exact for the
process, pages that show all threads, drain, crash. The client's sidecar has four threads here, the server's two."""

import collections
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import threading

import pytest
from conftest import missing, need_tool, weft_program
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh, Mesh
from harness.netns import Net, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
WEB, ORDERS = 4, 2  # threads
HTTP, H2, TCP, SLOW = 80, 81, 90, 82
GET = b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n"

# A fast HTTP/1.1 server; a TCP one that echoes, with a greeting of nothing.
APP = r"""
import asyncio
async def http(r, w):
    try:
        while await r.readuntil(b"\r\n\r\n"):
            w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    except (asyncio.IncompleteReadError, ConnectionError): pass
    w.close()
async def echo(r, w):
    try:
        while data := await r.read(65536): w.write(data); await w.drain()
    except ConnectionError: pass
    w.close()
async def main():
    await asyncio.start_server(http, "0.0.0.0", 8080, backlog=256)
    await asyncio.start_server(echo, "0.0.0.0", 9000, backlog=256)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Threads:
    """web (four threads) and orders (two) in one mesh with weftd."""

    def __init__(self, net, tmp):
        self.mesh = m = Mesh(net, tmp)
        m.start_control()
        self.orders = m.workload(net.host("a"), "orders-1", sa="orders", labels={"app": "orders"},
                                 ports="8080/http,8081/http2,9000/tcp,8082/http", env={"WEFT_THREADS": str(ORDERS)})
        self.web = m.workload(net.host("b"), "web-1", sa="web", labels={"app": "web"}, env={"WEFT_THREADS": str(WEB)})
        host = self.orders.host
        host.start_python(APP)
        (m.tmp / "root").mkdir()
        (m.tmp / "root" / "index.html").write_text("hi")
        host.popen(["nghttpd", "--no-tls", "-d", str(m.tmp / "root"), "8081"])
        for port in (8080, 8081, 9000):
            host.wait_port(port)
        self.vip = m.service("orders", {HTTP: (8080, "http"), H2: (8081, "http2"), TCP: (9000, "tcp"), SLOW: (8082, "http")}, {"app": "orders"})[0]
        self.orders.start()
        self.web.start()

    def h2load(self, port, *args, h1=False):
        return ["h2load", *(["--h1"] if h1 else []), *args, f"http://{self.vip}:{port}/"]

    def load(self, port, n, conns=16, h1=True):
        """n requests over so many connections; all must succeed."""
        out = self.web.host.run(self.h2load(port, f"-n{n}", f"-c{conns}", h1=h1), timeout=90).stdout
        assert f"{n} succeeded, 0 failed, 0 errored" in out and f"status codes: {n} 2xx" in out, out

    def dial(self, port=TCP):
        return Peer(self.web.host.connect(self.vip, port), 30)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    need_tool("h2load", "nghttpd", "curl")
    with Net() as net:
        t = Threads(net, tmp_path_factory.mktemp("threads"))
        with t.mesh:
            yield t


def workers(pid):
    """{thread id: name} of the worker threads of a process."""
    out = {int(t): pathlib.Path(f"/proc/{pid}/task/{t}/comm").read_text().strip() for t in os.listdir(f"/proc/{pid}/task")}
    return {t: name for t, name in out.items() if name.startswith("weft-worker-")}


def by_thread(w, what, wanted=lambda e: True):
    """How many entries of a dump each thread has."""
    page = {"sessions": "/connections", "pool": "/connections", "endpoints": "/endpoints"}[what]
    return collections.Counter(e["thread"] for e in w.admin(page)[what] if wanted(e))


# --- the option ---


def test_a_main_thread_and_as_many_as_were_asked_for(mesh):
    assert sorted(workers(mesh.web.worker()).values()) == [f"weft-worker-{i}" for i in range(WEB)]
    assert len(workers(mesh.orders.worker())) == ORDERS
    assert [t["thread"] for t in mesh.web.admin("/config")["threads"]] == list(range(WEB))


@pytest.mark.parametrize("text", ["0", "65", "-1", "two", "1.5", ""])
def test_what_is_no_number_of_threads_is_refused(text):
    r = subprocess.run([weft_program("weft-proxy"), "--name", "x", f"--threads={text}"], capture_output=True, text=True, check=False, timeout=20)
    assert r.returncode == 2 and "1 to 64, or auto" in r.stderr


def test_one_is_the_default_and_auto_takes_the_processors(net, tmp_path):
    with FileMesh(net, tmp_path) as m:
        default, auto, pinned = (m.workload(net.host(h), h, env=e) for h, e in
                                 (("a", {"WEFT_THREADS": ""}), ("b", {"WEFT_THREADS": "auto"}), ("c", {"WEFT_THREADS": "auto"})))
        for w in (default, auto, pinned):
            m.write(w)
        default.start()
        auto.start()
        one = sorted(os.sched_getaffinity(0))[0]
        pinned.start(command=["taskset", "-c", str(one), m.bin("weft-proxy"), *m.proxy_args(pinned)])
        for w in (default, pinned):  # the main thread serves itself
            assert not workers(w.worker()) and len(w.admin("/config")["threads"]) == 1
        # No more than there are: a quota may allow less (tests/unit/proxy/cpus_test.c).
        n = len(auto.admin("/config")["threads"])
        assert 1 <= n <= len(os.sched_getaffinity(0)) and len(workers(auto.worker())) == (n if n > 1 else 0)


# --- traffic ---


def test_http_1_http_2_and_tcp_pass_over_every_thread(mesh):
    mesh.load(HTTP, 400, conns=16)
    mesh.load(H2, 400, conns=16, h1=False)
    peers = [mesh.dial() for _ in range(2 * WEB)]
    for i, p in enumerate(peers):
        text = b"%d " % i * 20000
        p.send(text)
        assert p.exactly(len(text)) == text
        p.close()
    assert set(by_thread(mesh.web, "pool")) == set(range(WEB))


def test_64_connections_are_shared_out_evenly(mesh):
    peers = [mesh.dial() for _ in range(64)]
    for p in peers:
        p.send(b"x")
        assert p.exactly(1) == b"x"
    for w, n in ((mesh.web, WEB), (mesh.orders, ORDERS)):
        for_tcp = by_thread(w, "sessions", lambda e: e["to"].endswith((":90", ":9000")))
        assert sum(for_tcp.values()) == 64
        assert min(for_tcp[t] for t in range(n)) >= 64 // n * 3 // 4, for_tcp
    for p in peers:
        p.close()
    wait_until(lambda: by_thread(mesh.web, "sessions", lambda e: e["to"].endswith(":90")).total() == 0, 10, "all to have ended")


def test_what_is_counted_by_the_threads_is_what_was_asked(mesh):
    n = 2000
    counted = lambda w, way: w.metric("weft_requests_total", direction=way, status="200", reason="ok")  # noqa: E731
    took = lambda w: w.metric("weft_request_duration_seconds_count", direction="outbound")  # noqa: E731
    before = counted(mesh.web, "outbound"), counted(mesh.orders, "inbound"), took(mesh.web)
    ended = sum(e["ended"] for e in mesh.web.admin("/endpoints")["endpoints"])
    mesh.load(HTTP, n, conns=32)
    wait_until(lambda: counted(mesh.web, "outbound") - before[0] == n, 5, "all to be counted")
    assert counted(mesh.orders, "inbound") - before[1] == n and took(mesh.web) - before[2] == n
    now = mesh.web.admin("/endpoints")["endpoints"]
    assert sum(e["ended"] for e in now) - ended == n
    assert {e["thread"] for e in now if e["ended"]} == set(range(WEB))


def test_configuration_changes_under_load_reach_every_thread_and_fail_no_request(mesh):
    client = mesh.web.host.popen(mesh.h2load(HTTP, "-D8", "-c16", h1=True))
    serial = mesh.web.admin("/config")["serial"]
    changes = 0
    while client.alive():
        ports = {HTTP: (8080, "http"), H2: (8081, "http2"), TCP: (9000, "tcp"), SLOW: (8082, "http"), 1000 + changes % 7: (8080, "http")}
        mesh.mesh.service("orders", ports, {"app": "orders"})
        changes += 1
    assert changes >= 3
    out = client.output()
    assert re.search(r"[1-9]\d* succeeded, 0 failed, 0 errored", out) and " 0 3xx, 0 4xx, 0 5xx" in out, out

    def all_have_it():
        c = mesh.web.admin("/config")
        return c["serial"] > serial and {t["serial"] for t in c["threads"]} == {c["serial"]}

    wait_until(all_have_it, 10, "the newest snapshot on every thread")
    assert mesh.web.metric("weft_config_serial") == mesh.web.admin("/config")["serial"]


def test_each_thread_may_ask_for_an_address_and_is_answered(mesh):
    vips = [mesh.mesh.service(f"other-{i}", {80: (8080, "http")}, {"app": "orders"})[0] for i in range(2 * WEB)]
    peers = [Peer(mesh.web.host.connect(v, 80), 15) for v in vips]
    for p in peers:
        p.send(GET)
    for p in peers:
        assert p.read().status == 200
        p.close()


# --- limits ---


def test_a_limit_of_a_service_is_exact_over_all_threads(net, tmp_path):
    """1,024 requests may wait for connections of a service, whichever threads they are on: of 1,200 the others are refused at once."""
    need_tool("h2load", "nft")
    hole = net.host("a")
    for line in ("add table inet hole", "add chain inet hole input { type filter hook input priority -300; }",
                 "add rule inet hole input tcp dport 8080 drop"):
        hole.run(["nft", *line.split(" ")])
    with FileMesh(net, tmp_path) as m:
        web = m.workload(net.host("b"), "web", env={"WEFT_THREADS": str(WEB)})
        vip = m.service("gone", {80: (8080, "http2")}, [(hole.ip4, None)])[0]
        m.start()
        client = web.host.popen(["h2load", "-n1200", "-c12", "-m100", f"http://{vip}/"])
        refused = lambda: web.metric("weft_requests_total", reason="overflow")  # noqa: E731
        wait_until(lambda: refused() >= 176, 9, "the refusals")
        (service,) = [s for s in web.admin("/endpoints")["services"] if s["service"] == "shop/gone"]
        assert service["pending"] == service["active"] == 1024 and refused() == 176, service
        waiting = collections.Counter()
        for k in web.admin("/connections")["pool"]:
            waiting[k["thread"]] += k["waiting"]
        assert sum(waiting.values()) == 1024 and len(waiting) == WEB, waiting
        client.kill()


# --- what one thread finds out of an endpoint ---


def test_failures_on_all_threads_together_take_an_endpoint_out(net, tmp_path):
    """Each thread has a connection, and they take turns, so each thread sees a quarter of the failures: the fifth takes the endpoint out for all."""
    gone = net.host("a")  # nothing listens there
    with FileMesh(net, tmp_path) as m:
        orders = m.workload(net.host("b"), "orders", ports="8080/http")
        orders.host.start_python(APP)
        orders.host.wait_port(8080)
        web = m.workload(net.host("c"), "web", env={"WEFT_THREADS": str(WEB), "WEFT_BALANCER": "round-robin"})
        vip = m.service("orders", {80: (8080, "http")}, [orders, (gone.ip4, None)])[0]
        m.start()
        peers = [Peer(web.host.connect(vip, 80), 15) for _ in range(WEB)]
        for i in range(16 * WEB):
            peers[i % WEB].send(GET)
            assert peers[i % WEB].read().status == 200
        seen = [e for e in web.admin("/endpoints")["endpoints"] if e["address"] == f"{gone.ip4}:8080"]
        assert len({e["thread"] for e in seen if e["failed"]}) > 1, seen  # mostly three: who is not asked by then never fails
        assert sum(e["failed"] for e in seen) == 5 and all(e["ejected"] and e["failures"] == 5 for e in seen), seen
        assert web.metric("weft_ejections_total", service="shop/orders") == 1 == web.metric("weft_endpoints_ejected")
        assert web.log().count("endpoint_ejected") == 1
        for p in peers:
            p.close()


# --- no lock between the threads ---


def read_counts(path):
    rows = struct.iter_unpack("=4Q", pathlib.Path(path).read_bytes())
    return {tid: (mutexes, rwlocks, waits) for tid, mutexes, rwlocks, waits in rows if tid}


@pytest.mark.plain(reason="the sanitizers lock for themselves")
def test_a_request_takes_no_lock(net, tmp_path):
    need_tool("h2load", "cc")
    lib, counts = tmp_path / "lock_counter.so", tmp_path / "counts"
    subprocess.run(["cc", "-std=gnu11", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(lib), "tests/integ/lock_counter.c", "-ldl"],
                   cwd=ROOT, check=True)
    counts.write_bytes(bytes(64 * 32))
    counts.chmod(0o666)
    with FileMesh(net, tmp_path) as m:
        m.open_path()
        orders = m.workload(net.host("a"), "orders", ports="8080/http")
        preload = {"WEFT_THREADS": str(WEB), "LD_PRELOAD": str(lib), "WEFT_LOCK_COUNTS": str(counts), "WEFT_LOG_LEVEL": "warn"}
        web = m.workload(net.host("b"), "web", env=preload)
        orders.host.start_python(APP)
        orders.host.wait_port(8080)
        vip = m.service("orders", {80: (8080, "http")}, [orders])[0]
        m.start()
        load = ["h2load", "--h1", "-c16", f"http://{vip}/"]
        client = web.host.popen([*load, "-D6", "--warm-up-time=1s"])
        wait_until(lambda: len(by_thread(web, "pool")) == WEB, 5, "every thread to have a connection")
        done = lambda: web.metric("weft_requests_total", direction="outbound", reason="ok")  # noqa: E731
        first_done, first = done(), read_counts(counts)
        wait_until(lambda: done() - first_done > 1000, 6, "a thousand requests")
        last = read_counts(counts)
        client.kill()
        tids = workers(web.worker())
        assert len(tids) == WEB
        zero = (0, 0, 0)
        grown = {t: tuple(a - b for a, b in zip(last.get(t, zero), first.get(t, zero))) for t in tids}
        assert all(g == zero for g in grown.values()), grown
        # The handshakes before took some, OpenSSL's: the counter sees these threads.
        assert all(sum(first[t]) for t in tids), first


# --- the end ---


def test_a_worker_that_died_is_back_with_all_its_threads(mesh):
    before = mesh.web.worker()
    os.kill(before, signal.SIGKILL)
    after = wait_until(lambda: mesh.web.pids()[1] not in (None, before) and mesh.web.pids()[1], 10, "another worker")
    mesh.web.wait_ready()
    assert len(workers(after)) == WEB
    mesh.load(HTTP, 200, conns=16)


def test_a_drain_lets_what_runs_on_any_thread_finish(mesh):
    go = threading.Event()

    def slow(p):
        if p.head():
            go.wait(30)
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Origin(mesh.orders.host, 8082, slow) as o:
        peers = [mesh.dial(SLOW) for _ in range(2 * WEB)]
        for p in peers:
            p.send(GET)
        wait_until(lambda: len(o.seen) == len(peers), 10, "every request at the application")
        mesh.web.capture.signal(signal.SIGTERM)
        wait_until(lambda: mesh.web.status("/ready")[0] == 503, 5, "not ready")
        go.set()
        for p in peers:
            answer = p.read()
            assert answer.status == 200 and answer.get(b"connection") == [b"close"]
            p.close()
        assert mesh.web.capture.wait(15) == 0
    with pytest.raises((ConnectionError, socket.timeout)):
        mesh.web.host.connect(mesh.vip, HTTP, timeout=3)

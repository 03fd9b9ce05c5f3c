# SPDX-License-Identifier: Apache-2.0
"""A sidecar with little memory, greedy peers and a well-behaved client: each mark of docs/memory.md is reached and left again, the worker stays
beneath its limit and alive, and the client is served as long as the level allows."""

import contextlib
import os
import re
import resource
import socket
import threading
import time

import h2.exceptions
import pytest
from conftest import missing
from harness.h2peer import H2Origin, H2Peer
from harness.http1 import Origin, Peer
from harness.memory import worker_kb
from harness.mesh import FileMesh
from harness.netns import Net, wait_until
from test_idle_memory import Answers

pytestmark = pytest.mark.plain("memory is a claim about the plain build")
HTTP, H2, TCP = 8080, 8081, 9000
LIMIT = 12 << 20
USABLE = LIMIT - (512 << 10)  # what the marks are percents of
NAMES = ("none", "shed", "close", "refuse")
NONE, SHED, CLOSE, REFUSE = range(len(NAMES))
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"GET /hold HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-FiElD-%d: %s\r\n" % (i, b"v" * 300) for i in range(95)) + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BIG = 8 << 20
STALL_S = float(os.environ.get("WEFT_STALL_S", "4"))  # make stall: 60


@pytest.fixture(autouse=True, scope="module")
def descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def running(tmp_path, **env):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{HTTP}/http,{H2}/http,{TCP}/tcp")
        m.web = m.workload(net.host("b"), "web", env={"WEFT_MEMORY_MAX": str(LIMIT), **env})
        m.vip = m.service("orders", {HTTP: (HTTP, "http"), H2: (H2, "http"), TCP: (TCP, "tcp")}, [m.orders])[0]
        m.start()
        yield m


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    with running(tmp_path_factory.mktemp("memory")) as m:
        yield m


def dial(mesh, port=HTTP):
    return Peer(mesh.web.host.connect(mesh.vip, port, timeout=10), 10, keep=False)


def level(w):
    return int(w.metric("weft_memory_level"))


def changes(w):
    """The levels that it went through, as (from, to)."""
    return re.findall(r"memory_(?:pressure|relief) from=(\w+) to=(\w+)", w.log())


class Client(threading.Thread):
    """Asks something small over and over on one kept connection. `bad`: every answer that was none."""

    def __init__(self, mesh):
        super().__init__(daemon=True)
        self.mesh, self.over, self.good, self.bad, self.slowest = mesh, False, 0, [], 0

    def run(self):
        c = None
        while not self.over:
            began = time.monotonic()
            try:
                c = c or dial(self.mesh)
                c.send(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
                m = c.read()
                if m.status == 200:
                    self.good += 1
                else:
                    self.bad.append((m.status, m.get(b"x-weft-error")))
                if m.get(b"connection"):
                    c = c.close()
            except Exception as e:  # noqa: BLE001 - whatever it is, it was no answer
                self.bad.append(repr(e))
                c = None
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(0.01)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.join(15)


class High:
    """The worker's private memory while the block runs: the highest sample, in bytes."""

    def __init__(self, workload):
        self.workload, self.bytes, self.over = workload, 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.over.wait(0.02):
            self.bytes = max(self.bytes, worker_kb(self.workload) << 10)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def big_and_small(p):
    """The application: endless answers, and small ones to who asks for those."""
    with contextlib.suppress(OSError):
        while h := p.head():
            if b"/small" in h[0]:
                p.send(OK)
                continue
            if b"/hold" in h[0]:
                p.rest()
                return
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
            for _ in range(BIG >> 16):
                p.send(b"b" * 65536)


def big_over_h2(c, sid):
    with contextlib.suppress(h2.exceptions.StreamClosedError):  # it was reset meanwhile
        c.respond(sid, body=b"b" * 300000, wait=False)


def never_ending(p):
    with contextlib.suppress(OSError):
        p.some()
        while True:
            p.send(b"b" * 65536)


def stalled(mesh, how, n):
    """n exchanges whose answers nobody reads."""
    out = []
    if how == "http2":
        for _ in range(n // 50):
            c = H2Peer(mesh.web.host.connect(mesh.vip, H2, timeout=10), auto=False)
            for _ in range(50):
                c.request()
            out.append(c)
        return out
    for i in range(n):
        if how in ("opaque", "heads") and i % 15 == 14:
            time.sleep(0.3)  # what was accepted is measured: a burst would be refused for what it might cost
        with contextlib.suppress(OSError):
            c = dial(mesh, TCP if how == "opaque" else HTTP)
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # else the kernel takes megabytes before anybody notices
            out.append(c)
            c.send(LARGE if how == "heads" else GET)
    return out


@pytest.mark.parametrize(("how", "n"), [("http1", 150), ("http2", 250), ("opaque", 220), ("heads", 300)])
def test_readers_that_stand_still_are_reset_and_nobody_else_is(mesh, how, n):
    """heads: of requests that are not answered, 30 KB each; no body waits anywhere."""
    readers_stand_still(mesh, how, n)


def test_the_limit_and_the_order_of_shedding_hold_with_four_threads(tmp_path):
    """What one thread's heap keeps of the first is no memory for the others in the second. `make stall` runs the whole page with four."""
    with running(tmp_path, WEFT_THREADS="4") as m:
        readers_stand_still(m, "http2", 250)
        readers_stand_still(m, "opaque", 220)


def readers_stand_still(mesh, how, n):
    worker, ended = mesh.web.worker(), mesh.web.metric("weft_memory_shed_total")
    refused_before = mesh.web.metric("weft_connections_closed_total", reason="overload")
    h2_origin = H2Origin(mesh.orders.host, H2, big_over_h2)
    with Origin(mesh.orders.host, HTTP, big_and_small, keep=False), h2_origin, Origin(mesh.orders.host, TCP, never_ending, keep=False), \
            Client(mesh) as good, High(mesh.web) as high:
        wait_until(lambda: good.good > 5, 10, "the client is served")
        greedy = stalled(mesh, how, n)
        # The kernel's buffers are to be filled first: a second, or a minute where the machine is busy.
        wait_until(lambda: mesh.web.metric("weft_memory_shed_total") > ended, 60, "something is shed")
        wait_until(lambda: level(mesh.web) < CLOSE, 20, "that is enough")
        served = good.good
        wait_until(lambda: good.good > served + 20, 20, "the client is served beside them")
        assert mesh.web.status("/ready")[0] == 200
        for c in greedy:
            c.close()
        wait_until(lambda: level(mesh.web) == NONE, 20, "relief")
    assert mesh.web.worker() == worker and high.bytes < LIMIT, (high.bytes, LIMIT)
    # The budget of windows (a quarter of the limit) is what HTTP reaches first; tunnels have none.
    assert how != "opaque" or ("none", "shed") in changes(mesh.web)
    counted = "weft_tcp_connections_closed_total" if how == "opaque" else "weft_requests_total"
    assert mesh.web.metric(counted, reason="shed") > 0
    # What it was not given was refused for want of memory, each time: as an answer or, where it had to connect anew, by a reset.
    resets = [b for b in good.bad if "reset by peer" in str(b)]
    assert len(resets) <= mesh.web.metric("weft_connections_closed_total", reason="overload") - refused_before
    assert all("overload" in str(b) for b in good.bad if b not in resets), good.bad
    assert len(good.bad) < good.good, (good.good, good.bad[:5])


def climb(mesh, to, held):
    """Idle connections, fewer at a time towards the mark, until the level has been measured: the gauge may be ahead for a moment, by what buffers took."""
    end = time.monotonic() + 60
    while NAMES.index([("", "none"), *changes(mesh.web)][-1][1]) < to:
        used = mesh.web.metric("weft_memory_used_bytes")
        assert time.monotonic() < end, f"{len(held)} connections, {used} bytes"
        missing_bytes = USABLE * {SHED: 0.85, CLOSE: 0.95, REFUSE: 0.98}[to] - used
        for _ in range(max(2, min(80, int(missing_bytes / 24000 * 0.7)))):
            with contextlib.suppress(OSError):
                c = mesh.web.host.connect(mesh.vip, TCP, timeout=10)
                held.append(c)
                c.sendall(b"x")
                c.recv(1)
        time.sleep(0.3)  # one measurement


def grpc_status(c, sid):
    return {k: v for k, v in [*c.heads[sid], *c.trailers.get(sid, [])] if k.startswith("grpc-")}


def test_each_mark_does_what_the_page_says_and_is_left_again(mesh):
    """Idle connections hold no buffers: nothing can be shed, so their number alone drives the sidecar from mark to mark."""
    worker, held, before = mesh.web.worker(), [], len(changes(mesh.web))
    with Origin(mesh.orders.host, HTTP, big_and_small, keep=False), Answers(mesh.orders.host, [TCP], b"y"), High(mesh.web) as high:
        kept, call = dial(mesh), H2Peer(mesh.web.host.connect(mesh.vip, H2, timeout=10))
        kept.send(GET.replace(b"/ ", b"/small "))
        assert kept.read().get(b"connection") == []
        climb(mesh, SHED, held)
        kept.send(GET.replace(b"/ ", b"/small "))
        assert kept.read().status == 200, "shedding serves"
        wait_until(lambda: call.turn() or call.goaway, 5, "GOAWAY on the idle HTTP/2 connection")
        call = H2Peer(mesh.web.host.connect(mesh.vip, H2, timeout=10))
        call.until(lambda: call.settings is not None)
        climb(mesh, CLOSE, held)
        with dial(mesh) as c:
            c.send(GET.replace(b"/ ", b"/small "))
            m = c.read()
            assert (m.status, m.get(b"connection")) == (200, [b"close"]) or m.status == 503, m
        climb(mesh, REFUSE, held)
        kept.send(GET.replace(b"/ ", b"/small "))
        m = kept.read()
        assert m.status == 503 and b"overload" in m.get(b"x-weft-error")[0], m
        refused = mesh.web.metric("weft_connections_closed_total", reason="overload")
        with pytest.raises((OSError, EOFError)), dial(mesh) as c:
            c.send(GET)
            assert c.head(), "an answer"
            raise AssertionError("a new connection was served")
        assert mesh.web.metric("weft_connections_closed_total", reason="overload") > refused
        assert mesh.web.status("/ready")[0] == 200, "what serves the others is not taken away"
        for c in held:
            c.close()
        wait_until(lambda: level(mesh.web) == NONE, 30, "relief")
        with dial(mesh) as c:
            c.send(GET.replace(b"/ ", b"/small "))
            assert c.read().status == 200
    assert mesh.web.worker() == worker and high.bytes < LIMIT, (high.bytes, LIMIT)
    went = [t for f, t in changes(mesh.web)[before:]]
    assert {"shed", "refuse", "none"} <= set(went) and went[-1] == "none", went


def test_a_reader_that_stops_for_long_keeps_its_connection_and_bothers_nobody(mesh):
    """Of HTTP and opaque each: buffers stay as they are, then everything arrives."""
    patient = STALL_S + 30
    with Origin(mesh.orders.host, HTTP, big_and_small, keep=False, timeout=patient), \
            Origin(mesh.orders.host, TCP, never_ending, keep=False, timeout=patient), Client(mesh) as good, contextlib.ExitStack() as stack:
        a, b = stack.enter_context(dial(mesh)), stack.enter_context(dial(mesh, TCP))
        a.send(GET)
        b.send(b"x")
        assert a.head()[0] == b"HTTP/1.1 200 OK"
        time.sleep(1)  # what there is to fill is filled
        first, end = {w: worker_kb(w) for w in (mesh.web, mesh.orders)}, time.monotonic() + STALL_S
        while time.monotonic() < end:
            time.sleep(0.2)
            for w, kb in first.items():
                assert worker_kb(w) - kb < 1024, w.name
        a.exactly(BIG)
        b.exactly(4 << 20)
    assert good.good > STALL_S * 10 and not good.bad and good.slowest < 2, (good.good, good.bad[:3], good.slowest)


def test_memory_max_is_a_size_or_none(mesh):
    proxy = mesh.bin("weft-proxy")
    for bad in ("4M", "lots", "-1", "64MB"):
        r = mesh.web.host.run([proxy, "-t", "-f", str(mesh.web.file), "--memory-max", bad], check=False)
        assert r.returncode != 0 and "--memory-max" in r.stdout + (r.stderr or ""), r
    for good in ("16M", "1G", "none", "33554432"):
        assert mesh.web.host.run([proxy, "-t", "-f", str(mesh.web.file), "--memory-max", good], check=False).returncode == 0
    assert mesh.web.metric("weft_memory_limit_bytes") == LIMIT

# SPDX-License-Identifier: Apache-2.0
"""What a sidecar costs while nothing happens, and that it gives back what a load took: promises of docs/memory.md. PSS and private dirty
pages of supervisor and worker, from smaps_rollup."""

import contextlib
import os
import resource
import selectors
import socket
import threading
import time

import pytest
from conftest import missing
from harness.memory import private_kb, pss_kb
from harness.mesh import FileMesh
from harness.netns import Net, Timeout, wait_until

pytestmark = pytest.mark.plain("memory is a claim about the plain build")
HTTP, TCP = 8080, 9000
MB = 1024  # in KiB
MANY = int(os.environ.get("WEFT_IDLE", "1000"))  # make idle: 8,000
HANDSHAKES = int(os.environ.get("WEFT_HANDSHAKES", "2000"))  # make idle: 100,000
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True, scope="module")
def descriptors():
    """This process holds both ends of thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def mesh(tmp_path):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{HTTP}/http,{TCP}/tcp")
        m.web = m.workload(net.host("b"), "web")
        m.vip = m.service("orders", {HTTP: (HTTP, "http"), TCP: (TCP, "tcp")}, [m.orders])[0]
        m.start()
        yield m


class Answers:
    """An application in one thread, for thousands of connections: says `answer` to whatever comes on each of its ports."""

    def __init__(self, host, ports, answer):
        self.answer, self.sel, self.over = answer, selectors.DefaultSelector(), False
        with host.inside():
            for p in ports:
                s = socket.create_server(("", p), backlog=4096)
                s.setblocking(False)
                self.sel.register(s, selectors.EVENT_READ, True)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.over:
            for key, _ in self.sel.select(0.1):
                if key.data:
                    c, _ = key.fileobj.accept()
                    self.sel.register(c, selectors.EVENT_READ, False)
                    continue
                with contextlib.suppress(OSError):
                    if key.fileobj.recv(65536):
                        key.fileobj.sendall(self.answer)
                        continue
                self.sel.unregister(key.fileobj)
                key.fileobj.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()
        for key in list(self.sel.get_map().values()):
            key.fileobj.close()
        self.sel.close()


def connect_all(host, n, address, port, say, answer):
    """n connections that have been of use once each and are idle since."""
    out = []
    for i in range(n):
        c = host.connect(address, port(i), timeout=20)
        c.sendall(say)
        out.append(c)
        if len(out) % 50 == 0 or i == n - 1:
            for c in out[-50:]:
                assert c.recv(4096).startswith(answer)
    return out


def after_trim(workload, measure, most, what):
    """The measure, once it is within what was promised (a load's memory goes back about a second after its end)."""
    def within():
        seen.append(measure(workload))
        return seen[-1] <= most
    seen = []
    with contextlib.suppress(Timeout):
        wait_until(within, 10, what)
    assert seen[-1] <= most, f"{workload.name}: {what}: {seen[-1]} KiB, promised {most}"


def sidecars(mesh):
    return mesh.orders, mesh.web


def test_an_idle_sidecar_is_small(mesh):
    for w in sidecars(mesh):
        after_trim(w, pss_kb, 7 * MB, "PSS of an idle sidecar")
        after_trim(w, private_kb, 2.5 * MB, "private dirty pages of an idle sidecar")


@pytest.mark.parametrize(("kind", "most_mb"), [("opaque", 25), ("http2", 50)])
def test_idle_mesh_connections_cost_little(mesh, kind, most_mb):
    """Each has a connection of its own between the two sidecars: an HTTP/2 one leads to another port, so that none is shared."""
    ports = [TCP] if kind == "opaque" else range(10000, 10000 + MANY)
    first = {w: pss_kb(w) for w in sidecars(mesh)}
    with Answers(mesh.orders.host, ports, b"y" if kind == "opaque" else OK):
        if kind == "opaque":
            held = connect_all(mesh.web.host, MANY, mesh.vip, lambda i: TCP, b"x", b"y")
        else:
            held = connect_all(mesh.web.host, MANY, mesh.orders.host.ip4, lambda i: ports[i], GET, b"HTTP/1.1 200")
            assert mesh.orders.metric("weft_connections_open") >= MANY, "one each"
        for w, kb in first.items():
            after_trim(w, pss_kb, kb + most_mb * MB * MANY / 1000, f"{MANY} idle {kind} connections")
        say = b"x" if kind == "opaque" else GET
        for c in held[:: MANY // 20]:
            c.sendall(say)
            assert c.recv(4096), "and they are alive"
        for c in held:
            c.close()


def test_memory_comes_back_after_a_load(mesh):
    def load(n):
        held = connect_all(mesh.web.host, n, mesh.vip, lambda i: TCP, b"x", b"y")
        held += connect_all(mesh.web.host, n, mesh.vip, lambda i: HTTP, GET, b"HTTP/1.1 200")
        high = {w: pss_kb(w) for w in sidecars(mesh)}
        for c in held:
            c.close()
        return high

    with Answers(mesh.orders.host, [TCP], b"y"), Answers(mesh.orders.host, [HTTP], OK):
        load(20)  # what the first connections bring in for good: tables, pages of the program
        time.sleep(3)
        idle = {w: pss_kb(w) for w in sidecars(mesh)}
        high = load(500)
        for w in sidecars(mesh):
            assert high[w] > 2 * idle[w], "too little for a claim"
            wait_until(lambda w=w: pss_kb(w) <= 1.3 * idle[w], 60, f"{w.name} is back within 1.3 times {idle[w]} KiB")


def test_thousands_of_full_handshakes_leave_nothing(mesh):
    """CVE-2024-2511 was a cache of TLS 1.3 sessions that grew with each."""
    def handshakes(n):
        for _ in range(n // 50):  # an opaque connection has one of its own between the two sidecars
            for c in connect_all(mesh.web.host, 50, mesh.vip, lambda i: TCP, b"x", b"y"):
                c.close()

    def lowest():
        """Of four seconds: it is given back in steps."""
        end, low = time.monotonic() + 4, {}
        while time.monotonic() < end:
            time.sleep(0.2)
            for w in sidecars(mesh):
                low[w] = min(low.get(w, 1 << 30), private_kb(w))
        return low

    with Answers(mesh.orders.host, [TCP], b"y"):
        handshakes(500)
        first = lowest()
        before = mesh.orders.metric("weft_connections_total")
        handshakes(HANDSHAKES)
        assert mesh.orders.metric("weft_connections_total") - before >= HANDSHAKES
        for w, kb in first.items():
            after_trim(w, private_kb, kb + 128, f"private dirty pages after {HANDSHAKES} handshakes more, {kb} before")


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        row = f.read().rpartition(")")[2].split()
    return (int(row[11]) + int(row[12])) / os.sysconf("SC_CLK_TCK")


def test_out_of_descriptors_is_overload_and_over_at_once(mesh):
    """256 descriptors, 1,000 connections: some are served, the others refused at once; nothing spins; when they go, the next is served."""
    mesh.web.stop()
    mesh.web.start(command=["prlimit", "--nofile=256:256", mesh.bin("weft-proxy"), *mesh.proxy_args(mesh.web)])
    worker, held, refused = mesh.web.worker(), [], 0
    with Answers(mesh.orders.host, [TCP], b"y"):
        for _ in range(1000):
            try:
                c = mesh.web.host.connect(mesh.vip, TCP, timeout=10)
                c.sendall(b"x")
                held.append(c)
            except OSError:
                refused += 1
        alive = []
        for c in held:
            with contextlib.suppress(OSError):
                if c.recv(1) == b"y":
                    alive.append(c)
        assert 50 < len(alive) < 256, (len(alive), refused)
        assert mesh.web.metric("weft_connections_closed_total", reason="overload") > 700
        assert mesh.web.status("/ready")[0] == 200, "there are descriptors left for who asks how it is"
        before = cpu_s(worker)
        time.sleep(1)
        assert cpu_s(worker) - before < 0.2, "it spins"
        for c in held:
            c.close()
        gone = time.monotonic()

        def served():
            with contextlib.suppress(OSError), mesh.web.host.connect(mesh.vip, TCP, timeout=5) as c:
                c.sendall(b"x")
                return c.recv(1) == b"y"
        wait_until(served, 5, "the next connection is served")
        assert time.monotonic() - gone < 1.0
    assert mesh.web.worker() == worker

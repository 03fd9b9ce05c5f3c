# SPDX-License-Identifier: Apache-2.0
"""Who does not read stops who writes, through two sidecars: nothing is lost, memory does not grow, and nobody else waits."""

import contextlib
import hashlib
import os
import secrets
import select
import threading
import time

import pytest
from conftest import missing
from harness.http1 import Origin, Peer
from harness.memory import Watch
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

# Back-pressure is tried on both builds, memory is a claim about the plain one.
pytestmark = pytest.mark.plain(also=True)
PLAIN = "asan" not in os.environ.get("WEFT_BUILD", "build/plain")
HTTP, TCP = 8080, 9000
TOTAL = 96 << 20  # more than all kernel buffers on the way
BLOCK = secrets.token_bytes(1 << 20)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path_factory.mktemp("pressure")) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{HTTP}/http,{TCP}/tcp")
        m.web = m.workload(net.host("b"), "web")
        m.vip = m.service("orders", {HTTP: (HTTP, "http"), TCP: (TCP, "tcp")}, [m.orders])[0]
        m.start()
        yield m


def dial(mesh, port):
    return Peer(mesh.web.host.connect(mesh.vip, port), 30, keep=False)


class Writer(threading.Thread):
    """Writes TOTAL bytes to a peer from a thread. `sent` counts; blocked() waits until it has stood still for a while."""

    def __init__(self, peer, end=None):
        super().__init__(daemon=True)
        self.peer, self.sent, self.error, self.end = peer, 0, None, end
        self.start()

    def run(self):
        try:
            while self.sent < TOTAL:
                select.select([], [self.peer.sock], [], 60)
                at = self.sent % len(BLOCK)
                self.sent += self.peer.sock.send(BLOCK[at : at + 65536])
            if self.end:
                self.end()
        except (OSError, ValueError) as e:  # ValueError: closed under it
            self.error = e

    def blocked(self, still=0.7):
        """Waits until nothing moved for `still` seconds; the bytes sent by then."""
        last, since = -1, time.monotonic()
        end = since + 20
        while time.monotonic() - since < still:
            assert time.monotonic() < end, f"{self.sent} bytes and still going"
            if self.sent != last:
                last, since = self.sent, time.monotonic()
            time.sleep(0.05)
        assert self.sent < TOTAL, "it was never stopped"
        return self.sent


def expected():
    h = hashlib.sha256()
    for _ in range(TOTAL // len(BLOCK)):
        h.update(BLOCK)
    return h.hexdigest()


def take(peer):
    h = hashlib.sha256()
    peer.exactly(TOTAL, h)
    return h.hexdigest()


def stalled_then_read(mesh, writer, reader):
    """The writer stands still while nobody reads; memory is flat; then everything arrives."""
    with Watch(mesh.orders, mesh.web) as w:
        first = writer.blocked()
        time.sleep(0.5)
        assert writer.sent - first < 65536
    if PLAIN:
        assert w.growth_kb() < 2048, (w.first, w.high)
    assert take(reader) == expected()
    writer.join(20)
    assert not writer.is_alive() and not writer.error


@pytest.mark.parametrize("writes", ["client", "application"])
def test_an_opaque_reader_that_stops_blocks_the_writer_and_loses_nothing(mesh, writes):
    held, go = [], threading.Event()

    def behave(p):
        held.append(p)
        go.wait(60)

    with Origin(mesh.orders.host, TCP, behave, keep=False), dial(mesh, TCP) as c:
        c.send(b"x")
        wait_until(lambda: held, 5, "the connection at the application")
        assert held[0].exactly(1) == b"x"
        ends = [c, held[0]] if writes == "client" else [held[0], c]
        stalled_then_read(mesh, Writer(ends[0]), ends[1])
        go.set()


def test_an_application_that_stops_reading_a_request_blocks_its_client(mesh):
    held, go = [], threading.Event()

    def behave(p):
        p.head()
        held.append(p)
        go.wait(60)
        p.send(OK)

    with Origin(mesh.orders.host, HTTP, behave, keep=False), dial(mesh, HTTP) as c:
        c.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        wait_until(lambda: held, 5, "the request at the application")
        stalled_then_read(mesh, Writer(c), held[0])
        go.set()
        assert c.read().status == 200


def test_a_client_that_stops_reading_an_answer_blocks_the_application(mesh):
    held, go = [], threading.Event()

    def behave(p):
        while h := p.head():
            if b"/small" in h[0]:
                p.send(OK)
                continue
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
            held.append(p)
            go.wait(60)

    with Origin(mesh.orders.host, HTTP, behave, keep=False), dial(mesh, HTTP) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: held, 5, "the request at the application")
        assert c.head()[0] == b"HTTP/1.1 200 OK"
        stalled_then_read(mesh, Writer(held[0]), c)
        go.set()
        c.send(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.read().status == 200, "and the connection goes on"


def hop_connections(mesh):
    return sum(len(p["connections"]) for p in mesh.web.admin("/connections")["pool"] if p["hop"] == "mesh")


def quick_calls(mesh, n=20):
    """Requests and answers of 200 KB beside the stalled ones; the slowest, in seconds."""
    slowest = 0
    body = b"b" * 200000
    with dial(mesh, HTTP) as c:
        for _ in range(n):
            began = time.monotonic()
            c.send(b"POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert len(c.read().body) == len(body)
            slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.parametrize("stalled", ["answers", "requests"])
def test_sixteen_stalled_streams_on_one_hop_connection_block_nobody_else(mesh, stalled):
    go, stuck = threading.Event(), []

    def behave(p):
        while h := p.head():
            if b"/quick" in h[0]:
                body, _ = p.body("length", 200000)
                p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                continue
            stuck.append(p)
            if stalled == "answers":
                p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
                with contextlib.suppress(OSError):
                    Writer(p).join(60)
            else:
                go.wait(60)
            return

    with Origin(mesh.orders.host, HTTP, behave, keep=False), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(dial(mesh, HTTP)) for _ in range(16)]
        with Watch(mesh.orders, mesh.web) as w:
            writers = []
            for c in clients:
                if stalled == "answers":
                    c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                else:
                    c.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % TOTAL)
                    writers.append(Writer(c))
            wait_until(lambda: len(stuck) == 16, 10, "16 requests at the application")
            for i, x in enumerate(writers):
                x.blocked(still=0.1 if i else 0.7)
            if stalled == "answers":
                time.sleep(1.0)  # their answers fill what there is to fill
            assert hop_connections(mesh) == 1
            assert quick_calls(mesh) < 1.0
        if PLAIN:
            assert w.growth_kb() < 16 << 10, (w.first, w.high)  # a window each, 64 KiB that grow to 1 MiB
        go.set()


def test_clients_that_break_off_cost_nobody_else_an_answer(mesh):
    """Each request that a client breaks off resets a stream of the connection that all share between two sidecars: more in a second than a
    stranger may (20), less than a sidecar may (OWN_RESETS_RATE)."""
    end = time.monotonic() + 4
    broken, served, failed = [0], 0, []

    def behave(p):
        with contextlib.suppress(OSError):
            while h := p.head():
                if b"/slow" in h[0]:
                    p.rest()
                    return
                p.body("length", 10)
                time.sleep(0.002)  # so that there is always one under way
                p.send(OK)

    def abuse():
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                c = dial(mesh, HTTP)
                c.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
                time.sleep(0.004)
                c.reset()
                broken[0] += 1

    with Origin(mesh.orders.host, HTTP, behave, keep=False):
        threads = [threading.Thread(target=abuse) for _ in range(6)]
        for t in threads:
            t.start()
        with dial(mesh, HTTP) as c:
            while time.monotonic() < end:
                c.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789")
                m = c.read()
                if m.status == 200:
                    served += 1
                else:
                    failed.append(m)
        for t in threads:
            t.join()
    assert broken[0] > 1500, "too few for a claim"
    assert served > 100 and not failed, (served, broken, len(failed), failed[0])

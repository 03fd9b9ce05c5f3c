# SPDX-License-Identifier: Apache-2.0
"""Clients and applications that break off, stall, talk out of turn and reset, many at once, for a while, in any combination: no sidecar
may die, leak, or give one client what belongs to another. The seed is printed; WEFT_SEED repeats a run as far as timing allows."""

import contextlib
import os
import random
import threading
import time

import pytest
from conftest import missing
from harness.http1 import Origin, Peer
from harness.memory import pss_kb
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

PLAIN = "asan" not in os.environ.get("WEFT_BUILD", "build/plain")
HTTP, TCP = 8080, 9000
SECONDS = 8
THREADS = 12


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path_factory.mktemp("chaos")) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{HTTP}/http,{TCP}/tcp")
        m.web = m.workload(net.host("b"), "web")
        m.vip = m.service("orders", {HTTP: (HTTP, "http"), TCP: (TCP, "tcp")}, [m.orders])[0]
        m.start()
        yield m


def sized(r):
    return r.choice([0, 1, 10, 1000, 16384, 65535, 70000, 300000])


def application(seed):
    """Serves one connection as the dice say. Whatever it answers in full carries the path of the request."""

    def behave(p):
        r = random.Random(f"{seed}-{p.sock.getpeername()}-{time.monotonic_ns()}")
        with contextlib.suppress(OSError, EOFError, ValueError, TypeError, AttributeError):
            while True:
                h = p.head()
                if h is None:
                    return
                line, fields = h
                low = {n.lower(): v for n, v in fields}
                framing = "chunked" if b"transfer-encoding" in low else "length"
                mood = r.random()
                if mood < 0.05:
                    p.reset()
                    return
                if mood < 0.10:
                    return
                if mood < 0.15:  # answers before it has read the body
                    p.send(b"HTTP/1.1 403 No\r\nX-Path: " + line.split(b" ")[1] + b"\r\nContent-Length: 0\r\n\r\n")
                    return
                if mood < 0.20:  # reads a part of the body only
                    if int(low.get(b"content-length", b"0")):
                        p.some()
                    time.sleep(0.02)
                    return
                p.body(framing, int(low.get(b"content-length", b"0")))
                path, body = line.split(b" ")[1], os.urandom(sized(r))
                head = b"HTTP/1.1 200 OK\r\nX-Path: " + path + b"\r\n"
                if mood < 0.25:
                    p.send(b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n")
                if mood < 0.30:  # a part of the answer, then the end
                    p.send(head + b"Content-Length: %d\r\n\r\n" % (len(body) + 10) + body)
                    return
                if mood < 0.35:
                    p.send(head + b"Connection: close\r\n\r\n" + body)
                    return
                if mood < 0.40:  # nonsense
                    p.send(b"HTTP/1.1 2\r\n\r\n")
                    return
                    return
                if mood < 0.45:  # no answer for a while
                    time.sleep(0.05)
                if mood < 0.7 and line.split(b" ")[0] != b"HEAD":
                    p.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
                    for at in range(0, len(body), 30000):
                        piece = body[at : at + 30000]
                        p.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
                    p.send(b"0\r\nX-T: 1\r\n\r\n")
                else:
                    p.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + (b"" if line.startswith(b"HEAD") else body))

    return behave


def client(mesh, r, stats):
    """One connection, used as the dice say."""
    if r.random() < 0.15:
        with Peer(mesh.web.host.connect(mesh.vip, TCP), 5) as c:
            c.send(os.urandom(sized(r)))
            c.reset() if r.random() < 0.5 else c.fin()
        return
    c = Peer(mesh.web.host.connect(mesh.vip, HTTP), 5)
    try:
        for _ in range(r.randrange(1, 5)):
            path = b"/%d" % r.randrange(1 << 48)
            method = r.choice([b"GET", b"POST", b"HEAD", b"PUT"])
            body = os.urandom(sized(r)) if method in (b"POST", b"PUT") else None
            head = method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n"
            if body is not None:
                head += b"Content-Length: %d\r\n" % len(body)
            data = head + b"\r\n" + (body or b"")
            if r.random() < 0.05:
                data = data[: r.randrange(len(data))]
                c.send(data)
                c.reset() if r.random() < 0.5 else c.close()
                return
            if r.random() < 0.3:
                cut = r.randrange(len(data))
                c.send(data[:cut], data[cut:], pause=0.005)
            else:
                c.send(data)
            mood = r.random()
            if mood < 0.05:
                c.reset()
                return
            if mood < 0.1:
                c.fin()
            if mood < 0.15:
                c.some()
                return
            m = c.read(answer_to=method.decode())
            while m and m.status < 200:
                m = c.read(answer_to=method.decode())
            if m is None:
                return
            what = b" ".join([b"%d" % m.status, *m.get(b"x-weft-error")]).decode()
            stats[what] = stats.get(what, 0) + 1
            if m.get(b"x-path"):
                assert m.get(b"x-path") == [path], "an answer that belongs to another request"
            if b"close" in b"".join(m.get(b"connection")):
                return
    finally:
        c.close()


def left(mesh):
    """What is still there of sessions, requests and tunnels on either side, but the pooled connection between them."""
    busy = lambda s: s.get("requests") or s["protocol"] != "weft1-h2"  # noqa: E731
    return [s for w in (mesh.web, mesh.orders) for s in w.admin("/connections")["sessions"] if busy(s)]


def test_nobody_dies_and_nothing_is_left_or_mixed_up(mesh):
    seed = int(os.environ.get("WEFT_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WEFT_SEED={seed}")
    workers = [w.worker() for w in (mesh.orders, mesh.web)]
    stats, wrong, end = {}, [], time.monotonic() + SECONDS
    half = {}

    def run(n):
        r = random.Random(f"{seed}-{n}")
        while time.monotonic() < end:
            try:
                client(mesh, r, stats)
            except AssertionError as e:
                wrong.append(e)
            except (OSError, EOFError, ValueError, TypeError, AttributeError):
                pass

    with Origin(mesh.orders.host, HTTP, application(seed), keep=False), Origin(mesh.orders.host, TCP, lambda p: p.rest(), keep=False):
        threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
        for t in threads:
            t.start()
        time.sleep(SECONDS / 2)
        half = {w.name: pss_kb(w) for w in (mesh.orders, mesh.web)}
        for t in threads:
            t.join(SECONDS + 20)
        assert not wrong, wrong[0]
        assert stats.get("200", 0) > 100, stats
        try:
            wait_until(lambda: not left(mesh), 10, "both sidecars at rest")
        except AssertionError as e:
            raise AssertionError(f"{e}: {left(mesh)}") from None
        if PLAIN:
            for w in (mesh.orders, mesh.web):
                assert pss_kb(w) < half[w.name] + 3072, (w.name, half, pss_kb(w))
    assert [w.worker() for w in (mesh.orders, mesh.web)] == workers, "a worker died"
    with Origin(mesh.orders.host, HTTP, lambda p: (p.read(), p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))):
        with Peer(mesh.web.host.connect(mesh.vip, HTTP)) as c:
            c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert c.read().status == 200
    print(stats)

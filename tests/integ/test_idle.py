# SPDX-License-Identifier: Apache-2.0
"""What a connection may do without a request, how long a head may take, and how long a request waits for a connection: with short times, given as
options (--idle-upstream, --idle-downstream, --stream-idle, --head-timeout, --queue-timeout; defaults 1 min, 1 h, 5 min, 10 s, 15 s)."""

import contextlib
import os
import time

import pytest
from conftest import missing
from harness.h2peer import H2Origin, H2Peer
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

PORT, PORT2 = 8080, 8081
UPSTREAM, DOWNSTREAM, STREAM, HEAD, QUEUE = 0.4, 0.8, 2.0, 0.5, 0.3
SLOW = 500
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WAYS = ["from the local application", "from outside the mesh"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    env = {f"WEFT_{k}": f"{int(v * 1000)}ms" for k, v in (("IDLE_UPSTREAM", UPSTREAM), ("IDLE_DOWNSTREAM", DOWNSTREAM),
                                                                 ("STREAM_IDLE", STREAM), ("HEAD_TIMEOUT", HEAD), ("QUEUE_TIMEOUT", QUEUE))}
    with Net() as net, FileMesh(net, tmp_path_factory.mktemp("idle")) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{PORT}/http,{PORT2}/http2", env=env)
        m.web = m.workload(net.host("b"), "web", env=env)
        m.stranger = net.host("c")
        m.vip = m.service("orders", {PORT: (PORT, "http"), PORT2: (PORT2, "http2")}, [m.orders])[0]
        m.start()
        yield m


def client(mesh, way):
    local = way == WAYS[0]
    return Peer(mesh.web.host.connect(mesh.vip, PORT) if local else mesh.stranger.connect(mesh.orders.host.ip4, PORT), 10)


def first(mesh, way):
    return (mesh.web, "outbound") if way == WAYS[0] else (mesh.orders, "inbound")


def serve(p):
    with contextlib.suppress(OSError):
        while m := p.read():
            if b"/slow" in m.line:
                time.sleep(1.5 * max(UPSTREAM, DOWNSTREAM))
            p.send(OK)


def kept(w):
    return sum(len(place["connections"]) for place in w.admin("/connections")["pool"])


def test_a_kept_connection_without_a_request_is_closed_towards_the_application_and_over_the_hop(mesh):
    with Origin(mesh.orders.host, PORT, serve) as o:
        for _ in range(2):
            with client(mesh, WAYS[0]) as c:
                c.send(GET)
                assert c.read().body == b"ok"
            n, asked = len(o.seen), time.monotonic()
            assert kept(mesh.web) == 1 and kept(mesh.orders) == 1
            wait_until(lambda: kept(mesh.web) == 0 and kept(mesh.orders) == 0, 5, "nothing is kept any more")
            assert time.monotonic() - asked >= UPSTREAM
            wait_until(lambda: o.seen[-1].at_end, 5, "the application's connection has ended in order")
        assert len(o.seen) == n == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_asks_nothing_is_closed_in_order_and_counted_as_idle(mesh, way):
    w, direction = first(mesh, way)
    count = lambda: w.metric("weft_connections_closed_total", direction=direction, reason="idle")  # noqa: E731
    before = count()
    with Origin(mesh.orders.host, PORT, serve), client(mesh, way) as c:
        c.send(GET)
        assert c.read().body == b"ok"
        answered = time.monotonic()
        assert c.rest() == b""
        assert DOWNSTREAM - 0.1 <= time.monotonic() - answered < 2 * DOWNSTREAM + 1
    wait_until(lambda: count() == before + 1, 5, "the count")


@pytest.mark.parametrize("way", WAYS)
def test_an_exchange_is_not_idle_however_long_its_answer_takes(mesh, way):
    with Origin(mesh.orders.host, PORT, serve), client(mesh, way) as c:
        c.send(GET.replace(b" / ", b" /slow "))
        assert c.read().body == b"ok"


def test_an_exchange_on_which_nothing_moves_is_ended_with_a_504_or_for_who_owes_its_request_with_a_cut(mesh):
    """Four at once: from either side, an application that does not answer and a client that does not go on."""
    def silent(p):
        with contextlib.suppress(OSError):
            p.rest()

    with Origin(mesh.orders.host, PORT, silent), contextlib.ExitStack() as stack:
        waiting = {way: stack.enter_context(client(mesh, way)) for way in WAYS}
        owing = {way: stack.enter_context(client(mesh, way)) for way in WAYS}
        began = time.monotonic()
        for c in waiting.values():
            c.send(GET)
        for c in owing.values():
            c.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        for way, c in waiting.items():
            m = c.read()
            assert m.status == 504 and m.get(b"x-weft-error")[0].split(b";")[1] == b"timeout", (way, m)
        assert STREAM - 0.1 <= time.monotonic() - began < 10
        for way, c in owing.items():
            with contextlib.suppress(ConnectionResetError):
                m = c.read()
                assert m is None or m.status == 504, (way, m)
                assert c.rest() == b""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: ", GET + b"GET / HT"], ids=["the first head", "a later head"])
def test_a_head_that_does_not_come_in_time_is_408_closed_and_counted(mesh, way, data):
    w, direction = first(mesh, way)
    count = lambda: w.metric("weft_requests_total", direction=direction, status="408", reason="head_timeout")  # noqa: E731
    before = count()
    with Origin(mesh.orders.host, PORT, serve) as o, client(mesh, way) as c:
        began = time.monotonic()
        c.send(data)
        got = []
        while m := c.read():
            got.append(m)
        assert [m.status for m in got] == [200] * data.count(GET) + [408] and got[-1].get(b"connection") == [b"close"]
        assert HEAD - 0.1 <= time.monotonic() - began < 5
        assert o.received().count(b"GET ") == data.count(GET)
    assert count() == before + 1


@pytest.mark.parametrize("way", WAYS)
def test_a_head_that_keeps_coming_is_408_all_the_same(mesh, way):
    """A byte now and then is no progress: the time runs from the first one."""
    with Origin(mesh.orders.host, PORT, serve), client(mesh, way) as c:
        c.sock.settimeout(0.1)
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
        began, m = time.monotonic(), None
        while m is None and time.monotonic() - began < 5:
            with contextlib.suppress(TimeoutError):
                m = c.read()
            if m is None:
                c.send(b"x")
        assert m.status == 408 and time.monotonic() - began >= HEAD - 0.1


@pytest.mark.parametrize("way", WAYS)
def test_five_hundred_heads_that_do_not_end_are_all_408_in_time_and_nobody_waits_for_them(mesh, way):
    """RES-01. One in two sends a byte now and then."""
    w, direction = first(mesh, way)
    count = lambda: w.metric("weft_requests_total", direction=direction, reason="head_timeout")  # noqa: E731
    before, slow, took = count(), [], []
    with Origin(mesh.orders.host, PORT, serve) as o, contextlib.ExitStack() as stack:
        good = stack.enter_context(client(mesh, way))
        for i in range(SLOW):
            slow.append(stack.enter_context(client(mesh, way)).send(b"GET /slow HTTP/1.1\r\nHost: x\r\nA: "))
        end = time.monotonic() + 10 * HEAD
        while count() < before + SLOW:
            assert time.monotonic() < end, f"{count() - before} of {SLOW} have ended"
            for c in slow[::2]:
                with contextlib.suppress(OSError):
                    c.send(b"x")
            began = time.monotonic()
            good.send(GET)
            assert good.read().status == 200
            took.append(time.monotonic() - began)
        assert all(c.until(b" ") == b"HTTP/1.1 " and c.until(b" ") == b"408 " for c in slow)
        assert b"/slow" not in o.received() and max(took) < HEAD, took


def test_who_waits_for_an_origin_that_takes_no_stream_is_told_in_time(mesh):
    """SETTINGS_MAX_CONCURRENT_STREAMS of 0 is legal, and may change: then it is served."""
    late = lambda: mesh.orders.metric("weft_requests_total", reason="queue_timeout")  # noqa: E731
    with H2Origin(mesh.orders.host, PORT2, lambda c, sid: c.respond(sid, body=c.body[sid]), settings={3: 0}) as o, \
            H2Peer(mesh.stranger.connect(mesh.orders.host.ip4, PORT2)) as c:
        before, began = late(), time.monotonic()
        sids = [c.request("POST", body=b"x") for _ in range(20)]
        assert [c.answer(s)[0] for s in sids] == [503] * 20
        assert all("inbound;queue_timeout" in c.head(s)["x-weft-error"] for s in sids)
        assert late() - before == 20 and time.monotonic() - began >= QUEUE
        assert not any(s.heads for s in o.seen), "no stream was opened"
        assert all(p["waiting"] == 0 for p in mesh.orders.admin("/connections")["pool"])
        for s in o.seen:
            s.c.update_settings({3: 100})
            s.flush()
        assert c.answer(c.request("POST", body=b"y")) == (200, b"y")

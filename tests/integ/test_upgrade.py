# SPDX-License-Identifier: Apache-2.0
"""Upgrades (RFC 9110 7.8) over the hop: an application that switches protocols speaks with its client as without a mesh."""

import hashlib
import os
import secrets
import threading

import pytest
from conftest import missing
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

PORT = 8080
ASK = (b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
       b"Sec-WebSocket-Version: 13\r\n\r\n")
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path_factory.mktemp("upgrade")) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{PORT}/http")
        m.web = m.workload(net.host("b"), "web")
        m.vip = m.service("orders", {PORT: (PORT, "http")}, [m.orders])[0]
        m.start()
        yield m


def dial(mesh):
    return Peer(mesh.web.host.connect(mesh.vip, PORT), 10)


def names(fields):
    return {n.lower(): v for n, v in fields}


def test_a_switched_connection_carries_bytes_both_ways_until_both_have_ended(mesh):
    asked = []

    def behave(p):
        asked.append(p.head())
        p.send(SWITCH + b"first words")  # in one segment
        assert p.exactly(5) == b"hello"
        p.send(b"world").fin()
        assert p.rest() == b"more"

    with Origin(mesh.orders.host, PORT, behave) as o, dial(mesh) as c:
        line, fields = c.send(ASK).head()
        assert line == b"HTTP/1.1 101 Switching Protocols"
        f = names(fields)
        assert f[b"upgrade"] == b"websocket" and f[b"connection"].lower() == b"upgrade"
        assert (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in fields
        assert c.exactly(11) == b"first words"
        c.send(b"hello")
        assert c.rest() == b"world"
        c.send(b"more").fin()
        o.threads[1].join(5)
        assert not o.threads[1].is_alive()
    assert not o.errors
    line, fields = asked[0]
    assert line == b"GET /chat HTTP/1.1"
    f = names(fields)
    assert f[b"upgrade"] == b"websocket" and f[b"connection"].lower() == b"upgrade"
    assert (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==") in fields and b"content-length" not in f and b"transfer-encoding" not in f


def test_volume_over_a_switched_connection_is_intact_both_ways_at_once(mesh):
    block = secrets.token_bytes(1 << 20)
    n = 16
    want = hashlib.sha256(block * n).hexdigest()
    got = {}

    def pump(p, who):
        t = threading.Thread(target=lambda: ([p.send(block) for _ in range(n)], p.fin()))
        t.start()
        h = hashlib.sha256()
        while data := p.some():
            h.update(data)
        got[who] = h.hexdigest()
        t.join()

    def behave(p):
        p.head()
        p.send(SWITCH)
        pump(p, "application")

    with Origin(mesh.orders.host, PORT, behave, keep=False), dial(mesh) as c:
        c.send(ASK).head()
        pump(c, "client")
        wait_until(lambda: len(got) == 2, 10, "both sums")
    assert got == {"application": want, "client": want}


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno",
])
def test_an_application_that_does_not_switch_answers_as_always_and_the_connection_goes_on(mesh, answer):
    def behave(p):
        while p.head():
            p.send(answer)

    with Origin(mesh.orders.host, PORT, behave), dial(mesh) as c:
        for _ in range(2):
            m = c.send(ASK).read()
            assert m.line == answer.split(b"\r\n")[0] and m.body == b"no"
            if m.status == 426:
                assert m.get(b"upgrade") == [b"websocket"]


def test_a_reset_of_a_switched_connection_is_passed_on(mesh):
    def behave(p):
        p.head()
        p.send(SWITCH)
        p.exactly(1)
        p.reset()

    with Origin(mesh.orders.host, PORT, behave), dial(mesh) as c:
        c.send(ASK).head()
        with pytest.raises(ConnectionResetError):
            c.send(b"x")
            c.rest()


def test_a_client_that_leaves_a_switched_connection_ends_it_at_the_application(mesh):
    ended = threading.Event()

    def behave(p):
        p.head()
        p.send(SWITCH)
        try:
            p.rest()
        except ConnectionResetError:
            pass
        ended.set()

    with Origin(mesh.orders.host, PORT, behave):
        c = dial(mesh)
        c.send(ASK).head()
        c.reset()
        assert ended.wait(5)


def test_an_upgrade_to_http_2_is_not_forwarded_and_its_settings_neither(mesh):
    q = (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
    got = []

    def behave(p):
        while m := p.read():
            got.append(m)
            p.send(OK)

    with Origin(mesh.orders.host, PORT, behave), dial(mesh) as c:
        assert c.send(q).read().status == 200
        assert not {b"upgrade", b"http2-settings"} & set(names(got[0].fields))
        assert c.send(q).read().status == 200


def test_a_switch_that_nobody_asked_for_is_an_error_of_the_application(mesh):
    def behave(p):
        p.head()
        p.send(SWITCH)
        p.rest()

    with Origin(mesh.orders.host, PORT, behave), dial(mesh) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        m = c.read()
        assert m.status == 502

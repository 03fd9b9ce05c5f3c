# SPDX-License-Identifier: Apache-2.0
"""WebSockets and other upgrades through the mesh: over HTTP/1.1, from and to HTTP/2 (extended CONNECT, RFC 8441), refused, ignored, and
over fifty changes of configuration."""

import base64
import hashlib
import json
import os
import re
import secrets
import struct

import pytest
from conftest import missing
from harness.h2peer import H2Origin, H2Peer
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh, Mesh
from harness.netns import Net, wait_until

PORT, HTTP, HTTP2 = 7000, 7001, 7002
ENABLE_CONNECT = 8
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key):
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def frame(data, mask=True, op=2, fin=True):
    """A frame of RFC 6455 5.2, masked as a client's."""
    head = bytes([(0x80 if fin else 0) | op])
    m = 0x80 if mask else 0
    n = len(data)
    head += bytes([m | n]) if n < 126 else bytes([m | 126]) + struct.pack(">H", n) if n < 65536 else bytes([m | 127]) + struct.pack(">Q", n)
    if not mask:
        return head + data
    key = secrets.token_bytes(4)
    whole = (key * (n // 4 + 1))[:n]
    return head + key + (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(n, "big")


def read_frame(exactly):
    """(op, data) by exactly(n) -> n bytes."""
    a, b = exactly(2)
    n = b & 0x7F
    n = struct.unpack(">H", exactly(2))[0] if n == 126 else struct.unpack(">Q", exactly(8))[0] if n == 127 else n
    key = exactly(4) if b & 0x80 else bytes(4)
    data = exactly(n)
    whole = (key * (n // 4 + 1))[:n]
    return a & 15, (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(n, "big")


def echo_server(p, extra=b""):
    """A WebSocket server as RFC 6455 wants it: checks the handshake, echoes messages, answers Close."""
    m = p.read()
    if m is None:
        return
    p.requests = getattr(p, "requests", []) + [m]
    (key,), (version,) = m.get(b"sec-websocket-key"), m.get(b"sec-websocket-version")
    assert m.line.startswith(b"GET ") and m.line.endswith(b" HTTP/1.1") and version == b"13" and len(base64.b64decode(key)) == 16
    assert [v.lower() for v in m.get(b"upgrade")] == [b"websocket"] and b"upgrade" in m.get(b"connection")[0].lower()
    p.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
           + accept_of(key.decode()).encode() + b"\r\n" + extra + b"\r\n")
    while True:
        op, data = read_frame(p.exactly)
        p.send(frame(data, mask=False, op=op))
        if op == 8:
            return


def open_websocket(p, path="/chat", fields=b"", early=b""):
    """The client's handshake, checked."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    p.send(f"GET {path} HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
           f"Sec-WebSocket-Version: 13\r\n".encode() + fields + b"\r\n" + early)
    line, got = p.head()
    low = {n.lower(): v for n, v in got}
    assert line == b"HTTP/1.1 101 Switching Protocols", (line, got)
    assert low[b"upgrade"] == b"websocket" and low[b"connection"].lower() == b"upgrade"
    assert low[b"sec-websocket-accept"] == accept_of(key).encode()
    return got


class Ground:
    def __init__(self, net, tmp):
        self.mesh = m = FileMesh(net, tmp)
        self.calc = m.workload(net.host("calc"), "calc", ports=f"{PORT},{HTTP}/http,{HTTP2}/http2")
        self.web = m.workload(net.host("web"), "web")
        self.vip = m.service("calc", {PORT: (PORT, None), HTTP: (HTTP, "http"), HTTP2: (HTTP2, "http2")}, [self.calc])[0]
        m.start()

    def origin(self, behave, port=PORT):
        return Origin(self.calc.host, port, behave)

    def client(self, port=PORT):
        return Peer(self.web.host.connect(self.vip, port))

    def client2(self, port=PORT):
        c = H2Peer(self.web.host.connect(self.vip, port))
        c.until(lambda: c.settings is not None)
        assert c.settings.get(ENABLE_CONNECT) == 1, "extended CONNECT is offered"
        return c


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net:
        g = Ground(net, tmp_path_factory.mktemp("ws"))
        with g.mesh:
            yield g


@pytest.mark.parametrize("port", [PORT, HTTP])
def test_a_websocket_opens_and_echoes_messages_of_every_size(ground, port):
    with ground.origin(echo_server, port) as o, ground.client(port) as c:
        open_websocket(c, fields=b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n")
        for n in (0, 1, 125, 126, 65535, 65536, 1_000_000):
            data = os.urandom(n)
            c.send(frame(data))
            assert read_frame(c.exactly) == (2, data)
        c.send(frame(b"\x03\xe8bye", op=8))
        assert read_frame(c.exactly) == (8, b"\x03\xe8bye")
        assert c.rest() == b""
        m = o.seen[0].requests[0]
        assert m.get(b"sec-websocket-protocol") == [b"chat, superchat"] and not [n for n, _ in m.fields if n.lower().startswith(b"x-weft")]
    assert not o.errors, o.errors


def test_bytes_behind_the_handshake_are_not_lost(ground):
    with ground.origin(echo_server), ground.client() as c:
        open_websocket(c, early=frame(b"early"))
        assert read_frame(c.exactly) == (2, b"early")


def test_each_side_ends_for_itself(ground):
    """Any protocol may follow an upgrade: after the FIN of one side the other's bytes still come."""
    def half(p):
        p.until(b"\r\n\r\n")
        p.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n")
        if p.until(b"\n") == b"you first\n":
            assert p.rest() == b""
            p.send(b"all " * 100_000)
        else:
            p.send(b"mine ends").fin()
            p.ends = p.rest()

    ask = b"GET / HTTP/1.1\r\nHost: calc\r\nUpgrade: raw\r\nConnection: upgrade\r\n\r\n"
    with ground.origin(half) as o:
        with ground.client() as c:
            c.send(ask).until(b"\r\n\r\n")
            c.send(b"you first\n").fin()
            assert c.rest() == b"all " * 100_000
        with ground.client() as c:
            c.send(ask).until(b"\r\n\r\n")
            c.send(b"me first\n")
            assert c.rest() == b"mine ends"
            c.send(b"and ").send(b"yours " * 100_000).fin()
            wait_until(lambda: hasattr(o.seen[1], "ends"), 5, "the origin's end")
            assert o.seen[1].ends == b"and " + b"yours " * 100_000
    assert not o.errors, o.errors


def test_a_client_that_is_cut_off_cuts_the_application_off_and_the_other_way_round(ground):
    def waiting(p):
        p.until(b"\r\n\r\n")
        p.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n")
        if p.until(b"\n") == b"reset\n":
            p.reset()
            return
        with pytest.raises(ConnectionError):
            p.rest()
        p.gone = True

    ask = b"GET / HTTP/1.1\r\nHost: calc\r\nUpgrade: raw\r\nConnection: upgrade\r\n\r\n"
    with ground.origin(waiting) as o:
        with ground.client() as c:
            c.send(ask).until(b"\r\n\r\n")
            c.send(b"reset\n")
            with pytest.raises(ConnectionError):
                c.rest()
        c = ground.client()
        c.send(ask).until(b"\r\n\r\n")
        c.send(b"wait\n")
        c.reset()
        wait_until(lambda: hasattr(o.seen[1], "gone"), 5, "the application's connection to be cut")


@pytest.mark.parametrize("answer, body", [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", b"hello"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", b""),
    (b"HTTP/1.1 303 See Other\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", b""),
])
def test_an_upgrade_that_is_refused_or_ignored_is_an_ordinary_exchange_and_the_connection_goes_on(ground, answer, body):
    def no(p):
        while (m := p.read()) is not None:
            p.requests = getattr(p, "requests", []) + [m]
            p.send(answer)

    with ground.origin(no) as o, ground.client() as c:
        for _ in range(2):
            c.send(b"GET /x HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            m = c.read()
            want, *rows = answer.split(b"\r\n\r\n")[0].split(b"\r\n")
            assert m.line == want and m.body == body
            assert sorted((n.lower(), v.lower()) for n, v in m.fields) == sorted(tuple(x.lower() for x in r.split(b": ")) for r in rows)
        c.send(b"GET /plain HTTP/1.1\r\nHost: calc\r\n\r\n")
        assert c.read().body == body
        asked = [m for p in o.seen for m in p.requests]
        assert [m.get(b"upgrade") for m in asked] == [[b"websocket"], [b"websocket"], []]


@pytest.mark.parametrize("request_, body", [
    (b"POST /x HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    (b"POST /x HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"GET /x HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    (b"OPTIONS /x HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b""),
    (b"DELETE /x HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b""),
    (b"GET /x HTTP/1.1\r\nHost: calc\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n", b""),
    (b"GET /x HTTP/1.1\r\nHost: calc\r\nUpgrade: H2C\r\nConnection: Upgrade\r\n\r\n", b""),
    (b"GET /x HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\n\r\n", b""),
])
def test_an_upgrade_that_may_not_pass_is_left_out_and_the_request_goes_on(ground, request_, body):
    def plain(p):
        while (m := p.read()) is not None:
            p.requests = getattr(p, "requests", []) + [m]
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with ground.origin(plain) as o, ground.client() as c:
        for _ in range(2):
            c.send(request_)
            m = c.read()
            assert m.status == 200 and m.body == b"ok"
        for m in [m for p in o.seen for m in p.requests]:
            assert m.line == request_.split(b"\r\n")[0] and m.body == body
            assert not m.get(b"upgrade") and not m.get(b"http2-settings") and b"upgrade" not in b",".join(m.get(b"connection")).lower()


def test_of_an_offer_with_h2c_the_rest_is_passed_on(ground):
    def raw(p):
        p.asked = p.until(b"\r\n\r\n")
        p.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw/2\r\nConnection: Upgrade\r\n\r\n")
        p.send(p.rest())

    with ground.origin(raw) as o, ground.client() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: calc\r\nUpgrade: h2c, raw/1, raw/2\r\nConnection: Upgrade\r\n\r\n")
        line, fields = c.head()
        assert line.startswith(b"HTTP/1.1 101") and dict(fields)[b"Upgrade"] == b"raw/2", "what the application chose"
        c.send(b"abc").fin()
        assert c.rest() == b"abc" and b"raw/1, raw/2\r\n" in o.seen[0].asked and b"h2c" not in o.seen[0].asked


def test_a_101_that_nobody_asked_for_is_a_502(ground):
    def odd(p):
        p.until(b"\r\n\r\n")
        p.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        p.rest()

    with ground.origin(odd), ground.client() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: calc\r\n\r\n")
        assert c.read().status == 502


# --- with HTTP/2 at one end ---

def connect2(c, path="/chat", protocol="websocket", fields=(("sec-websocket-version", "13"),)):
    return c.request("CONNECT", path, fields, end=False, pseudo=[(":protocol", protocol)])


class Bytes:
    """exactly(n) over the body of a stream."""

    def __init__(self, c, sid):
        self.c, self.sid, self.at = c, sid, 0

    def __call__(self, n):
        self.c.until(lambda: len(self.c.body[self.sid]) >= self.at + n)
        self.at += n
        return bytes(self.c.body[self.sid][self.at - n:self.at])


@pytest.mark.parametrize("port", [PORT, HTTP])
def test_extended_connect_reaches_a_websocket_server_of_http_1(ground, port):
    with ground.origin(echo_server, port) as o, ground.client2(port) as c:
        sids = [connect2(c) for _ in range(3)]
        for i, sid in enumerate(sids):
            c.until(lambda: sid in c.heads or sid in c.resets)
            assert sid not in c.resets and c.head(sid)[":status"] == "200" and not c.get(sid, "sec-websocket-accept")
            for data in (b"hello %d" % i, os.urandom(200_000)):
                c.send(sid, frame(data))
                exactly = Bytes(c, sid)
                assert read_frame(exactly) == (2, data)
                c.body[sid].clear()
        c.send(sids[0], frame(b"", op=8), end=True)
        c.until(lambda: sids[0] in c.ended)
        c.reset(sids[1], 8)
        c.send(sids[2], frame(b"still"))
        assert read_frame(Bytes(c, sids[2])) == (2, b"still")
        assert len(o.seen) == 3
        assert c.get(sids[0], "upgrade") == [] and c.get(sids[0], "connection") == []


def test_a_server_that_gives_a_wrong_proof_is_not_taken_for_a_websocket(ground):
    def wrong(p):
        p.until(b"\r\n\r\n")
        p.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + b"A" * 27 + b"=\r\n\r\n")
        p.rest()

    with ground.origin(wrong), ground.client2() as c:
        sid = connect2(c)
        assert c.answer(sid)[0] == 502


@pytest.mark.parametrize("answer, status", [
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403), (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 501)])
def test_extended_connect_that_the_application_refuses_or_ignores_is_no_tunnel(ground, answer, status):
    def no(p):
        while p.until(b"\r\n\r\n"):
            p.send(answer)

    with ground.origin(no), ground.client2() as c:
        assert c.answer(connect2(c))[0] == status


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "a b", "websocket\r\nx: y", "web,h2c"])
def test_a_protocol_that_may_not_pass_is_refused_and_nothing_reaches_the_application(ground, protocol):
    with ground.origin(lambda p: p.rest()) as o, ground.client2() as c:
        c.c.config.normalize_outbound_headers = False
        sid = connect2(c, protocol=protocol)
        c.until(lambda: sid in c.resets)
        assert c.resets[sid] == 1 and not o.received()


def test_a_websocket_client_of_http_1_reaches_an_application_of_http_2(ground):
    def tunnel(c, sid):
        head = dict(c.heads[sid])
        assert (head[":method"], head[":protocol"], head[":path"]) == ("CONNECT", "websocket", "/chat"), head
        assert "sec-websocket-key" not in head and "upgrade" not in head
        c.respond(sid, 200, [("sec-websocket-protocol", "chat")], end=False)
        exactly = Bytes(c, sid)
        for _ in range(2):
            c.send(sid, frame(read_frame(exactly)[1], mask=False))
        c.until(lambda: sid in c.ended)
        c.c.end_stream(sid)
        c.flush()

    with H2Origin(ground.calc.host, HTTP2, tunnel, when="head", settings={ENABLE_CONNECT: 1}) as o, ground.client(HTTP2) as c:
        o.lenient = True
        fields = open_websocket(c)
        assert (b"sec-websocket-protocol", b"chat") in [(n.lower(), v) for n, v in fields]
        for data in (b"hello", os.urandom(300_000)):
            c.send(frame(data))
            assert read_frame(c.exactly) == (2, data)
        c.fin()
        assert c.rest() == b""


def test_an_upgrade_to_an_application_of_http_2_that_takes_none_is_left_out_and_extended_connect_is_a_501(ground):
    with H2Origin(ground.calc.host, HTTP2, lambda c, sid: c.respond(sid, body=b"plain")) as o:
        with ground.client(HTTP2) as c:
            for _ in range(2):
                c.send(b"GET /x HTTP/1.1\r\nHost: calc\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                m = c.read()
                assert m.status == 200 and m.body == b"plain"
        assert [dict(s.heads[i])[":method"] for s, i in o.streams()] == ["GET", "GET"]
        with ground.client2(HTTP2) as c:
            sid = connect2(c)
            assert c.answer(sid)[0] == 501 and "no_upgrade" in c.get(sid, "x-weft-error")[0]
        assert len(o.streams()) == 2


# --- while the configuration changes ---

def echo_tunnel(c, sid):
    """An application of HTTP/2: echoes two frames and more, until the client has had enough."""
    c.respond(sid, 200, end=False)
    exactly = Bytes(c, sid)
    while sid not in c.resets:
        c.send(sid, frame(read_frame(exactly)[1], mask=False))


def test_websockets_in_every_pairing_survive_fifty_changes_of_configuration(net, tmp_path):
    """HTTP/1.1 at both ends, extended CONNECT to an application of HTTP/1.1, HTTP/1.1 to one of HTTP/2."""
    with Mesh(net, tmp_path) as mesh:
        mesh.start_control()
        calc = mesh.workload(net.host("calc"), "calc-1", sa="calc", labels={"app": "calc"}, ports="7001/http,7002/http2")
        web = mesh.workload(net.host("web"), "web-1", sa="web")
        calc.start(ready=False)
        web.start(ready=False)
        vip = mesh.service("calc", {80: (7001, "http"), 81: (7002, "http2")}, {"app": "calc"})[0]
        calc.wait_ready()
        web.wait_ready()
        swaps = lambda w: w.log().count("snapshot_swapped")  # noqa: E731
        with Origin(calc.host, 7001, echo_server) as o, H2Origin(calc.host, 7002, echo_tunnel, when="head", settings={ENABLE_CONNECT: 1}) as o2, \
                Peer(web.host.connect(vip, 80)) as c, H2Peer(web.host.connect(vip, 80)) as extended, Peer(web.host.connect(vip, 81)) as mixed:
            open_websocket(c)
            open_websocket(mixed)
            extended.until(lambda: extended.settings is not None)
            sid = connect2(extended)
            extended.until(lambda: sid in extended.heads)
            heard = Bytes(extended, sid)

            def turn(data):
                for p in (c, mixed):
                    p.send(frame(data))
                    assert read_frame(p.exactly) == (2, data)
                extended.send(sid, frame(data))
                assert read_frame(heard) == (2, data)

            before = swaps(web)
            for i in range(50):
                mesh.apply(json.dumps({
                    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "calc", "namespace": "shop"},
                    "spec": {"selector": {"app": "calc"}, "ports": [{"name": "p80", "port": 80, "targetPort": 7001, "appProtocol": "http"},
                                                                    {"name": "p81", "port": 81, "targetPort": 7002, "appProtocol": "http2"},
                                                                    {"name": "more", "port": 1000 + i, "targetPort": 7001}]}}))
                turn(b"turn %d" % i)
            wait_until(lambda: swaps(web) - before >= 50, 10, "fifty configurations in the client's sidecar")
            turn(b"after all")
            assert len(o.seen) == 2 and len(o2.streams()) == 1 and not re.search(r"worker_died", web.log() + calc.log())

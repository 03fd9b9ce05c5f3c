# SPDX-License-Identifier: Apache-2.0
"""The corpus of legal HTTP/1 (harness/http1_corpus.py), each message sent four ways: without a mesh, through two sidecars, from outside
the mesh through the sidecar of the application, and to an application outside it through the sidecar of the client. What the application received and what its client received is the same, byte by byte but for
docs/hop.md's table of differences (harness/same.py)."""

import collections
import contextlib
import os
import threading

import pytest
from conftest import missing
from harness.http1 import Message, Origin, Peer
from harness.http1_corpus import ENTRIES, OK, Entry
from harness.mesh import FileMesh
from harness.netns import Net
from harness.same import documented, options_of, told

PORT = 8080
PROBE = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"
PROBED = b"HTTP/1.1 200 Probed\r\nContent-Length: 6\r\n\r\nprobed"


def ends(asked, data):
    """Does a server end the connection behind this answer?"""
    last = data[data.rindex(b"HTTP/1."):]
    head = last.split(b"\r\n\r\n")[0].lower()
    framed = b"content-length:" in head or b"chunked" in head or last.split(b" ")[1][:3] in (b"204", b"304") or asked.line.startswith(b"HEAD ")
    options = options_of([tuple(r.split(b": ", 1)) for r in head.split(b"\r\n")[1:] if b": " in r])
    return not framed or told(asked).framing["close"] or b"close" in options or (last.startswith(b"HTTP/1.0") and b"keep-alive" not in options)


class App:
    """Answers `answer` to what it is asked, keeps what that was, and serves a probe behind it."""

    def __init__(self, host):
        self.requests, self.answer, self.tunnel = [], OK, None
        self.origin = Origin(host, PORT, self.serve, keep=False)

    def serve(self, p):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while m := p.read():
                probe = m.line.startswith(b"GET /probe ")
                self.requests += [] if probe else [m]
                if m.line.startswith(b"CONNECT ") and self.tunnel:
                    self.tunnel(p)
                    return
                data = PROBED if probe else self.answer
                if data == OK and m.line.startswith(b"HEAD "):
                    data = OK[:-5]
                p.send(data)
                if ends(m, data):
                    return


# app: whom the requests reach; client: who sends them, to `address`; hop: over two sidecars
Way = collections.namedtuple("Way", "app client address hop")


def run(way, entry):
    """(requests that arrived, answers that came, what came of a request behind them)."""
    way.app.requests, way.app.answer = [], entry.answer
    method = entry.ask[0].lstrip().split(b" ")[0].decode()
    answers = []
    with Peer(way.client.connect(way.address, PORT), 10) as c:
        c.send(*entry.ask, pause=0.02)
        while not answers or answers[-1].status < 200:
            answers.append(c.read(answer_to=method))
        try:
            c.send(PROBE)
            after = c.read()
        except (ConnectionResetError, BrokenPipeError):
            after = None
    assert not way.app.origin.errors, way.app.origin.errors
    return way.app.requests, answers, after


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path_factory.mktemp("corpus")) as m:
        orders = m.workload(net.host("a"), "orders", ports=f"{PORT}/http")
        web = m.workload(net.host("b"), "web")
        alone, client = net.host("c"), net.host("d")
        vip = m.service("orders", {PORT: (PORT, "http")}, [orders])[0]
        plain = m.service("plain", {PORT: (PORT, "http")}, [(alone.ip4, None)])[0]
        m.start()
        direct, app = App(alone), App(orders.host)
        with direct.origin, app.origin:
            yield {"direct": Way(direct, client, alone.ip4, False),
                   "over two sidecars": Way(app, web.host, vip, True),
                   "from outside the mesh": Way(app, client, orders.host.ip4, False),
                   "to outside the mesh": Way(direct, web.host, plain, False)}


@pytest.mark.parametrize("way", ["over two sidecars", "from outside the mesh", "to outside the mesh"])
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.claim)
def test_a_message_is_the_same(ways, entry, way):
    w = ways[way]
    # An application outside the mesh is told nothing: its connection is the sidecar's, from the client's own address.
    client = w.client.ip4.encode() if way != "to outside the mesh" else None
    (asked, answers, after), (asked2, answers2, after2) = run(ways["direct"], entry), run(w, entry)
    assert len(asked) == 1 and [told(m) for m in asked2] == [documented(m, client, hop=w.hop) for m in asked]
    assert [told(m) for m in answers2] == [documented(m, asked=asked[0]) for m in answers]
    assert (after is None) == (after2 is None), (after, after2)
    assert after2 is None or after2.body == b"probed"


@pytest.mark.parametrize("way", ["over two sidecars", "from outside the mesh", "to outside the mesh"])
def test_everything_that_keeps_its_connection_pipelined_on_one_is_the_same_in_order(ways, way):
    """One write, one connection: where a message ends is understood alike by all."""
    entries = [e for e in ENTRIES if e.answer == OK and len(e.ask) == 1 and b"close" not in e.ask[0].lower() and b"HTTP/1.0" not in e.ask[0]]
    assert len(entries) > 90
    seen = []
    for w in (ways["direct"], ways[way]):
        w.app.requests, w.app.answer = [], OK
        with Peer(w.client.connect(w.address, PORT), 20) as c:
            sender = threading.Thread(target=lambda c=c: c.send(b"".join(e.ask[0] for e in entries)))
            sender.start()
            answers = [c.read(answer_to=e.ask[0].lstrip().split(b" ")[0].decode()) for e in entries]
            sender.join()
        seen.append((w.app.requests, answers))
    (asked, answers), (asked2, answers2) = seen
    client = ways[way].client.ip4.encode() if way != "to outside the mesh" else None
    assert [told(m) for m in asked2] == [documented(m, client, hop=ways[way].hop) for m in asked]
    assert [told(m) for m in answers2] == [documented(m) for m in answers] and len(answers) == len(entries)


CONNECT = b"CONNECT orders:1234 HTTP/1.1\r\nHost: orders:1234\r\nX-MiXeD: 1\r\nProxy-Authorization: Basic eHg=\r\n\r\n"


@pytest.mark.parametrize("early", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["waits", "speaks early"])
@pytest.mark.parametrize("way", ["over two sidecars", "from outside the mesh"])
def test_a_connect_is_the_same_and_then_bytes_both_ways_until_each_side_has_ended(ways, way, early):
    """What is sent behind CONNECT before its answer is the tunnel's, never a request."""
    seen = []
    for w in (ways["direct"], ways[way]):
        got = {}

        def tunnel(p, got=got):
            p.send(b"HTTP/1.1 200 Connection established\r\nX-MiXeD: 1\r\n\r\nserver first ")
            got["up"] = p.rest()
            p.send(b"bye")

        w.app.requests, w.app.tunnel = [], tunnel
        try:
            with Peer(w.client.connect(w.address, PORT), 10) as c:
                c.send(CONNECT + early)
                got["answer"] = Message(*c.head(), "none", b"", [])
                c.send(b"\0client\r\n\r\n").fin()
                got["down"] = c.rest()
        finally:
            w.app.tunnel = None
        got["head"], = w.app.requests
        seen.append(got)
    a, b = seen
    assert told(b["head"]) == documented(a["head"], ways[way].client.ip4.encode())
    assert told(b["answer"]) == documented(a["answer"])
    assert a["up"] == b["up"] == early + b"\0client\r\n\r\n" and a["down"] == b["down"] == b"server first bye"


@pytest.mark.parametrize("status", [b"403 No", b"407 Proxy Authentication Required", b"502 Bad Gateway"])
@pytest.mark.parametrize("way", ["over two sidecars", "from outside the mesh"])
def test_a_connect_that_is_refused_closes_and_what_was_sent_early_is_nobodys_request(ways, way, status):
    w = ways[way]
    w.app.requests, w.app.answer = [], b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno"
    with Peer(w.client.connect(w.address, PORT), 10) as c:
        c.send(CONNECT + PROBE.replace(b"probe", b"early"))
        m = c.read()
        assert m.line == b"HTTP/1.1 " + status and m.body == b"no" and m.get(b"connection") == [b"close"]
        assert c.rest() == b""
    assert [m.line for m in w.app.requests] == [b"CONNECT orders:1234 HTTP/1.1"] and not w.app.origin.errors


SPOOFED = (b"X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1;host=\"x\r\nX-Forwarded-For: 10.0.0.1, \"\r\nForwarded: for=\"127.0.0.1\\\r\n"
           b"forwarded: for=9.9.9.9\r\n")


@pytest.mark.parametrize("way", ["over two sidecars", "from outside the mesh"])
def test_whatever_a_client_says_of_itself_the_last_address_is_its_own(ways, way):
    """Also where an open quote would swallow what is appended: such a line is left out."""
    w = ways[way]
    (m,), _, _ = run(w, Entry("spoofed", [b"GET / HTTP/1.1\r\nHost: x\r\n" + SPOOFED + b"\r\n"], OK))
    me = w.client.ip4.encode()
    assert m.get(b"x-forwarded-for") == [b"127.0.0.1, " + me]
    assert m.get(b"forwarded") == [b"for=9.9.9.9, for=" + me]

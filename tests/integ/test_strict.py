# SPDX-License-Identifier: Apache-2.0
"""What two HTTP/1 parsers could read in two ways is refused by the first sidecar that sees it: the client gets an answer and the end of
its connection, and not one byte has reached the application. What is merely odd is served."""

import contextlib
import os
import time

import pytest
from conftest import missing
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh
from harness.netns import Net

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PORT = 8080


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path_factory.mktemp("strict")) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{PORT}/http")
        m.web = m.workload(net.host("b"), "web")
        m.stranger = net.host("c")
        m.vip = m.service("orders", {PORT: (PORT, "http")}, [m.orders])[0]
        m.start()
        yield m


def answer_all(p):
    with contextlib.suppress(OSError, EOFError, ValueError):
        while p.read():
            p.send(OK)


H = b"GET / HTTP/1.1\r\nHost: x\r\n"
P = b"POST / HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

AMBIGUOUS = {
    # two framings, or one said twice
    "length and chunked": P + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": P + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths that differ": P + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    "a list of lengths": P + b"Content-Length: 4, 5\r\n\r\nabcd",
    "a length with a sign": P + b"Content-Length: +4\r\n\r\nabcd",
    "a negative length": P + b"Content-Length: -1\r\n\r\n",
    "a length in hex": P + b"Content-Length: 0x4\r\n\r\nabcd",
    "a length with a blank inside": P + b"Content-Length: 1 0\r\n\r\nabcd",
    "an empty length": P + b"Content-Length:\r\n\r\n",
    "a length beyond 63 bits": P + b"Content-Length: 18446744073709551620\r\n\r\nabcd",
    "chunked is not last": P + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": P + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity and chunked": P + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab before chunked": P + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # lines
    "bare LF ends the request line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "bare LF ends a field": H + b"A: b\nTransfer-Encoding: chunked\r\n\r\n",
    "bare LF ends the head": b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    "bare CR in a value": H + b"A: b\rTransfer-Encoding: chunked\r\n\r\n",
    "bare CR in a name": H + b"A\rB: c\r\n\r\n",
    "CR CR LF": H + b"A: b\r\r\n\r\n",
    "NUL in a value": H + b"A: b\0c\r\n\r\n",
    "NUL in the target": b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "obs-fold": H + b"A: b\r\n c\r\n\r\n",
    "a fold before any field": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "a blank before the colon": H + b"Transfer-Encoding : chunked\r\n\r\n",
    "a tab before the colon": H + b"Content-Length\t: 4\r\n\r\n",
    "a field without a colon": H + b"Transfer-Encoding chunked\r\n\r\n",
    "an empty name": H + b": b\r\n\r\n",
    "a name with a bracket": H + b"A(b): c\r\n\r\n",
    "a name with a high byte": H + b"A\xe4: c\r\n\r\n",
    # request lines
    "two blanks": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab as the separator": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank behind the version": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "an odd version": b"GET / HTTP/1.10\r\nHost: x\r\n\r\n",
    "lower case http": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "a method with a bracket": b"GE(T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank before the method": b" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    # who is asked
    "no Host": b"GET / HTTP/1.1\r\nA: b\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two Hosts alike": b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "a list of Hosts": b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: a@x\r\n\r\n",
    "an absolute target and another Host": b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
}

# The head is fine and has gone up, its body is broken: the application never gets a complete request, and never what follows.
BAD_BODIES = {
    "a chunk size that is no number": b"zz\r\nabcd\r\n0\r\n\r\n",
    "a chunk size with 0x": b"0x4\r\nabcd\r\n0\r\n\r\n",
    "a chunk size with a sign": b"+4\r\nabcd\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": b"10000000000000004\r\nabcd\r\n0\r\n\r\n",
    "an empty chunk size": b"\r\nabcd\r\n0\r\n\r\n",
    "bare LF behind the size": b"4\nabcd\r\n0\r\n\r\n",
    "bare LF behind the data": b"4\r\nabcd\n0\r\n\r\n",
    "data longer than the size": b"4\r\nabcdefgh\r\n0\r\n\r\n",
    "bare LF in an extension": b"4;a\nb\r\nabcd\r\n0\r\n\r\n",
    "a bare CR in an extension": b"4;a\rb\r\nabcd\r\n0\r\n\r\n",
    "bare LF ends the trailers": b"4\r\nabcd\r\n0\r\n\n",
    "a length among the trailers with a fold": b"4\r\nabcd\r\n0\r\nA: b\r\n c\r\n\r\n",
}

ODD_BUT_LEGAL = {
    "an empty line before the request": b"\r\n" + H + b"\r\n",
    "no blank behind the colon": H + b"A:b\r\n\r\n",
    "blanks and tabs around the value": H + b"A: \t b \t\r\n\r\n",
    "an empty value": H + b"A:\r\n\r\n",
    "high bytes in a value": H + b"A: \xe4\xff\r\n\r\n",
    "every punctuation of a token": b"M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1\r\nHost: x\r\n!#$%&'*+-.^_`|~9aZ: b\r\n\r\n",
    "leading zeros of a length": P + b"Content-Length: 0004\r\n\r\nabcd",
    "leading zeros of a chunk size": P + b"Transfer-Encoding: chunked\r\n\r\n0004\r\nabcd\r\n000\r\n\r\n",
    "upper case hex and Chunked": P + b"transfer-encoding: CHUNKED\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "chunk extensions": P + b'Transfer-Encoding: chunked\r\n\r\n4;a=b;c="d;\\" e"\r\nabcd\r\n0;z\r\n\r\n',
    "an IPv6 Host": b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "a target with odd characters": b"GET /a;b=c,d?e=%zz&f=|~!* HTTP/1.1\r\nHost: x\r\n\r\n",
}


def refusal(conn, data):
    """Sends, and returns what came back until the end of the connection."""
    with Peer(conn, 5) as c:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            c.send(data)
        try:
            m = c.read()
            assert c.rest() == b"" and c.at_end
        except ConnectionResetError:
            m = None
        return m


@pytest.mark.parametrize("who", ["from the local application", "from outside the mesh"])
@pytest.mark.parametrize("what", AMBIGUOUS)
def test_ambiguous_is_400_closed_and_nothing_reaches_the_application(mesh, what, who):
    with Origin(mesh.orders.host, PORT, answer_all) as o:
        local = who.startswith("from the local")
        conn = mesh.web.host.connect(mesh.vip, PORT) if local else mesh.stranger.connect(mesh.orders.host.ip4, PORT)
        m = refusal(conn, AMBIGUOUS[what] + SMUGGLED)
        assert m and m.status in (400, 501, 505), m
        assert m.get(b"connection") == [b"close"]
        assert o.received() == b""


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_body_with_broken_chunks_never_becomes_a_request_nor_does_what_follows(mesh, what):
    complete = []

    def behave(p):
        with contextlib.suppress(OSError, EOFError, ValueError, AttributeError, TypeError):
            while m := p.read():
                complete.append(m)
                p.send(OK)

    with Origin(mesh.orders.host, PORT, behave) as o:
        data = P + b"Transfer-Encoding: chunked\r\n\r\n" + BAD_BODIES[what] + SMUGGLED
        m = refusal(mesh.web.host.connect(mesh.vip, PORT), data)
        assert m is None or m.status == 400
        assert not complete and b"smuggled" not in o.received()


@pytest.mark.parametrize("what", ODD_BUT_LEGAL)
def test_odd_but_legal_is_served(mesh, what):
    with Origin(mesh.orders.host, PORT, answer_all) as o, Peer(mesh.web.host.connect(mesh.vip, PORT), 5) as c:
        c.send(ODD_BUT_LEGAL[what])
        assert c.read().status == 200
        c.send(H + b"\r\n")
        assert c.read().status == 200, "and the connection goes on"
        assert not o.errors


@pytest.mark.parametrize("what,data,status", [
    ("target", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    ("head", H + b"A: " + b"b" * 40000 + b"\r\n\r\n", 431),
    ("fields", H + b"A: b\r\n" * 200 + b"\r\n", 431),
    ("endless field name", H + b"a" * 100000, 431),
    ("endless method", b"A" * 100000, 400),
])
def test_limits_are_answered_by_their_status_and_nothing_reaches_the_application(mesh, what, data, status):
    with Origin(mesh.orders.host, PORT, answer_all) as o:
        m = refusal(mesh.web.host.connect(mesh.vip, PORT), data)
        assert m and m.status == status
        assert o.received() == b""


@pytest.mark.parametrize("data", [
    b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    H + b"A: " + b"b" * 31000 + b"\r\n\r\n",
    H + b"A: b\r\n" * 90 + b"\r\n",
])
def test_what_is_just_within_the_limits_is_served(mesh, data):
    with Origin(mesh.orders.host, PORT, answer_all), Peer(mesh.web.host.connect(mesh.vip, PORT), 5) as c:
        c.send(data)
        assert c.read().status == 200


def test_an_answer_that_is_ambiguous_never_reaches_the_client(mesh):
    for bad in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
                b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
                b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
                b"HTTP/1.1 200 OK\r\nA: b\0\r\nContent-Length: 2\r\n\r\nok",
                b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
                b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok"):
        with Origin(mesh.orders.host, PORT, lambda p, bad=bad: (p.head(), p.send(bad), p.rest())):
            with Peer(mesh.web.host.connect(mesh.vip, PORT), 5) as c:
                c.send(H + b"\r\n")
                m = c.read()
                assert m.status == 502 and m.get(b"x-weft-error")[0].startswith(b"inbound;upstream_protocol;"), (bad, m)


def test_bytes_behind_an_answer_are_no_second_answer(mesh):
    """Response splitting: what an application sends too much belongs to nobody."""
    with Origin(mesh.orders.host, PORT, lambda p: (p.head(), p.send(OK + OK.replace(b"ok", b"no")), p.head(), p.send(OK), p.rest())):
        with Peer(mesh.web.host.connect(mesh.vip, PORT), 5) as c:
            for _ in range(2):
                c.send(H + b"\r\n")
                m = c.read()
                assert m.body != b"no"


def test_a_head_that_does_not_come_within_10_s_is_408(mesh):
    with Origin(mesh.orders.host, PORT, answer_all) as o, Peer(mesh.web.host.connect(mesh.vip, PORT), 15) as c:
        began = time.monotonic()
        c.send(b"GET / HTTP/1.1\r\nHost: ")
        m = c.read()
        assert m.status == 408 and 9 < time.monotonic() - began < 12
        assert c.rest() == b""
        assert o.received() == b""

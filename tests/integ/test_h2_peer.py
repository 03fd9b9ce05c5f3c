# SPDX-License-Identifier: Apache-2.0
"""The hop spoken by somebody else: python3-h2 over OpenSSL, with a certificate of the mesh, calls a sidecar's inbound side from another
host. What docs/hop.md says is what such a peer needs, and all that it needs."""

import contextlib
import os
import signal
import socket
import ssl
import threading

import h2.config
import h2.connection
import h2.events
import pytest
from conftest import missing
from harness.http1 import Origin
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

HTTP, TCP, CLOSED = 8080, 9000, 8081
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/a?b"), (":authority", "orders")]
POST = [(":method", "POST"), *GET[1:]]


class H2:
    """A client of the hop. Events are gathered by stream."""

    def __init__(self, host, address, port, credential, folder, alpn="weft1-h2"):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
        crt, key, _ = credential.write(folder, "peer")
        c.load_cert_chain(crt, key)
        c.set_alpn_protocols([alpn])
        self.sock = c.wrap_socket(host.connect(address, port))
        self.sock.settimeout(5)
        self.events, self.ended, self.goaway, self.raw = {}, False, [], b""
        if alpn == "weft1-h2":
            # What a hostile peer would send is not to be corrected here.
            config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False,
                                               normalize_outbound_headers=False)
            self.h2 = h2.connection.H2Connection(config)
            self.h2.initiate_connection()
            self.flush()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def ask(self, headers, body=None, trailers=None, end=True):
        sid = self.h2.get_next_available_stream_id()
        self.h2.send_headers(sid, headers, end_stream=end and body is None and trailers is None)
        if body is not None:
            self.h2.send_data(sid, body, end_stream=end and trailers is None)
        if trailers:
            self.h2.send_headers(sid, trailers, end_stream=True)
        self.flush()
        return sid

    def _without_goaway(self, data):
        """python3-h2 takes a GOAWAY for the end of everything; here it is noted as (last stream, code) and kept from it."""
        self.raw += data
        out = b""
        while len(self.raw) >= 9 and len(self.raw) >= (n := 9 + int.from_bytes(self.raw[:3], "big")):
            frame, self.raw = self.raw[:n], self.raw[n:]
            if frame[3] == 7:
                self.goaway.append((int.from_bytes(frame[9:13], "big"), int.from_bytes(frame[13:17], "big")))
            else:
                out += frame
        return out

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        if not data:
            self.ended = True
            return
        for e in self.h2.receive_data(self._without_goaway(data)):
            if isinstance(e, h2.events.DataReceived):
                self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
            self.events.setdefault(getattr(e, "stream_id", 0) or 0, []).append(e)
        self.flush()

    def wait(self, sid):
        """Until the stream has ended one way or the other; (headers, body, trailers, reset code)."""
        over = (h2.events.StreamEnded, h2.events.StreamReset)
        while not self.ended and not any(isinstance(e, over) for e in self.events.get(sid, [])):
            self._more()
        headers, body, trailers, code = {}, b"", {}, None
        for e in self.events.get(sid, []):
            if isinstance(e, h2.events.ResponseReceived):
                headers = dict(e.headers)
            elif isinstance(e, h2.events.DataReceived):
                body += e.data
            elif isinstance(e, h2.events.TrailersReceived):
                trailers = dict(e.headers)
            elif isinstance(e, h2.events.StreamReset):
                code = e.error_code
        return headers, body, trailers, code

    def until_end(self):
        while not self.ended:
            self._more()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    tmp = tmp_path_factory.mktemp("h2peer")
    with Net() as net, FileMesh(net, tmp) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{HTTP}/http,{TCP}/tcp,{CLOSED}/http")
        m.peer = net.host("b")
        m.start()
        m.credential = m.ca.leaf("shop", "peer")
        m.call = lambda port=HTTP, alpn="weft1-h2": H2(m.peer, m.orders.host.ip4, port, m.credential, tmp, alpn)
        yield m


def serving(answer, requests):
    """An origin that keeps what it read in `requests`."""

    def behave(p):
        with contextlib.suppress(OSError, EOFError):
            while m := p.read():
                requests.append(m)
                p.send(answer)

    return behave


def test_a_get_arrives_as_http_1_with_its_client(mesh):
    got = []
    with Origin(mesh.orders.host, HTTP, serving(OK, got)), mesh.call() as c:
        headers, body, _, code = c.wait(c.ask(GET + [("accept", "x")]))
        assert (headers[":status"], body, code) == ("200", b"ok", None)
        assert got[0].line == b"GET /a?b HTTP/1.1"
        assert got[0].fields == [(b"Host", b"orders"), (b"accept", b"x"), (b"X-Forwarded-For", mesh.peer.ip4.encode())]


def test_bodies_and_trailers_travel_both_ways(mesh):
    got = []
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
    with Origin(mesh.orders.host, HTTP, serving(answer, got)), mesh.call() as c:
        _, body, trailers, _ = c.wait(c.ask(POST + [("te", "trailers")], b"hello", [("x-in", "5")]))
        assert (body, trailers) == (b"ok", {"x-sum": "7"})
        assert (got[0].framing, got[0].body, got[0].trailers) == ("chunked", b"hello", [(b"x-in", b"5")])
        c.wait(c.ask(POST + [("content-length", "5")], b"hello"))
        assert (got[1].framing, got[1].body) == ("length", b"hello")


def test_the_fields_of_the_hop_are_understood_and_no_others_pass(mesh):
    got = []
    fields = [("x-mixed", "1"), ("user-agent", "p"), ("x-weft-case", "t,X-MiXeD"), ("x-weft-version", "1.0"), ("x-weft-close", "1"),
              ("x-weft-unheard", "1"), ("x-weft-error", "a;b;c"), ("x-weft-unprocessed", "1")]
    answer = b"HTTP/1.1 200 Fine, thanks\r\nX-MiXeD: 1\r\nContent-Length: 2\r\nX-Weft-Error: forged\r\nConnection: close\r\n\r\nok"
    with Origin(mesh.orders.host, HTTP, serving(answer, got)), mesh.call() as c:
        headers, body, _, _ = c.wait(c.ask(GET + fields))
        assert got[0].line == b"GET /a?b HTTP/1.0"
        names = [n for n, _ in got[0].fields]
        assert b"X-MiXeD" in names and b"User-Agent" in names
        assert not [n for n in names if n.lower().startswith(b"x-weft")]
        assert body == b"ok" and headers["x-weft-close"] == "1" and headers["x-weft-reason"] == "Fine,%20thanks"
        assert "X-MiXeD" in headers["x-weft-case"] and "x-weft-error" not in headers
        assert c.wait(c.ask(GET))[0][":status"] == "200", "Connection: close never closes the hop"


def test_fifty_streams_at_once_are_all_answered_with_their_own_answer(mesh):
    lock = threading.Barrier(50, timeout=10)

    def behave(p):
        with contextlib.suppress(OSError):
            while m := p.read():
                lock.wait()  # all are there before one is answered
                word = m.line.split(b" ")[1]
                p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(word) + word)

    with Origin(mesh.orders.host, HTTP, behave) as o, mesh.call() as c:
        sids = {c.ask([*GET[:2], (":path", f"/{i}"), GET[3]]): b"/%d" % i for i in range(50)}
        assert {sid: c.wait(sid)[1] for sid in sids} == sids
        assert not o.errors


def test_a_stream_that_is_reset_ends_at_the_application_and_the_others_go_on(mesh):
    arrived, ended = threading.Event(), threading.Event()

    def behave(p):
        m = p.head()
        if b"/quick" in m[0]:
            p.send(OK)
            p.rest()
            return
        arrived.set()
        with contextlib.suppress(ConnectionResetError):
            p.rest()
        ended.set()

    with Origin(mesh.orders.host, HTTP, behave), mesh.call() as c:
        sid = c.ask(GET)
        assert arrived.wait(5)
        c.h2.reset_stream(sid, 8)
        c.flush()
        assert ended.wait(5)
        assert c.wait(c.ask([*GET[:2], (":path", "/quick"), GET[3]]))[0][":status"] == "200"


def test_a_peer_that_says_goaway_gets_its_open_answers_and_then_the_end(mesh):
    go = threading.Event()

    def behave(p):
        if p.head():
            go.wait(5)
            p.send(OK)

    with Origin(mesh.orders.host, HTTP, behave) as o, mesh.call() as c:
        sid = c.ask(GET)
        wait_until(lambda: o.seen and o.seen[0].received, 5, "the request")
        # A frame by hand: python3-h2 would end its own connection with it.
        c.sock.sendall(b"\0\0\x08\x07\0\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\0")
        go.set()
        assert c.wait(sid)[1] == b"ok"
        c.until_end()


def test_what_never_reached_the_application_is_said_to_be_unprocessed(mesh):
    with mesh.call(CLOSED) as c:
        headers, _, _, _ = c.wait(c.ask(POST, b"x"))
        assert headers[":status"] == "503" and headers["x-weft-unprocessed"] == "1"
        assert headers["x-weft-error"].startswith("inbound;connect_fail;")


def test_what_may_have_run_is_never_said_to_be_unprocessed(mesh):
    with Origin(mesh.orders.host, HTTP, lambda p: p.head()), mesh.call() as c:
        headers, _, _, _ = c.wait(c.ask(POST, b"x"))
        assert headers[":status"] == "502" and "x-weft-unprocessed" not in headers
        assert headers["x-weft-error"].startswith("inbound;upstream_reset;")


BAD = {
    "host is not authority": (GET + [("host", "other")], None),
    "a line end in a value": (GET + [("a", "b\r\nc: d")], None),
    "a NUL in a value": (GET + [("a", "b\0c")], None),
    "a line end in the path": ([*GET[:2], (":path", "/ HTTP/1.1\r\nx: y"), GET[3]], None),
    "a blank in the path": ([*GET[:2], (":path", "/a b"), GET[3]], None),
    "a blank in the method": ([(":method", "GET /x"), *GET[1:]], None),
    "a colon in a name": (GET + [("a:b", "c")], None),
    "an upper case name": (GET + [("Abc", "c")], None),
    "connection": (GET + [("connection", "close")], None),
    "transfer-encoding": (POST + [("transfer-encoding", "chunked")], b"0\r\n\r\n"),
    "two lengths": (POST + [("content-length", "2"), ("content-length", "3")], b"ab"),
    "more than the length": (POST + [("content-length", "2")], b"abcd"),
    "less than the length": (POST + [("content-length", "6")], b"abcd"),
    "two paths": (GET + [(":path", "/b")], None),
    "a pseudo field behind a field": (GET[:3] + [("a", "b"), GET[3]], None),
    "no path": (GET[:2] + GET[3:], None),
    "an empty path": ([*GET[:2], (":path", ""), GET[3]], None),
    "no authority and no host": (GET[:3], None),
    "a relative path": ([*GET[:2], (":path", "a"), GET[3]], None),
}


@pytest.mark.parametrize("what", BAD)
def test_what_http_1_could_misread_is_refused_and_never_becomes_a_request(mesh, what):
    got = []
    with Origin(mesh.orders.host, HTTP, serving(OK, got)) as o, mesh.call() as c:
        headers, body = BAD[what]
        got_headers, _, _, code = c.wait(c.ask(headers, body))
        assert c.ended or code == 1 or got_headers.get(":status") == "400", (got_headers, code)
        assert not got
        assert b"\r\nc: d" not in o.received() and b"x: y" not in o.received()


def test_one_bad_stream_does_not_end_the_others(mesh):
    with Origin(mesh.orders.host, HTTP, serving(OK, [])), mesh.call() as c:
        c.wait(c.ask(GET + [("host", "other")]))
        assert c.wait(c.ask(GET))[0][":status"] == "200"


def test_opaque_bytes_are_nothing_but_bytes(mesh):
    def behave(p):
        while data := p.some():
            p.send(data)

    with Origin(mesh.orders.host, TCP, behave) as o, mesh.call(TCP, "weft1-tcp") as c:
        c.sock.sendall(b"hello")
        assert c.sock.recv(100) == b"hello"
        assert bytes(o.seen[0].received) == b"hello"
        assert o.last_client[0] == f"::ffff:{mesh.peer.ip4}"


@pytest.mark.parametrize("port", [4806, 4830, 4837])
def test_the_sidecars_own_ports_are_not_reached_over_the_hop(mesh, port):
    try:
        with mesh.call(port) as c:
            c.wait(c.ask(GET))
            assert c.ended and not c.events.get(1)
    except (OSError, socket.timeout):
        pass


def test_a_server_that_drains_says_goaway_and_finishes_what_is_open(mesh, net, tmp_path):
    go = threading.Event()
    with FileMesh(net, tmp_path) as m:
        orders, peer = m.workload(net.host("a"), "orders", ports=f"{HTTP}/http"), net.host("b")
        m.start()

        def behave(p):
            p.head()
            go.wait(5)
            p.send(OK)
            p.rest()

        with Origin(orders.host, HTTP, behave) as o, H2(peer, orders.host.ip4, HTTP, m.ca.leaf("shop", "peer"), tmp_path) as c:
            sid = c.ask(GET)
            wait_until(lambda: o.seen and o.seen[0].received, 5, "the request")
            orders.capture.signal(signal.SIGTERM)
            while not c.goaway:
                c._more()
            go.set()
            assert c.wait(sid)[1] == b"ok"
            c.until_end()
            assert c.goaway[0] == (2**31 - 1, 0) and set(c.goaway[1:]) == {(sid, 0)}
            assert orders.capture.wait(10) == 0

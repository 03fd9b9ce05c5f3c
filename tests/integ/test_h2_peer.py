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


def pseudo(method="GET", scheme="http", path="/a", authority="orders"):
    head = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)]
    return [(n, v) for n, v in head if v is not None]


CONNECT = [(":method", "CONNECT"), (":authority", "orders:80")]
# SMG-15, SMG-16: heads that HTTP/1 could not say, or could say as two requests. All end without a body.
BAD_HEADS = {
    "host is not authority": GET + [("host", "other")],
    "two hosts": GET[:3] + [("host", "orders"), ("host", "other")],
    "a line end in a value": GET + [("a", "b\r\nc: d")],
    "CR in a value": GET + [("a", "b\rc")],
    "LF in a value": GET + [("a", "b\nc")],
    "a NUL in a value": GET + [("a", "b\0c")],
    "a control byte in a value": GET + [("a", "b\x01c")],
    "DEL in a value": GET + [("a", "b\x7fc")],
    "a blank before a value": GET + [("a", " b")],
    "a tab behind a value": GET + [("a", "b\t")],
    "a colon in a name": GET + [("a:b", "c")],
    "a blank in a name": GET + [("a b", "c")],
    "a line end in a name": GET + [("a\r\nb", "c")],
    "LF in a name": GET + [("a\nb", "c")],
    "a NUL in a name": GET + [("a\0", "c")],
    "a byte beyond ASCII in a name": GET + [("a\u00e9", "c")],
    "a bracket in a name": GET + [("a(b)", "c")],
    "a whole request in a name": GET + [("a: b\r\n\r\nget / http/1.1\r\nhost", "c")],
    "an upper case name": GET + [("Abc", "c")],
    "an upper case transfer-encoding": GET + [("Transfer-Encoding", "chunked")],
    "connection": GET + [("connection", "close")],
    "connection that names a field": GET + [("connection", "authorization"), ("authorization", "x")],
    "keep-alive": GET + [("keep-alive", "timeout=5")],
    "proxy-connection": GET + [("proxy-connection", "close")],
    "upgrade": GET + [("upgrade", "h2c")],
    "transfer-encoding": GET + [("transfer-encoding", "chunked")],
    "transfer-encoding: identity": GET + [("transfer-encoding", "identity")],
    "te of a coding": GET + [("te", "gzip")],
    "te of trailers and a coding": GET + [("te", "trailers, gzip")],
    "two lengths": GET + [("content-length", "0"), ("content-length", "1")],
    "two lengths alike": GET + [("content-length", "0"), ("content-length", "0")],
    "a list of lengths": GET + [("content-length", "0, 0")],
    "a length with a sign": GET + [("content-length", "+0")],
    "an empty length": GET + [("content-length", "")],
    "a length in hex": GET + [("content-length", "0x0")],
    "a length beyond 2^64": GET + [("content-length", "18446744073709551616")],
    "a length and no body": GET + [("content-length", "5")],
    "two methods": GET + [(":method", "POST")],
    "two paths": GET + [(":path", "/b")],
    "two authorities": GET + [(":authority", "orders")],
    "two schemes": [*GET[:2], *GET[1:]],
    "a pseudo-field behind a field": GET[:3] + [("a", "b"), GET[3]],
    "an unknown pseudo-field": GET + [(":a", "b")],
    "a status in a request": GET + [(":status", "200")],
    "a protocol without CONNECT": GET + [(":protocol", "websocket")],
    "no method": GET[1:],
    "no scheme": [GET[0], *GET[2:]],
    "no path": GET[:2] + GET[3:],
    "no authority and no host": GET[:3],
    "an empty method": pseudo(method=""),
    "a blank in the method": pseudo(method="GET /x"),
    "a line end in the method": pseudo(method="GET / HTTP/1.1\r\nx:"),
    "a bracket in the method": pseudo(method="GE(T"),
    "an empty path": pseudo(path=""),
    "a relative path": pseudo(path="a"),
    "an absolute path with its scheme": pseudo(path="http://other/"),
    "a blank in the path": pseudo(path="/a b"),
    "a tab in the path": pseudo(path="/a\tb"),
    "a line end in the path": pseudo(path="/ HTTP/1.1\r\nx: y"),
    "a NUL in the path": pseudo(path="/\0"),
    "a fragment in the path": pseudo(path="/a#b"),
    "a byte beyond ASCII in the path": pseudo(path="/\u00e9"),
    "an asterisk of GET": pseudo(path="*"),
    "another scheme": pseudo(scheme="ftp"),
    "a scheme that is more": pseudo(scheme="http://evil/?"),
    "a user in the authority": pseudo(authority="u@orders"),
    "a path in the authority": pseudo(authority="orders/x"),
    "a blank in the authority": pseudo(authority="orders x"),
    "a line end in the authority": pseudo(authority="orders\r\nx: y"),
    "a list of authorities": pseudo(authority="orders,other"),
    "a percent in the authority": pseudo(authority="orders%2fx"),
    "two ports in the authority": pseudo(authority="orders:80:81"),
    "a port that is too large": pseudo(authority="orders:65536"),
    "a port that is no number": pseudo(authority="orders:http"),
    "an open bracket in the authority": pseudo(authority="[::1"),
    "an empty authority": pseudo(authority=""),
    "CONNECT without a port": [(":method", "CONNECT"), (":authority", "orders")],
    "CONNECT with a path": CONNECT + [(":path", "/")],
    "CONNECT with a scheme": CONNECT + [(":scheme", "http")],
    "CONNECT with a length": CONNECT + [("content-length", "0")],
    "TRACE with a length": pseudo(method="TRACE") + [("content-length", "1")],
}
# The head is fine, the body contradicts it.
BAD_BODIES = {
    "more than the length": (POST + [("content-length", "2")], b"abcd"),
    "less than the length": (POST + [("content-length", "6")], b"abcd"),
    "a body behind a length of zero": (POST + [("content-length", "0")], b"abcd"),
    "transfer-encoding and a body": (POST + [("transfer-encoding", "chunked")], b"0\r\n\r\n"),
    "a body of TRACE": (pseudo(method="TRACE"), b"abcd"),
}
ODD_BUT_LEGAL = {
    "host that is authority": (GET + [("host", "ORDERS")], b"GET /a?b HTTP/1.1"),
    "host and no authority": (GET[:3] + [("host", "orders")], b"GET /a?b HTTP/1.1"),
    "a scheme in capitals": (pseudo(scheme="HTTP"), b"GET /a HTTP/1.1"),
    "an odd method and path": (pseudo(method="M-SEARCH!", path="//a;b=c?d=%zz|{}\"<>"), b"M-SEARCH! //a;b=c?d=%zz|{}\"<> HTTP/1.1"),
    "OPTIONS of the server": (pseudo(method="OPTIONS", path="*"), b"OPTIONS * HTTP/1.1"),
    "an empty value and bytes beyond ASCII": (GET + [("a", ""), ("b", "\u00e9 \t x")], b"GET /a?b HTTP/1.1"),
    "an authority with an empty port": (pseudo(authority="orders:"), b"GET /a HTTP/1.1"),
    "IPv6": (pseudo(authority="[fd00::1]:80"), b"GET /a HTTP/1.1"),
    "TRACE": (pseudo(method="TRACE"), b"TRACE /a HTTP/1.1"),
}


def refused(mesh, headers, body):
    with mesh.call() as c:
        got_headers, _, _, code = c.wait(c.ask(headers, body))
        assert c.ended or code == 1 or got_headers.get(":status") == "400", (got_headers, code)


@pytest.mark.parametrize("what", BAD_HEADS)
def test_a_head_that_http_1_could_misread_is_refused_and_sends_no_byte_to_the_application(mesh, what):
    count = lambda: mesh.orders.metric("weft_requests_total", direction="inbound", reason="bad_request")  # noqa: E731
    before = count()
    with Origin(mesh.orders.host, HTTP, serving(OK, [])) as o:
        refused(mesh, BAD_HEADS[what], None)
        assert o.received() == b"" and not o.seen
    assert count() - before == 1


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_body_that_its_head_contradicts_is_refused_and_never_becomes_a_request(mesh, what):
    got = []
    with Origin(mesh.orders.host, HTTP, serving(OK, got)) as o:
        refused(mesh, *BAD_BODIES[what])
        assert not got
        assert b"abcd" not in o.received() or b"Content-Length: 6" in o.received()


@pytest.mark.parametrize("what", ODD_BUT_LEGAL)
def test_what_is_merely_odd_becomes_one_request(mesh, what):
    headers, line = ODD_BUT_LEGAL[what]
    got = []
    with Origin(mesh.orders.host, HTTP, serving(OK, got)), mesh.call() as c:
        assert c.wait(c.ask(headers))[0][":status"] == "200"
        assert [m.line for m in got] == [line] and len(got[0].get(b"host")) == 1


@pytest.mark.parametrize("length", [True, False], ids=["by length", "chunked"])
def test_a_body_that_breaks_off_at_any_byte_is_never_said_to_be_there(mesh, length):
    """SMG-12: a chunk's size is written only with all its bytes, a length without its bytes ends with the connection."""
    body, got = b"0123456789abcdef", []
    with Origin(mesh.orders.host, HTTP, serving(OK, got)) as o:
        for k in range(len(body)):
            head = POST + ([("content-length", str(len(body)))] if length else [])
            with mesh.call() as c:
                sid = c.ask(head, body[:k], end=False)
                want = b"\r\n\r\n" + (body[:k] if length or not k else b"%x\r\n" % k + body[:k] + b"\r\n")
                wait_until(lambda k=k, want=want: len(o.seen) == k + 1 and o.seen[k].received.endswith(want), 5, "the piece")
                if k % 2:
                    c.h2.reset_stream(sid, 8)
                    c.flush()
                else:
                    # A frame that says more than comes.
                    c.sock.sendall((len(body)).to_bytes(3, "big") + b"\0\1" + sid.to_bytes(4, "big") + body[k:-1])
                    c.close()
            wait_until(lambda: len(o.threads) == len(o.seen) + 1 and not any(t.is_alive() for t in o.threads[1:]), 5, "the end at the application")
        assert not got
        for p in o.seen:
            rest = bytes(p.received).partition(b"\r\n\r\n")[2]
            while rest and not length:
                size, _, rest = rest.partition(b"\r\n")
                n = int(size, 16)
                assert 0 < n <= len(rest) - 2 and rest[n:n + 2] == b"\r\n", "a size with its bytes, and never the last chunk"
                rest = rest[n + 2:]
            assert len(rest) < len(body)


@pytest.mark.parametrize("name", ["content-length", "host", "authorization", "cookie", "x-forwarded-for", "forwarded", "via", "set-cookie", "content-type",
                                  "x-weft-close", "trailer", "te", "connection", "transfer-encoding", "upgrade"])
def test_trailers_of_http_2_that_frame_route_or_authorize_never_reach_the_application(mesh, name):
    """Dropped, or the request is refused with them; what may pass passes."""
    got = []
    with Origin(mesh.orders.host, HTTP, serving(OK, got)), mesh.call() as c:
        headers, _, _, code = c.wait(c.ask(POST, b"hi", [("x-a", "1"), (name, "trailers"), ("x-b", "2")]))
        if headers.get(":status") == "200":
            assert [(m.trailers, m.body) for m in got] == [([(b"x-a", b"1"), (b"x-b", b"2")], b"hi")]
        else:
            assert not got and name in ("host", "connection", "transfer-encoding", "upgrade", "content-length")


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

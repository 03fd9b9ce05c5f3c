# SPDX-License-Identifier: Apache-2.0
"""A client of HTTP/1 and an application of HTTP/2: each request of the corpus (harness/http1_corpus.py) arrives as what it says, each kind of answer comes back
as HTTP/1 says it, and what HTTP/1 could read in two ways does not come back at all. Over two sidecars, and from outside the mesh through one. CONNECT
to such an application from both versions. (The other way round there is extended CONNECT only: test_websocket.py.)"""

import contextlib
import os
import socket
import threading

import hpack
import pytest
from conftest import missing
from harness.h2peer import H2Origin
from harness.h2raw import ACK, DATA, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, Raw, frame, head, headers
from harness.http1 import Origin, Peer
from harness.http1_corpus import ENTRIES, OK
from harness.mesh import FileMesh
from harness.netns import Net, wait_until
from harness.same import documented

PORT, PORT1 = 8080, 8081  # of an application of HTTP/2, of one of HTTP/1
WAYS = ["over two sidecars", "from outside the mesh"]
GET = b"GET /a?b HTTP/1.1\r\nHost: orders\r\n"


class Ground:
    def __init__(self, net, tmp):
        self.mesh = m = FileMesh(net, tmp)
        self.orders = m.workload(net.host("a"), "orders", ports=f"{PORT}/http2,{PORT1}/http")
        self.web = m.workload(net.host("b"), "web")
        self.stranger = net.host("c")
        self.vip = m.service("orders", {PORT: (PORT, "http2"), PORT1: (PORT1, "http")}, [self.orders])[0]
        m.start()

    def host(self, way):
        return self.web.host if way == WAYS[0] else self.stranger

    def dial(self, way, port=PORT):
        return self.host(way).connect(self.vip if way == WAYS[0] else self.orders.host.ip4, port)

    def client(self, way, port=PORT):
        return Peer(self.dial(way, port), 10)

    def origin(self, answer, **kw):
        return H2Origin(self.orders.host, PORT, answer, **kw)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net:
        g = Ground(net, tmp_path_factory.mktemp("pairing"))
        with g.mesh:
            yield g


# --- requests ---

def parsed(entry):
    """The request of an entry as a server of HTTP/1 reads it."""
    a, b = socket.socketpair()
    with Peer(b) as p, a:
        sender = threading.Thread(target=a.sendall, args=(b"".join(entry.ask),))
        sender.start()
        m = p.read()
        sender.join()
        return m


def in_http2(entry, client, address):
    """(pseudo-fields, fields, body, trailers) that the request must be in HTTP/2. address: what a request without Host was sent to."""
    m = parsed(entry)
    t = documented(m, client.encode())
    method, target, _ = m.line.split(b" ")
    scheme, mark, rest = target.partition(b"://")
    if mark and scheme.isalpha():
        authority = rest.replace(b"?", b"/?").split(b"/")[0]
        target = rest[len(authority):] or (b"*" if method == b"OPTIONS" else b"/")
        target = target if target[:1] in (b"/", b"*") else b"/" + target
    else:
        scheme = b"http"
    pseudo = {b":method": method, b":scheme": scheme.lower(), b":path": target, b":authority": t.framing["host"] or address.encode()}
    fields = [(n.lower(), v) for n, v in t.fields if n.lower() != b"cookie"]
    cookies = b"; ".join(v for n, v in t.fields if n.lower() == b"cookie")
    length = t.framing.get("length")
    return pseudo, fields, cookies, length, t.body, t.trailers


def raw(pairs):
    return [tuple(x if isinstance(x, bytes) else x.encode() for x in pair) for pair in pairs]


class Keeps:
    """An application that keeps what it was asked as bytes, and answers 200."""

    def __init__(self):
        self.asked = []

    def __call__(self, c, sid):
        c.c.config.header_encoding = None  # bytes from now on: a value may be none of UTF-8
        got = raw(c.heads[sid])
        self.asked.append(({n: v for n, v in got if n.startswith(b":")},
                           [(n, v) for n, v in got if not n.startswith(b":") and n not in (b"cookie", b"content-length")],
                           b"; ".join(v for n, v in got if n == b"cookie"),
                           next((int(v) for n, v in got if n == b"content-length"), None),
                           bytes(c.body[sid]), raw(c.trailers.get(sid, []))))
        c.respond(sid, 200, [("content-length", "5")], body=b"" if got[0][1] == b"HEAD" else b"hello")


# On a port that may be spoken to in either version the first bytes tell which (proxy/detect.c): behind an empty line, or with a method of more than 32 bytes,
# they are no request line.
REQUESTS = [e for e in ENTRIES if e.answer == OK and not e.ask[0].startswith(b"\r\n") and len(b"".join(e.ask).split(b" ")[0]) <= 32]


@pytest.mark.parametrize("way", WAYS)
def test_each_request_of_the_corpus_arrives_in_http_2_as_what_it_says(ground, way):
    """All at one go: nothing of one is left on the connection for the next."""
    app = Keeps()
    address = f"{ground.orders.host.ip4}:{PORT}"
    assert len(REQUESTS) > 100
    with ground.origin(app) as o:
        for e in REQUESTS:
            n = len(app.asked)
            with ground.client(way) as c:
                c.send(*e.ask, pause=0.005)
                m = c.read(answer_to=parsed(e).line.split(b" ")[0].decode())
                assert m and m.status == 200 and len(app.asked) == n + 1, (e.claim, m, o.errors)
            assert app.asked[n] == in_http2(e, ground.host(way).ip4, address), e.claim
        assert len(o.seen) == 1, "an odd request costs no connection that others use"


def test_over_ipv6_a_request_without_host_is_for_the_address_and_who_asked_is_in_brackets(ground):
    app = Keeps()
    with ground.origin(app), Peer(ground.stranger.connect(ground.orders.host.ip6, PORT), 10) as c:
        c.send(b"GET / HTTP/1.0\r\nForwarded: for=a\r\n\r\n")
        assert c.read().status == 200
    (pseudo, fields, *_), me = app.asked[0], ground.stranger.ip6.encode()
    assert pseudo[b":authority"] == f"[{ground.orders.host.ip6}]:{PORT}".encode()
    assert fields == [(b"x-forwarded-for", me), (b"forwarded", b'for=a, for="[' + me + b']"')]


# --- answers ---

def respond(status=200, fields=(), body=b"", trailers=None, first=()):
    """An application that says this, right or wrong."""
    def answer(c, sid):
        c.c.config.validate_outbound_headers = c.c.config.normalize_outbound_headers = False
        for s, f in first:
            c.c.send_headers(sid, [(":status", str(s)), *f])
        c.respond(sid, status, fields, body, trailers)
    return answer


HINTS = [(103, [("link", "</a>")]), (103, [("link", "</b>")])]
ENDS = b"Connection: close\r\n"
CHUNKED, CHUNKS = b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n"
# method, what the application says, its line and fields in HTTP/1.1 with what frames it, its body as it is framed
ANSWERS = {
    "a length": ("GET", respond(201, [("content-length", "5"), ("x-a", "1"), ("x-a", "2")], b"hello"), b"201 Created\r\nx-a: 1\r\nx-a: 2\r\nContent-Length: 5\r\n", b"hello"),
    "no length": ("GET", respond(body=b"hello"), b"200 OK\r\n" + CHUNKED, CHUNKS + b"\r\n"),
    "nothing but a head": ("GET", respond(404), b"404 Not Found\r\nContent-Length: 0\r\n", b""),
    "trailers": ("GET", respond(body=b"hello", trailers=[("x-t", "1"), ("x-t", "2")]), b"200 OK\r\n" + CHUNKED, CHUNKS + b"x-t: 1\r\nx-t: 2\r\n\r\n"),
    "trailers that frame or authorize": ("GET", respond(body=b"hello", trailers=[("content-type", "x"), ("x-t", "1"), ("set-cookie", "a")]), b"200 OK\r\n" + CHUNKED,
                                         CHUNKS + b"x-t: 1\r\n\r\n"),
    "no content": ("GET", respond(204, [("x-a", "b")]), b"204 No Content\r\nx-a: b\r\n", b""),
    "not modified": ("GET", respond(304, [("content-length", "100")]), b"304 Not Modified\r\nContent-Length: 100\r\n", b""),
    "reset content": ("GET", respond(205), b"205 Reset Content\r\nContent-Length: 0\r\n", b""),
    "HEAD with a length": ("HEAD", respond(fields=[("content-length", "5")]), b"200 OK\r\nContent-Length: 5\r\n", b""),
    "HEAD without": ("HEAD", respond(), b"200 OK\r\n", b""),
    "cookies": ("GET", respond(fields=[("content-length", "0"), ("set-cookie", "a"), ("set-cookie", "b")]), b"200 OK\r\nset-cookie: a\r\nset-cookie: b\r\nContent-Length: 0\r\n", b""),
    "a status of its own": ("GET", respond(599, [("content-length", "0")]), b"599 \r\nContent-Length: 0\r\n", b""),
    "hints": ("GET", respond(204, first=HINTS), b"103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\nHTTP/1.1 204 No Content\r\n", b""),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_of_http_2_comes_back_as_http_1_says_it_and_the_connection_goes_on(ground, what, way):
    method, answer, said, body = ANSWERS[what]
    want = b"HTTP/1.1 " + said + b"\r\n" + body
    with ground.origin(answer), ground.client(way) as c:
        for _ in range(2):
            c.send(method.encode() + GET[3:] + b"\r\n")
            assert c.exactly(len(want)) == want
        assert not c.buffer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["no length", "trailers", "hints", "a length"])
def test_a_client_of_http_1_0_is_told_nothing_that_it_does_not_know(ground, what, way):
    """Neither chunks nor trailers nor what comes before the answer."""
    with ground.origin(ANSWERS[what][1]), ground.client(way) as c:
        c.send(b"GET /a HTTP/1.0\r\nHost: orders\r\n\r\n")
        got = c.rest()
    assert got.count(b"HTTP/1.1 ") == 1 and not got.startswith(b"HTTP/1.1 1")
    assert b"chunked" not in got and b"x-t" not in got and got.endswith(b"\r\n\r\n" + (b"" if what == "hints" else b"hello"))


BAD = {
    "a line end in a value": [("a", "b\r\nSet-Cookie: evil")], "LF in a value": [("a", "b\nc")], "NUL in a value": [("a", "b\0c")],
    "a blank before a value": [("a", " b")], "a name in capitals": [("Abc", "d")], "a blank in a name": [("a b", "c")], "a line end in a name": [("a\r\nb", "c")],
    "an empty name": [("", "x")], "connection": [("connection", "close")], "transfer-encoding": [("transfer-encoding", "chunked")], "upgrade": [("upgrade", "h2c")],
    "two lengths": [("content-length", "5"), ("content-length", "6")], "a length with a sign": [("content-length", "+5")],
    "a pseudo-field behind a field": [("a", "b"), (":status", "200")], "an unknown pseudo-field": [(":x", "b")],
    **{f"the status {s!r}": s for s in ("101", "99", "1000", "20", "abc", "", "0200")}}


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_of_http_2_that_is_malformed_is_a_502_of_which_nothing_came_from_the_application(ground, way):
    count = lambda: ground.orders.metric("weft_requests_total", direction="inbound", reason="upstream_protocol")  # noqa: E731
    before = count()
    for what, bad in BAD.items():
        answer = respond(bad, body=b"hello") if isinstance(bad, str) else respond(fields=bad, body=b"hello")
        with ground.origin(answer), ground.client(way) as c:
            c.send(GET + b"\r\n")
            m = c.read()
            assert m.status == 502 and m.get(b"x-weft-error")[0].startswith(b"inbound;upstream_protocol;"), (what, m)
            assert {n.lower() for n, _ in m.fields} == {b"content-type", b"content-length", b"x-weft-error"} and b"hello" not in m.body, (what, m)
    assert count() - before == len(BAD)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", ["4", "6"], ids=["more than the length", "less than the length"])
def test_a_body_that_belies_its_length_is_never_taken_for_a_whole_one(ground, way, length):
    with ground.origin(respond(fields=[("content-length", length)], body=b"hello")), ground.client(way) as c:
        c.send(GET + b"\r\n")
        assert c.head()[0] == b"HTTP/1.1 200 OK"
        with pytest.raises((EOFError, ConnectionResetError)):
            c.exactly(int(length))


# --- expectations ---

POST = b"POST /a HTTP/1.1\r\nHost: orders\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"


@pytest.mark.parametrize("way", WAYS)
def test_an_expectation_is_answered_by_the_application_and_its_refusal_keeps_the_body_away(ground, way):
    def answer(c, sid):
        if len(o.streams()) == 1:
            c.c.send_headers(sid, [(":status", "100")])
            c.flush()
            c.until(lambda: sid in c.ended)
            c.respond(sid, 200, [("content-length", "4")], body=c.body[sid])
        else:
            c.respond(sid, 417)

    with ground.origin(answer, when="head") as o:
        with ground.client(way) as c:
            c.send(POST)
            assert c.read().status == 100
            c.send(b"body")
            assert c.read().body == b"body"
        with ground.client(way) as c:
            c.send(POST)
            m = c.read()
            assert m.status == 417 and m.get(b"connection") == [b"close"] and c.rest() == b""
        s, i = o.streams()[1]
        wait_until(lambda: i in s.resets, 5, "the end of the request")
        assert not s.body[i]


# --- CONNECT ---

class RawApp:
    """An application of HTTP/2 by hand, since python3-h2 knows no CONNECT: `serve(app, sock, kind, flags, sid, payload)` for each frame. `heads`: of the streams."""

    def __init__(self, host, serve):
        self.serve, self.heads, self.data, self.ended, self.socks = serve, {}, {}, {}, []
        with host.inside():
            self.sock = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                self.socks.append(self.sock.accept()[0])
            except OSError:
                return
            threading.Thread(target=self._run, args=(self.socks[-1],), daemon=True).start()

    def _run(self, s):
        raw, decoder = b"", hpack.Decoder()
        s.sendall(frame(SETTINGS))
        try:
            while data := s.recv(65536):
                raw += data
                raw = raw[len(PREFACE):] if raw.startswith(PREFACE) else raw
                while len(raw) >= 9 and len(raw) >= (n := 9 + int.from_bytes(raw[:3], "big")):
                    f, raw = raw[:n], raw[n:]
                    self._take(s, decoder, f[3], f[4], int.from_bytes(f[5:9], "big"), f[9:])
        except OSError:
            pass

    def _take(self, s, decoder, kind, flags, sid, payload):
        if kind == SETTINGS and not flags & ACK:
            s.sendall(frame(SETTINGS, ACK))
        if kind == HEADERS:
            self.heads[sid] = decoder.decode(payload)
        if kind == DATA:
            self.data[sid] = self.data.get(sid, b"") + payload
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.ended[sid] = kind
        self.serve(s, kind, flags, sid, payload)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in (self.sock, *self.socks):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


def echoing(s, kind, flags, sid, payload):
    """Opens a tunnel, speaks first, says again what comes, and ends with the client."""
    if kind == HEADERS:
        s.sendall(headers(sid, [(":status", "200"), ("x-a", "b")], end=False) + frame(DATA, 0, sid, b"first,"))
    if kind == DATA:
        s.sendall(frame(DATA, flags & END_STREAM, sid, payload))


def refusing(s, kind, flags, sid, payload):
    if kind == HEADERS:
        s.sendall(headers(sid, [(":status", "403"), ("content-length", "2")], end=False) + frame(DATA, END_STREAM, sid, b"no"))


@pytest.mark.parametrize("way", WAYS)
def test_connect_of_http_1_opens_a_tunnel_through_an_application_of_http_2(ground, way):
    with RawApp(ground.orders.host, echoing) as app, ground.client(way) as c:
        c.send(b"CONNECT else:443 HTTP/1.1\r\nHost: else:443\r\nX-MiXeD: 1\r\n\r\n")
        line, fields = c.head()
        assert line == b"HTTP/1.1 200 OK" and [f for f in fields if f[0] != b"x-a"] == [] and c.exactly(6) == b"first,"
        for data in (b"\0a\r\n\r\n", os.urandom(40000)):
            c.send(data)
            assert c.exactly(len(data)) == data
        c.fin()
        assert c.rest() == b""
        assert app.heads[1] == [(":method", "CONNECT"), (":authority", "else:443"), ("x-mixed", "1"), ("x-forwarded-for", ground.host(way).ip4)]


@pytest.mark.parametrize("way", WAYS)
def test_connect_of_http_2_opens_a_tunnel_and_the_connection_goes_on(ground, way):
    with RawApp(ground.orders.host, echoing) as app, Raw(ground.dial(way)) as c:
        c.go(headers(1, [(":method", "CONNECT"), (":authority", "else:443"), ("x-a", "b")], end=False), lambda: c.bytes.get(1) == 6)
        c.go(headers(3, head("/plain")), lambda: c.bytes.get(3) == 6)
        c.go(frame(DATA, 0, 1, b"hello") + frame(DATA, END_STREAM, 1, b"bye"), lambda: 1 in c.ended)
        assert c.bytes[1] == 6 + 8 and not c.resets and c.goaway is None
        plain = [h for h in app.heads.values() if (":method", "CONNECT") in h]
        assert plain == [[(":method", "CONNECT"), (":authority", "else:443"), ("x-a", "b"), ("x-forwarded-for", ground.host(way).ip4)]]


@pytest.mark.parametrize("way", WAYS)
def test_a_connect_that_an_application_of_http_2_refuses_is_no_tunnel(ground, way):
    early = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with RawApp(ground.orders.host, refusing) as app:
        with ground.client(way) as c:
            c.send(b"CONNECT else:443 HTTP/1.1\r\nHost: else:443\r\n\r\n" + early)
            m = c.read()
            assert m.status == 403 and m.body == b"no" and m.get(b"connection") == [b"close"] and c.rest() == b""
        with Raw(ground.dial(way)) as c:
            c.go(headers(1, [(":method", "CONNECT"), (":authority", "else:443")], end=False), lambda: 1 in c.ended)
            c.go(headers(3, head("/next")), lambda: 3 in c.ended)
            assert c.goaway is None and not c.resets.get(1)
        assert not any(("/smuggled" in v) for h in app.heads.values() for _, v in h) and len(app.heads) == 3


# --- limits ---

def h2_status(ground, way, fields):
    with Raw(ground.dial(way)) as c:
        c.go(headers(1, fields), lambda: 1 in c.ended or c.resets)
        assert c.goaway is None
        return dict(hpack.Decoder().decode(c.heads[1]))[":status"]


@pytest.mark.parametrize("way", WAYS)
def test_limits_are_exact_and_answered_by_their_status_in_http_2_too(ground, way):
    """A target of 8 KiB, 128 fields with the pseudo-fields; an expectation that nobody knows."""
    with ground.origin(lambda c, sid: c.respond(sid)) as o:
        assert h2_status(ground, way, head("/" + "a" * 8191)) == "200" and h2_status(ground, way, head("/" + "a" * 8192)) == "414"
        assert h2_status(ground, way, head("/", fields=[(f"a{i}", "b") for i in range(124)])) == "200"
        assert h2_status(ground, way, head("/", fields=[(f"a{i}", "b") for i in range(125)])) == "431"
        assert h2_status(ground, way, head("/", fields=[("expect", "more")])) == "417"
        assert len(o.streams()) == 2


def filled(line, count, total):
    """A head (or trailers: no line) of `count` fields and `total` bytes, without the empty line; names as no sidecar spells them by itself."""
    names = [b"x-FiElD-%02d-of-many" % i for i in range(count)]
    room = total - sum(len(n) + 4 for n in names)
    values = [b"v" * (room // count)] * (count - 1) + [b"v" * (room - room // count * (count - 1))]
    return line + b"".join(n + b": " + v + b"\r\n" for n, v in zip(names, values)), list(zip(names, values))


@pytest.mark.parametrize("way", WAYS)
def test_heads_and_trailers_of_32_kib_each_arrive_whole_both_ways(ground, way):
    """All that one exchange may bring at once; not a field of it is left out."""
    (ask, asked), (answer, answered) = (filled(line, 97, 32600) for line in (b"POST / HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 200 OK\r\n"))
    end, ends = filled(b"", 99, 32700)
    body = b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + end + b"\r\n"
    low = lambda fields: [(n.lower(), v) for n, v in fields]  # noqa: E731
    seen = []

    def behave(p):
        seen.append(p.read())
        p.send(answer + body)

    with Origin(ground.orders.host, PORT1, behave) as o, ground.client(way, PORT1) as c:
        c.send(ask + body)
        m = c.read()
        assert seen and not o.errors and m and m.status == 200, (seen, o.errors, m)
        for got, fields in ((seen[0], asked), (m, answered)):
            assert [f for f in low(got.fields) if f[0].startswith(b"x-field")] == low(fields)
            assert low(got.trailers) == low(ends)

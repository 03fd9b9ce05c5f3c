# SPDX-License-Identifier: Apache-2.0
"""Request and response smuggling over sockets. Every row that the parser's unit test refuses (tests/unit/lib/http1_*.tbl.h: one table for both) is
sent through a sidecar with a request behind it: it is refused with its own reason, which is counted; a bad head has sent 0 bytes to the application, a
bad body has cost it its connection, and what was behind reaches nobody. An answer that is not exactly one answer costs its connection
too, and is never anybody else's. From a local application over two sidecars, and from outside the mesh through one."""

import contextlib
import os
import threading

import pytest
from conftest import missing
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh
from harness.netns import Net, wait_until
from harness.rows import beginnings, rows

PORT = 8080
MACROS = beginnings("tests/unit/lib/http1_test.c")
REQUESTS = [r for r in rows("tests/unit/lib/http1_requests.tbl.h", MACROS) if r.kind != "OK"]
RESPONSES = [r for r in rows("tests/unit/lib/http1_responses.tbl.h", MACROS) if r.kind != "OK"]
# Other protocols to a sidecar, which looks at the first bytes before a parser does.
OTHER_PROTOCOLS = {"a TLS ClientHello", "the preface of HTTP/2"}
STATUS = {"bad_request": 400, "uri_too_long": 414, "expectation": 417, "head_too_large": 431, "unknown_coding": 501, "bad_version": 505}
GET = MACROS["GET"]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
WAYS = ["over two sidecars", "from outside the mesh"]
EARLY = 84  # 1,008 early answers in all

HEADS = {}
for _r in REQUESTS:
    if _r.begins != "CH" and _r.claim not in OTHER_PROTOCOLS:
        HEADS.setdefault(_r.part, []).append((_r.claim, _r.data, (_r.reason or "BAD_REQUEST").lower()))
HEADS["lengths that may wrap, SMG-04"] = [
    ("a name of 2^16 - 1 bytes", GET + b"n" * 65535 + b": 1\r\n\r\n", "head_too_large"),
    ("a name of 2^16 + 1 bytes", GET + b"n" * 65537 + b": 1\r\n\r\n", "head_too_large"),
    ("a name of 2^20 bytes", GET + b"n" * (1 << 20) + b": 1\r\n\r\n", "head_too_large"),
    ("a value of 2^16 + 1 bytes", GET + b"a: " + b"v" * 65537 + b"\r\n\r\n", "head_too_large"),
    ("a name that never ends", GET + b"n" * 100000, "head_too_large"),
    ("101 fields", GET + b"a: b\r\n" * 101 + b"\r\n", "head_too_large"),
    ("a target of 2^16 + 1 bytes", b"GET /" + b"a" * 65537 + MACROS["H"] + b"\r\n", "uri_too_long"),
    ("a method that never ends", b"A" * 100000, "bad_request"),
]
# (claim, what follows the head and a first chunk, reason)
BODIES = [(r.claim, r.data[len(MACROS["CH"]):], "bad_request") for r in REQUESTS if r.begins == "CH"] + [
    ("an extension of 64 KiB, SMG-07", b"1;" + b"e" * 65536 + b"\r\nx\r\n0\r\n\r\n", "bad_request"),
    ("extensions of 17 KiB in all", (b"1;" + b"e" * 1000 + b"\r\nx\r\n") * 17 + b"0\r\n\r\n", "bad_request"),
    ("an extension that never ends", b"1;" + b"e" * 100000, "bad_request"),
    ("101 trailers", b"0\r\n" + b"a: b\r\n" * 101 + b"\r\n", "head_too_large"),
    ("trailers of 40,000 bytes", b"0\r\na: " + b"b" * 40000 + b"\r\n\r\n", "head_too_large"),
]


class Ground:
    def __init__(self, net, tmp):
        self.mesh = m = FileMesh(net, tmp)
        self.orders = m.workload(net.host("a"), "orders", ports=f"{PORT}/http")
        self.web = m.workload(net.host("b"), "web")
        self.stranger = net.host("c")
        self.vip = m.service("orders", {PORT: (PORT, "http")}, [self.orders])[0]
        m.start()

    def client(self, way, timeout=10):
        local = way == WAYS[0]
        return Peer(self.web.host.connect(self.vip, PORT) if local else self.stranger.connect(self.orders.host.ip4, PORT), timeout)

    def origin(self, behave):
        return Origin(self.orders.host, PORT, behave)

    def first(self, way):
        """The sidecar that sees a request first, and how it calls that."""
        return (self.web, "outbound") if way == WAYS[0] else (self.orders, "inbound")

    def counted(self, way, reason):
        w, direction = self.first(way)
        return w.metric("weft_requests_total", direction=direction, reason=reason)

    def serves(self, way):
        """A request of its own is answered."""
        with self.client(way) as c:
            c.send(GET + b"\r\n")
            return c.read()


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net:
        g = Ground(net, tmp_path_factory.mktemp("smuggling"))
        with g.mesh:
            yield g


def answer_all(p):
    with contextlib.suppress(OSError, EOFError):
        while p.read():
            p.send(OK)


def send_all(c, data):
    """False: the other end has closed before it had it all."""
    try:
        c.send(data)
        return True
    except (ConnectionResetError, BrokenPipeError):
        return False


def answers(c):
    """All that comes until the end: (messages, was it a reset?)."""
    out = []
    try:
        while m := c.read():
            out.append(m)
        return out, False
    except ConnectionResetError:
        return out, True


# --- requests ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", HEADS)
def test_a_head_that_could_be_read_in_two_ways_is_refused_and_the_application_gets_no_byte(ground, part, way):
    reasons = {r for _, _, r in HEADS[part]}
    before = {r: ground.counted(way, r) for r in reasons}
    with ground.origin(answer_all) as o:
        for claim, data, reason in HEADS[part]:
            with ground.client(way) as c:
                whole = send_all(c, data + SMUGGLED)
                got, cut = answers(c)
                # What is longer than the limits is refused while it is still being sent: the answer may be lost with the rest.
                assert len(got) == 1 or (not got and cut and not whole), (claim, got)
                assert all(m.status == STATUS[reason] and m.get(b"connection") == [b"close"] for m in got), (claim, got)
        assert o.received() == b"" and not o.seen
    for r in reasons:
        assert ground.counted(way, r) - before[r] == sum(r == reason for _, _, reason in HEADS[part]), r


@pytest.mark.parametrize("way", WAYS)
def test_a_body_with_broken_chunks_is_refused_and_costs_its_connection_to_the_application(ground, way):
    reasons = {r for _, _, r in BODIES}
    before, complete = {r: ground.counted(way, r) for r in reasons}, []

    def behave(p):
        with contextlib.suppress(OSError, EOFError, TypeError, AttributeError, ValueError):
            complete.append(p.read())

    with ground.origin(behave) as o:
        for i, (claim, rest, reason) in enumerate(BODIES):
            with ground.client(way) as c:
                c.send(MACROS["CH"] + b"3\r\nabc\r\n")
                wait_until(lambda i=i: len(o.seen) == i + 1 and b"abc" in o.seen[i].received, 5, claim)
                whole = send_all(c, rest + SMUGGLED)
                got, cut = answers(c)
                assert [m.status for m in got] == [STATUS[reason]] or (not got and cut and not whole), (claim, got)
                assert all(m.get(b"connection") == [b"close"] for m in got), (claim, got)
        wait_until(lambda: len(o.threads) == len(BODIES) + 1 and not any(t.is_alive() for t in o.threads[1:]), 5, "all connections ended")
        assert not complete and b"smuggled" not in o.received()
        assert all(p.received.count(b" HTTP/1.1\r\n") == 1 for p in o.seen), "a connection that is owed a body is never used again"
    for r in reasons:
        assert ground.counted(way, r) - before[r] == sum(r == reason for _, _, reason in BODIES), r


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_leaves_at_any_byte_of_its_body_leaves_no_request_and_no_connection_behind(ground, way, framing):
    """SMG-11. All cuts at once: each has a connection to the application of its own, which ends with it."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\nX-Pad: 0123456789abcdef0123\r\n\r\n"
    head = b"POST /cut HTTP/1.1\r\nHost: x\r\n"
    data = b"Content-Length: 64\r\n\r\n" + body if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n40\r\n" + body + b"\r\n0\r\n\r\n"
    begin = data.index(b"\r\n\r\n") + 4
    complete, cut = [], []

    def behave(p):
        try:
            while m := p.read():
                complete.append(m.line)
                p.send(OK)
        except (EOFError, OSError, TypeError, AttributeError):
            cut.append(p)

    assert len(body) == 64
    with ground.origin(behave) as o, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ground.client(way)) for _ in range(begin, len(data))]
        for c, k in zip(clients, range(begin, len(data))):
            c.send(head + data[:k])
        wait_until(lambda: o.received().count(b"POST /cut ") == len(clients), 10, "all heads")
        for i, c in enumerate(clients):
            c.reset() if i % 2 else c.fin()
        wait_until(lambda: len(cut) == len(clients), 10, "all connections ended")
        assert not complete
        assert ground.serves(way).status == 200
        assert complete == [b"GET / HTTP/1.1"] and all(bytes(p.received).count(b"POST /cut ") == 1 for p in cut)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("early", [b"417 Expectation Failed", b"200 OK", b"413 Content Too Large"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_early_answer_leaves_a_connection_that_is_never_used_again(ground, way, early, framing):
    """SMG-10: the application answers before the body, and keeps its connection; the client then sends the body, which looks like a request."""
    expect = b"POST /expect HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    body = SMUGGLED if framing == "length" else b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n"
    expect += b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n"

    def behave(p):
        with contextlib.suppress(OSError):
            while h := p.head():
                if b"/expect" in h[0]:
                    p.send(b"HTTP/1.1 " + early + b"\r\nContent-Length: 2\r\n\r\nno")
                    continue  # as a server that takes whatever comes next for a request
                p.send(OK)

    with ground.origin(behave) as o:
        for _ in range(EARLY):
            with ground.client(way) as c:
                c.send(expect)
                m = c.read()
                assert m.line == b"HTTP/1.1 " + early and m.body == b"no"
                send_all(c, body + SMUGGLED)
                got, _ = answers(c)
                assert not got, "neither the body nor what is behind it is a request"
            assert ground.serves(way).body == b"ok"
        assert b"smuggled" not in o.received()
        behind = [bytes(p.received).partition(b"/expect")[2] for p in o.seen if b"/expect" in p.received]
        assert len(behind) == EARLY and all(b.count(b" HTTP/1.1\r\n") == 1 for b in behind)


# --- answers ---


def asking(claim):
    """The request that a row of the responses answers."""
    kind = claim.partition(": ")[0]
    return {"HEAD": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            "UPGRADE": GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"}.get(kind, GET + b"\r\n")


class Script:
    """An application that answers the first request of each connection with `data`, then only listens. A good request has a connection of its own."""

    def __init__(self, ground):
        self.data, self.end, self.rests = b"", None, []
        self.origin = ground.origin(self.serve)

    def serve(self, p):
        h = p.head()
        if h is None:
            return
        if h[0].startswith(b"GET /good "):
            p.send(OK)
            return
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            p.send(self.data)
            if self.end == "rst":
                p.reset()
            elif self.end is None:
                p.rest()
        self.rests.append(bytes(p.received).partition(b"\r\n\r\n")[2])

    def over(self):
        """All connections have ended; what came on them behind the first request."""
        wait_until(lambda: len(self.rests) == len(self.origin.seen), 5, "the connections are given up")
        return b"".join(self.rests)


# Heads that the table does not hold, since they are too long or too many for it.
MORE_BAD_ANSWERS = [
    ("a head of 40,000 bytes", MACROS["RE"] + b"A: " + b"b" * 40000 + b"\r\n\r\n"),
    ("200 fields", MACROS["RE"] + b"a: b\r\n" * 200 + b"\r\n"),
    ("a status line that never ends", b"HTTP/1.1 200 " + b"x" * 40000),
    ("33 interim answers", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 33 + OK),
    ("two lengths in an interim answer", b"HTTP/1.1 103 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + OK),
    ("something else", b"\x16\x03\x01" + b"\0" * 40 + b"\r\n\r\n"),
]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_could_be_read_in_two_ways_is_a_502_and_its_connection_is_never_used_again(ground, way):
    cases = [(r.claim, r.data) for r in RESPONSES if r.claim != "a chunk without its end"] + MORE_BAD_ANSWERS
    count = lambda: ground.orders.metric("weft_requests_total", direction="inbound", reason="upstream_protocol")  # noqa: E731
    before = count()
    s = Script(ground)
    with s.origin as o:
        for claim, data in cases:
            s.data = data + OK.replace(b"ok", b"no")
            with ground.client(way) as c:
                c.send(asking(claim))
                m = c.read(answer_to="HEAD" if claim.startswith("HEAD: ") else None)
                while m.status < 200:
                    m = c.read()
                assert m.status == 502 and m.get(b"x-weft-error")[0].startswith(b"inbound;upstream_protocol;"), (claim, m)
        assert s.over() == b"" and len(o.seen) == len(cases)
    assert count() - before == len(cases)


# Good answers with something behind them that nobody asked for.
BEHIND = {
    "a body of HEAD": (b"HEAD", OK, 200),
    "chunks of HEAD": (b"HEAD", MACROS["RE"] + b"Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 200),
    "a body of 204": (b"GET", b"HTTP/1.1 204 No Content\r\n\r\nno", 204),
    "a body of 304": (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nno", 304),
    "a second answer": (b"GET", OK + OK.replace(b"ok", b"no"), 200),
    "a second answer behind chunks": (b"GET", MACROS["RE"] + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OK, 200),
    "a second answer behind a length of zero": (b"GET", MACROS["RE"] + b"Content-Length: 0\r\n\r\n" + OK, 200),
    "more than the length": (b"GET", OK + b"!", 200),
    "a line end": (b"GET", OK + b"\r\n", 200),
    "an interim answer": (b"GET", OK + b"HTTP/1.1 100 Continue\r\n\r\n", 200),
}


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("way", WAYS)
def test_what_an_application_says_behind_its_answer_is_nobodys_answer_and_costs_its_connection(ground, way, when):
    s = Script(ground)
    with s.origin as o:
        for claim, (method, data, status) in BEHIND.items():
            cut = data.index(b"\r\n\r\n") + 4
            if method != b"HEAD" and b"Content-Length: 2\r\n" in data[:cut] and status == 200:
                cut += 2
            elif method != b"HEAD" and b"chunked" in data[:cut]:
                cut = data.index(b"0\r\n\r\n") + 5
            s.data = data if when == "at once" else data[:cut]
            with ground.client(way) as c:
                c.send(method + MACROS["GET"][3:] + b"\r\n")
                m = c.read(answer_to=method.decode())
                assert m.status == status and b"no" not in m.body, (claim, m)
                if when == "later":
                    o.seen[-1].send(data[cut:])
                wait_until(lambda: len(s.rests) == len(o.seen), 5, f"{claim}: its connection is given up")
                n = len(o.seen)
                c.send(b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n")
                assert c.read().body == b"ok" and len(o.seen) == n + 1, claim
                s.rests.append(b"")
        assert b"".join(s.rests) == b""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("answer", ["length", "chunked", "with hints"])
def test_an_answer_cut_at_any_byte_never_looks_complete(ground, way, end, answer):
    """SMG-12, and whatever made it end: within the head it is a 502, within the body the client is cut off."""
    data = {"length": MACROS["RE"] + b"Content-Length: 12\r\n\r\nhello, world",
            "chunked": MACROS["RE"] + b"Transfer-Encoding: chunked\r\n\r\n7\r\nhello, \r\n5\r\nworld\r\n0\r\nA: b\r\n\r\n",
            "with hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" + MACROS["RE"] + b"Content-Length: 1\r\n\r\n!"}[answer]
    s = Script(ground)
    s.end = end
    head = data.index(b"\r\n\r\n", data.index(b" 200 ")) + 4
    with s.origin:
        for k in range(len(data)):
            s.data = data[:k]
            with ground.client(way) as c:
                c.send(GET + b"\r\n")
                try:
                    m = c.read()
                    while m is not None and m.status < 200:
                        m = c.read()
                except (EOFError, ConnectionResetError, AttributeError, TypeError):
                    m = "cut"
                if k < head:
                    assert m != "cut" and m.status == 502 and m.get(b"x-weft-error")[0].startswith(b"inbound;upstream_reset;"), (k, m)
                else:
                    # A reset may overtake what was sent before it: then the head was not there yet.
                    assert m == "cut" or (end == "rst" and m is not None and m.status == 502), (k, m)
                assert b"0\r\n" not in c.received[head:] or m != "cut"


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_until_the_end_of_the_connection_that_is_reset_ends_as_a_reset(ground, way):
    """Its end is its only frame: a FIN would make a whole answer of it."""
    go = threading.Event()

    def behave(p):
        p.head()
        p.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of ")
        go.wait(5)
        p.reset()

    with ground.origin(behave), ground.client(way) as c:
        c.send(GET + b"\r\n")
        assert c.until(b"half of ").endswith(b"half of ")
        go.set()
        with pytest.raises(ConnectionResetError):
            c.rest()

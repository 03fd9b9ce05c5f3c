# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 through two sidecars against the same exchange without a mesh, compared at both ends byte by byte: what the application
received, and what its client received. The only differences are those of ALLOWED, which docs/hop.md documents."""

import collections
import contextlib
import hashlib
import os
import threading
import time

import pytest
from conftest import missing
from harness.http1 import Message, Origin, Peer
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

# Fields of a head that may differ, and how. All others: same bytes, same order, same number.
ALLOWED = {
    # added by the inbound sidecar, behind the fields of the client
    "x-forwarded-for": "added to requests",
    # HTTP/2 carries what they say without their spelling and place; written first (Host) or last (the others), spelt usually
    "host": "spelling and place",
    "content-length": "spelling and place",
    "transfer-encoding": "spelling and place",
    "connection": "spelling and place",
}
FRAMING = tuple(ALLOWED)


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """The same two applications with and without a mesh: {"direct": (client host, address, port, origin host), "mesh": ...}."""
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path_factory.mktemp("http")) as m:
        orders = m.workload(net.host("a"), "orders", ports="8080/http")
        web = m.workload(net.host("b"), "web")
        plain, client = net.host("c"), net.host("d")
        vips = m.service("orders", {8080: (8080, "http")}, [orders])
        m.start()
        yield {"direct": (client, plain.ip4, 8080, plain), "mesh": (web.host, vips[0], 8080, orders.host), "web": web, "orders": orders}


class Seen:
    """What one run of an exchange showed: the messages at both ends."""

    def __init__(self):
        self.requests, self.answers = [], []


def exchange(ways, which, behave, ask, timeout=15.0):
    """Runs an exchange one way. behave(peer, seen), ask(peer, seen) record what they read."""
    client, address, port, origin = ways[which]
    seen = Seen()
    with Origin(origin, port, lambda p: behave(p, seen)) as o, Peer(client.connect(address, port), timeout) as c:
        ask(c, seen)
        seen.connections = len(o.seen)
    assert not o.errors, o.errors
    return seen


def plain_fields(message):
    return [(n, v) for n, v in message.fields if n.lower().decode() not in FRAMING]


def framing_fields(message):
    fields = {n.lower(): v.lower() for n, v in message.fields if n.lower() != b"x-forwarded-for" and n.lower().decode() in FRAMING}
    # HTTP/1.0 closes unless it says otherwise: there "Connection: close" says nothing.
    if b"HTTP/1.0" in message.line and fields.get(b"connection") == b"close":
        del fields[b"connection"]
    return fields


def assert_same_message(a, b):
    assert a.line == b.line
    assert plain_fields(a) == plain_fields(b)
    assert framing_fields(a) == framing_fields(b)
    assert (a.framing, a.body, a.trailers) == (b.framing, b.body, b.trailers)


def both(ways, behave, ask):
    """The exchange both ways, compared; returns the run through the mesh."""
    direct, mesh = (exchange(ways, w, behave, ask) for w in ("direct", "mesh"))
    assert len(direct.requests) == len(mesh.requests) and len(direct.answers) == len(mesh.answers)
    for a, b in zip(direct.requests, mesh.requests):
        assert_same_message(a, b)
        assert not a.get(b"x-forwarded-for") and b.get(b"x-forwarded-for") == [ways["mesh"][0].ip4.encode()]
        assert not [n for n, _ in b.fields if n.lower().startswith(b"x-weft")]
    for a, b in zip(direct.answers, mesh.answers):
        assert_same_message(a, b)
        assert not [n for n, _ in b.fields if n.lower().startswith(b"x-weft")]
    return mesh


def answering(*answers):
    """An origin that reads requests and gives the answers in order, over however many connections they come."""

    def behave(p, seen):
        while m := p.read():
            seen.requests.append(m)
            p.send(answers[len(seen.requests) - 1])

    return behave


def asking(*requests, method="GET", pieces=False):
    """A client that sends each request and reads its answer before the next."""

    def ask(c, seen):
        for r in requests:
            c.send(*(r if pieces else [r]), pause=0.02)
            seen.answers.append(c.read(answer_to=method))

    return ask


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET /a/b?c=d%20e HTTP/1.1\r\nHost: orders:8080\r\n\r\n"


def test_get_is_the_same_at_both_ends(ways):
    both(ways, answering(OK), asking(GET))


def test_post_with_length_is_the_same_at_both_ends(ways):
    both(ways, answering(OK), asking(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world"))


def test_post_with_length_zero_keeps_its_length(ways):
    both(ways, answering(OK), asking(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"))


def test_post_without_a_body_gets_no_length(ways):
    both(ways, answering(OK), asking(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"))


def test_post_chunked_is_the_same_at_both_ends(ways):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    both(ways, answering(OK), asking([head, b"5\r\nhello\r\n", b"6\r\n world\r\n", b"0\r\n\r\n"], pieces=True))


def test_a_chunked_answer_is_the_same_at_both_ends(ways):
    a = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    both(ways, answering(a), asking(GET))


def test_an_empty_chunked_body_stays_chunked_both_ways(ways):
    a = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    both(ways, answering(a), asking(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))


def test_trailers_travel_both_ways(ways):
    body = b"5\r\nhello\r\n0\r\nx-sum: 1\r\nX-MiXeD-sum: 2\r\nx-sum: 3\r\n\r\n"
    a = b"HTTP/1.1 200 OK\r\nTrailer: x-sum, X-MiXeD-sum\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    q = b"POST / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    behave, ask = answering(a), asking(q)
    direct, mesh = exchange(ways, "direct", behave, ask), exchange(ways, "mesh", behave, ask)
    # Names of trailers are lower case in HTTP/2 and no field carries their spelling: their case may change, nothing else.
    low = lambda m: [(n.lower(), v) for n, v in m.trailers]  # noqa: E731
    for a, b in zip(direct.requests + direct.answers, mesh.requests + mesh.answers):
        assert low(a) == low(b) and len(low(a)) == 3
        assert plain_fields(a) == plain_fields(b) and a.body == b.body


@pytest.mark.parametrize("length", [b"", b"Content-Length: 12345\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_answer_to_head_keeps_its_fields_and_has_no_body(ways, length):
    q = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
    a = b"HTTP/1.1 200 OK\r\nETag: \"x\"\r\n" + length + b"\r\n"
    behave, ask = answering(a, a), asking(q, q, method="HEAD")
    if not length.startswith(b"Transfer"):
        both(ways, behave, ask)
        return
    # HTTP/2 cannot say that a GET would have been chunked; RFC 9112 6.1 lets it be left out.
    direct, mesh = exchange(ways, "direct", behave, ask), exchange(ways, "mesh", behave, ask)
    for a, b in zip(direct.answers, mesh.answers):
        assert a.line == b.line and plain_fields(a) == plain_fields(b) and not b.body


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\nETag: \"x\"\r\n\r\n",
    b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
])
def test_an_answer_without_a_body_by_rule_is_the_same_and_the_connection_goes_on(ways, answer):
    both(ways, answering(answer, OK), asking(GET, GET))


def test_field_case_order_and_duplicates_survive(ways):
    fields = (b"X-MiXeD: 1\r\nx-lower: 2\r\nX-UPPER: 3\r\nAccept: a\r\nx-dup: 1\r\nX-Dup: 2\r\nX-DUP: 1\r\nCookie: a=b\r\nETag: z\r\n"
              b"WWW-Authenticate: Basic\r\nSec-WebSocket-Key: q\r\nDNT: 1\r\nempty:\r\nX-Space:   in   side  \r\n"
              b"X-Obs: \xe4\xf6\xfc\r\n")
    q = b"GET / HTTP/1.1\r\nHost: x\r\n" + fields.replace(b"empty:", b"empty: ") .replace(b":   in   side  ", b": in   side") + b"\r\n"
    a = b"HTTP/1.1 200 OK\r\n" + fields.replace(b"empty:", b"empty: ").replace(b":   in   side  ", b": in   side") + b"Content-Length: 5\r\n\r\nhello"
    both(ways, answering(a), asking(q))


def test_set_cookie_fields_are_not_joined(ways):
    a = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nset-cookie: c=3\r\nContent-Length: 5\r\n\r\nhello"
    both(ways, answering(a), asking(GET))


def test_a_cookie_is_one_field_as_it_was(ways):
    both(ways, answering(OK), asking(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1; b=2;c=3\r\nX-After: 1\r\n\r\n"))


@pytest.mark.parametrize("line", [b"200 Alles gut", b"200 ", b"418 I'm a teapot", b"299 50%\xe4 \"x\"", b"500 OK", b"999 Odd"])
def test_the_reason_phrase_survives(ways, line):
    a = b"HTTP/1.1 " + line + b"\r\nContent-Length: 5\r\n\r\nhello"
    both(ways, answering(a), asking(GET))


@pytest.mark.parametrize("q", [
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
])
@pytest.mark.parametrize("a", [
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
])
def test_an_http_1_0_client_gets_what_it_would_get(ways, q, a):
    def behave(p, seen):
        seen.requests.append(p.read())
        p.send(a)

    def ask(c, seen):
        c.send(q)
        seen.answers.append(c.read())
        assert c.rest() == b"" and c.at_end

    both(ways, behave, ask)


def test_an_http_1_0_client_with_keep_alive_keeps_its_connection(ways):
    q = b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    a = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
    both(ways, answering(a, a), asking(q, q))


def test_an_answer_of_http_1_0_is_told_as_such(ways):
    a = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"

    def behave(p, seen):
        seen.requests.append(p.read())
        p.send(a)

    def ask(c, seen):
        c.send(GET)
        seen.answers.append(c.read())

    direct, mesh = (exchange(ways, w, behave, ask) for w in ("direct", "mesh"))
    assert mesh.answers[0].line == direct.answers[0].line == b"HTTP/1.0 200 OK"
    assert mesh.answers[0].body == b"hello"


def test_an_answer_that_ends_with_the_connection_does_so_at_the_client(ways):
    def behave(p, seen):
        seen.requests.append(p.read())
        p.send(b"HTTP/1.1 200 OK\r\nX-A: b\r\nConnection: close\r\n\r\n", b"first ", b"second", pause=0.05)

    def ask(c, seen):
        c.send(GET)
        seen.answers.append(c.read())
        assert c.at_end

    both(ways, behave, ask)


def test_three_pipelined_requests_in_one_segment_are_answered_in_order(ways):
    qs = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(2)] + [b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"]

    def behave(p, seen):
        while m := p.read():
            seen.requests.append(m)
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + m.line.split(b" ")[1])

    def ask(c, seen):
        c.send(b"".join(qs))
        seen.answers += [c.read() for _ in qs]

    m = both(ways, behave, ask)
    assert [a.body for a in m.answers] == [b"/0", b"/1", b"/2"]


def test_a_kept_connection_serves_many_requests_over_one_connection_to_the_application(ways):
    # The applications of other tests end with their connections, which a sidecar takes for a habit until it sees one kept.
    m = both(ways, answering(*[OK] * 21), lambda c, s: (asking(GET)(c, s), time.sleep(0.3), asking(*[GET] * 20)(c, s)))
    assert m.connections == 1


def test_close_said_by_the_client_closes_its_connection_after_the_answer(ways):
    def ask(c, seen):
        c.send(GET[:-2] + b"Connection: close\r\n\r\n")
        seen.answers.append(c.read())
        assert c.rest() == b"" and c.at_end

    def behave(p, seen):
        seen.requests.append(p.read())
        p.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    both(ways, behave, ask)


def test_close_said_by_the_application_closes_the_clients_connection(ways):
    def ask(c, seen):
        c.send(GET)
        seen.answers.append(c.read())
        assert c.rest() == b"" and c.at_end

    def behave(p, seen):
        seen.requests.append(p.read())
        p.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    both(ways, behave, ask)


def test_close_never_closes_the_hop(ways):
    before = hop_connections(ways)
    for _ in range(5):
        exchange(ways, "mesh", lambda p, s: (p.read(), p.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))),
                 asking(GET[:-2] + b"Connection: close\r\n\r\n"))
    assert hop_connections(ways) == before == 1


def hop_connections(ways):
    pools = ways["web"].admin("/connections")["pool"]
    return sum(len(p["connections"]) for p in pools if p["hop"] == "mesh")


EXPECT = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"


def test_expect_is_answered_by_the_application_100_then_200(ways):
    def behave(p, seen):
        line, fields = p.head()
        p.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        seen.requests.append(Message(line, fields, "length", *p.body("length", 4)))
        p.send(OK)

    def ask(c, seen):
        c.send(EXPECT)
        seen.answers.append(c.read())
        assert seen.answers[0].status == 100
        c.send(b"body")
        seen.answers.append(c.read())

    both(ways, behave, ask)


def test_expect_that_is_refused_sends_no_body_upstream(ways):
    received = {}

    def behave(p, seen):
        p.head()
        p.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        received[p] = p.rest()

    def ask(c, seen):
        c.send(EXPECT)
        seen.answers.append(c.read())
        assert seen.answers[0].status == 417

    m = exchange(ways, "mesh", behave, ask)
    d = exchange(ways, "direct", behave, ask)
    assert_same_message(d.answers[0], m.answers[0])
    assert set(received.values()) == {b""}


def test_early_hints_and_other_interim_answers_pass_in_order(ways):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-MiXeD: 1\r\n\r\n"

    def ask(c, seen):
        c.send(GET)
        seen.answers += [c.read() for _ in range(4)]
        assert [a.status for a in seen.answers] == [103, 102, 103, 200]

    both(ways, answering(hints + b"HTTP/1.1 102 Processing\r\n\r\n" + hints + OK), ask)


def test_an_answer_before_the_upload_is_over_reaches_the_client(ways):
    """The application refuses a large upload after its head; the client hears that while it still sends."""

    def behave(p, seen):
        p.head()
        p.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
        # The other side may have heard enough and be gone by now.
        with contextlib.suppress(OSError):
            p.sock.shutdown(1)
            p.rest()

    def ask(c, seen):
        c.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        stop = threading.Event()

        def upload():
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    c.sock.sendall(b"x" * 65536)

        t = threading.Thread(target=upload)
        t.start()
        try:
            seen.answers.append(c.read())
        finally:
            stop.set()
            c.sock.shutdown(2)
            t.join()

    m = exchange(ways, "mesh", behave, ask)
    d = exchange(ways, "direct", behave, ask)
    assert_same_message(d.answers[0], m.answers[0])


def test_the_answer_streams_while_the_request_still_does(ways):
    """Ping-pong inside one exchange: nothing is held back until a side has ended."""

    def behave(p, seen):
        p.head()
        p.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            n = int(p.until(b"\r\n"), 16)
            p.send(b"%x\r\n" % n + p.exactly(n) + b"\r\n")
            p.exactly(2)
        assert p.until(b"\r\n\r\n") == b"0\r\n\r\n"
        p.send(b"0\r\n\r\n")

    def ask(c, seen):
        c.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert c.head()[0] == b"HTTP/1.1 200 OK"
        for i in range(5):
            word = b"word%d" % i
            c.send(b"5\r\n" + word + b"\r\n")
            assert c.until(b"\r\n") == b"5\r\n" and c.exactly(7) == word + b"\r\n"
        c.send(b"0\r\n\r\n")
        assert c.until(b"\r\n\r\n") == b"0\r\n\r\n"

    exchange(ways, "direct", behave, ask)
    exchange(ways, "mesh", behave, ask)


def test_an_answer_cut_by_the_application_is_cut_at_the_client(ways):
    """Neither a short body taken for a whole one nor a chunked body with an end that nobody wrote."""
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"):

        def behave(p, seen, answer=answer):
            p.head()
            p.send(answer)

        def ask(c, seen):
            c.send(GET)
            with pytest.raises((EOFError, ConnectionResetError)):
                c.read()
            assert b"\r\n0\r\n" not in c.received

        exchange(ways, "mesh", behave, ask)


WHOLE = {"sized": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole",
         "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n"}


@pytest.mark.parametrize("framing, how", [("sized", "fin"), ("chunked", "reset")])
def test_an_answer_cut_at_any_byte_is_never_taken_for_a_whole_one(ways, framing, how):
    """Whatever the place, the client sees an error or an end that is none; a POST is not repeated, and what is whole arrives."""
    client, address, port, host = ways["mesh"]
    answer, asked = WHOLE[framing], collections.Counter()

    def behave(p):
        line = p.head()[0]
        asked[line] += 1
        p.send(answer[:int(line.split()[1][1:])])
        p.reset() if how == "reset" else p.close()

    def ask(method, cut):
        with Peer(client.connect(address, port), 10) as c:
            c.send(b"%s /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (method, cut))
            try:
                return c.read()
            except (EOFError, ConnectionResetError):
                return None

    with Origin(host, port, behave):
        for method in (b"GET", b"POST"):
            for cut in range(len(answer)):
                m = ask(method, cut)
                assert m is None or m.status == 502 and m.get(b"x-weft-error"), (method, cut, m)
        if how == "fin":  # a reset may overtake the last bytes
            assert ask(b"POST", len(answer)).body == b"whole"
    assert max(n for line, n in asked.items() if line.startswith(b"POST")) == 1 and len(asked) >= 2 * len(answer)


def test_an_application_that_closes_without_an_answer_is_a_502_that_says_so(ways):
    def ask(c, seen):
        c.send(GET)
        seen.answers.append(c.read())

    m = exchange(ways, "mesh", lambda p, s: p.head(), ask)
    assert m.answers[0].status == 502
    assert m.answers[0].get(b"x-weft-error")[0].startswith(b"inbound;upstream_reset;")


def test_a_client_that_goes_away_takes_its_request_with_it(ways):
    """The application sees its connection end while it still works on the answer."""
    client, address, port, host = ways["mesh"]
    ended = threading.Event()

    def behave(p):
        p.head()
        assert p.rest() == b""
        ended.set()

    with Origin(host, port, behave) as o:
        c = Peer(client.connect(address, port))
        c.send(GET)
        o.wait_connections(1)
        wait_until(lambda: o.seen[0].received, 5, "the request at the application")
        c.reset()
        assert ended.wait(5)


def test_weft_fields_of_applications_are_taken_away_both_ways(ways):
    q = GET[:-2] + b"X-Weft-Close: 1\r\nx-weft-CASE: l\r\nX-WEFT-unprocessed: 1\r\nX-Weft-Error: outbound;x;y\r\n\r\n"
    a = OK.replace(b"\r\n\r\n", b"\r\nX-Weft-Close: 1\r\nx-weft-error: a;b;c\r\nX-Weft-Unprocessed: 1\r\n\r\n")
    m = exchange(ways, "mesh", answering(a), asking(q))
    for x in m.requests + m.answers:
        assert not [n for n, _ in x.fields if n.lower().startswith(b"x-weft")]
    assert m.answers[0].status == 200


def test_x_forwarded_for_is_appended_to(ways):
    m = exchange(ways, "mesh", answering(OK), asking(GET[:-2] + b"X-Forwarded-For: 1.2.3.4\r\n\r\n"))
    assert m.requests[0].get(b"x-forwarded-for") == [b"1.2.3.4, " + ways["mesh"][0].ip4.encode()]


def test_connection_options_and_what_they_name_end_at_the_sidecar(ways):
    q = GET[:-2] + b"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nX-End: 1\r\n\r\n"
    m = exchange(ways, "mesh", answering(OK), asking(q))
    names = [n.lower() for n, _ in m.requests[0].fields]
    assert b"x-end" in names
    assert not {b"x-hop", b"keep-alive", b"proxy-connection"} & set(names)


def test_an_absolute_target_stays_absolute(ways):
    both(ways, answering(OK), asking(b"GET http://orders:8080/x HTTP/1.1\r\nHost: orders:8080\r\n\r\n"))


def test_options_of_the_whole_server_stays_a_star(ways):
    both(ways, answering(OK), asking(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"))


def test_an_unknown_method_passes(ways):
    both(ways, answering(OK), asking(b"PROPFIND /x HTTP/1.1\r\nHost: x\r\nDepth: 1\r\n\r\n"))


def test_a_request_that_comes_byte_by_byte_is_the_same(ways):
    q = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    both(ways, answering(OK), asking([bytes([b]) for b in q], pieces=True))


SIZE = 100 * 1000 * 1000
BLOCK = bytes(range(256)) * 1024  # 256 KiB


def whole():
    """SIZE bytes in blocks."""
    left = SIZE
    while left > 0:
        yield BLOCK[:left]
        left -= min(left, len(BLOCK))


def digest():
    h = hashlib.sha256()
    for b in whole():
        h.update(b)
    return h.hexdigest()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_100_mb_is_the_same_both_ways(ways, chunked):
    client, address, port, host = ways["mesh"]
    want, got = digest(), {}
    framing = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % SIZE

    def send(p):
        for b in whole():
            p.send((b"%x\r\n" % len(b) + b + b"\r\n") if chunked else b)
        if chunked:
            p.send(b"0\r\n\r\n")

    def behave(p):
        h = hashlib.sha256()
        p.read(sink=h)
        got["request"] = h.hexdigest()
        p.send(b"HTTP/1.1 200 OK\r\n" + framing)
        send(p)

    with Origin(host, port, behave, keep=False), Peer(client.connect(address, port), 60, keep=False) as c:
        c.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing)
        send(c)
        h = hashlib.sha256()
        m = c.read(sink=h)
        got["answer"] = h.hexdigest()
    assert m.status == 200
    assert got == {"request": want, "answer": want}

# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 without TLS through the mesh: python3-h2 as client and as origin, undeclared and declared; in every pairing with HTTP/1.1.
The same exchange without a mesh is what each claim is measured by."""

import os
import socket
import threading
import time

import pytest
from conftest import missing
from h2.connection import ConnectionState
from harness.h2peer import H2Origin, H2Peer
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

UNDECLARED, HTTP, HTTP2, GRPC = 7000, 7001, 7002, 7003
MODES = {"undeclared": UNDECLARED, "http2": HTTP2, "grpc": GRPC}
SETTINGS_STREAMS, SETTINGS_WINDOW, SETTINGS_FRAME = 3, 4, 5


class Ground:
    def __init__(self, net, tmp):
        self.mesh = m = FileMesh(net, tmp)
        self.calc = m.workload(net.host("calc"), "calc", ports=f"{UNDECLARED},{HTTP}/http,{HTTP2}/http2,{GRPC}/grpc")
        self.web = m.workload(net.host("web"), "web")
        self.other = net.host("outside")
        self.vip = m.service("calc", {UNDECLARED: (UNDECLARED, None), HTTP: (HTTP, "http"), HTTP2: (HTTP2, "http2"), GRPC: (GRPC, "grpc")},
                             [self.calc])[0]
        m.start()

    def origin(self, answer, port=UNDECLARED, **kw):
        return H2Origin(self.calc.host, port, answer, **kw)

    def client(self, port=UNDECLARED, **kw):
        return H2Peer(self.web.host.connect(self.vip, port), **kw)

    def client1(self, port):
        return Peer(self.web.host.connect(self.vip, port))


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net:
        g = Ground(net, tmp_path_factory.mktemp("h2"))
        with g.mesh:
            yield g


def echo(c, sid):
    c.respond(sid, 200, [("x-len", str(len(c.body[sid])))], body=c.body[sid], trailers=c.trailers.get(sid))


@pytest.mark.parametrize("mode", MODES)
def test_a_request_and_its_answer_are_the_same_at_both_ends(ground, mode):
    fields = [("accept", "a"), ("x-dup", "1"), ("x-dup", "2"), ("x-empty", ""), ("x-obs", "ä"), ("cookie", "a=b"), ("cookie", "c=d"), ("te", "trailers")]
    with ground.origin(lambda c, sid: c.respond(sid, 201, [("x-a", "1"), ("set-cookie", "a"), ("set-cookie", "b"), ("x-a", "2")], body=b"hello"),
                       MODES[mode]) as o, ground.client(MODES[mode]) as c:
        sid = c.request("PUT", "/a/b?c=d%20e", fields, body=b"x" * 10)
        assert c.answer(sid) == (201, b"hello")
        assert c.heads[sid] == [(":status", "201"), ("x-a", "1"), ("set-cookie", "a"), ("set-cookie", "b"), ("x-a", "2")]
        (s, i), = o.streams()
        got = s.heads[i]
        assert got[:4] == [(":method", "PUT"), (":scheme", "http"), (":path", "/a/b?c=d%20e"), (":authority", "calc")]
        # Crumbs of a cookie are one field again (RFC 9113 8.2.3); python3-h2 puts it last, it is left out of the order.
        assert s.get(i, "cookie") == ["a=b; c=d"]
        assert [f for f in got[4:] if f[0] != "cookie"] == [("accept", "a"), ("x-dup", "1"), ("x-dup", "2"), ("x-empty", ""), ("x-obs", "ä"), ("te", "trailers"),
                           ("x-forwarded-for", ground.web.host.ip4)]


@pytest.mark.parametrize("mode", MODES)
def test_a_hundred_streams_at_once_each_get_their_own_answer(ground, mode):
    with ground.origin(echo, MODES[mode]) as o, ground.client(MODES[mode]) as c:
        c.until(lambda: c.settings is not None)
        sids = [c.request("POST", body=b"first of %d;" % i, end=False) for i in range(100)]
        for i, sid in reversed(list(enumerate(sids))):
            c.send(sid, b"rest of %d" % i * 50, end=True)
        for i, sid in enumerate(sids):
            assert c.answer(sid) == (200, b"first of %d;" % i + b"rest of %d" % i * 50)
        assert len(o.seen) == 1, "streams share the application's connection"


def test_big_bodies_both_ways_within_the_credit_of_slow_ends(ground):
    data = os.urandom(20_000_000)
    with ground.origin(echo), ground.client() as c:
        sid = c.request("POST", body=data)
        status, body = c.answer(sid)
        assert status == 200 and body == data


def test_eight_big_bodies_interleaved_are_whole(ground):
    parts = [os.urandom(3_000_000) for _ in range(8)]
    with ground.origin(echo), ground.client() as c:
        sids = [c.request("POST", end=False) for _ in parts]
        for at in range(0, 3_000_000, 100_000):
            for sid, p in zip(sids, parts):
                c.send(sid, p[at:at + 100_000], end=at == 2_900_000)
        for sid, p in zip(sids, parts):
            assert c.answer(sid) == (200, p)


def test_a_client_that_gives_no_credit_gets_no_more_than_the_first_window_and_holds_up_nobody(ground):
    with ground.origin(lambda c, sid: c.respond(sid, body=b"x" * 1_000_000, wait=False)), ground.client(auto=False) as slow, ground.client() as quick:
        a = slow.request()
        with pytest.raises(socket.timeout):
            slow.sock.settimeout(1)
            slow.until(lambda: False)
        assert len(slow.body[a]) == 65535
        slow.sock.settimeout(15)
        assert len(quick.answer(quick.request())[1]) == 1_000_000


def test_an_origin_that_gives_no_credit_stops_its_client_and_only_that_stream(ground):
    def stingy(c, sid):
        if dict(c.heads[sid])[":path"] == "/quick":
            c.respond(sid, body=b"ok")

    with ground.origin(stingy, when="head", auto=False) as o, ground.client() as c:
        c.until(lambda: c.settings is not None)
        sid = c.request("POST", end=False)
        c.sock.settimeout(1)
        with pytest.raises(socket.timeout):
            c.send(sid, b"x" * 10_000_000)
        c.sock.settimeout(15)
        assert c.answer(c.request(path="/quick")) == (200, b"ok")
        (s, i) = o.streams()[0]
        assert len(s.body[i]) == 65535, "the origin's window, not one byte more"


def test_trailers_travel_both_ways_and_hold_nothing_of_the_hop(ground):
    t = [("x-sum", "1"), ("x-weft-error", "outbound;denied;x"), ("x-sum", "2"), ("x-weft-unprocessed", "1")]
    with ground.origin(echo) as o, ground.client() as c:
        sid = c.request("POST", body=b"abc", trailers=t)
        assert c.answer(sid) == (200, b"abc")
        (s, i), = o.streams()
        assert s.trailers[i] == [("x-sum", "1"), ("x-sum", "2")] == c.trailers[sid]
        sid = c.request("POST", trailers=[("x-only", "1")])
        assert c.answer(sid) == (200, b"") and c.trailers[sid] == [("x-only", "1")]


@pytest.mark.parametrize("timeout", ["100m", "99999999n", "1H"])
def test_a_grpc_call_is_passed_on_with_its_deadline_and_an_answer_of_trailers_only_stays_one_frame(ground, timeout):
    """What a gRPC library hides: grpc-timeout as it was said, and HEADERS with END_STREAM and no more."""
    error = [("content-type", "application/grpc+proto"), ("grpc-status", "5"), ("grpc-message", "no%20such%20thing"), ("x-end", "1")]
    with ground.origin(lambda c, sid: c.respond(sid, 200, error), GRPC) as o, ground.client(GRPC) as c:
        call = [("te", "trailers"), ("content-type", "application/grpc+proto"), ("grpc-timeout", timeout), ("grpc-encoding", "identity")]
        sid = c.request("POST", "/calc.v1.Calc/Add", call, body=b"\0\0\0\0\2hi")
        assert c.answer(sid) == (200, b"") and sid not in c.trailers
        assert c.heads[sid] == [(":status", "200"), *error]
        (s, i), = o.streams()
        assert s.heads[i][4:] == [*call, ("x-forwarded-for", ground.web.host.ip4)] and bytes(s.body[i]) == b"\0\0\0\0\2hi"


def test_what_is_said_of_a_client_of_http_2_is_appended_to_from_the_mesh_and_from_outside(ground):
    said = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4"), ("forwarded", 'for="open'), ("x-real-ip", "1.2.3.4")]
    with ground.origin(echo) as o:
        for host, address in ((ground.web.host, ground.vip), (ground.other, ground.calc.host.ip4)):
            with H2Peer(host.connect(address, UNDECLARED)) as c:
                c.answer(c.request(fields=said))
                s, i = o.streams()[-1]
                assert s.heads[i][4:] == [("x-real-ip", "1.2.3.4"), ("x-forwarded-for", f"1.2.3.4, {host.ip4}"),
                                          ("forwarded", f"for=1.2.3.4, for={host.ip4}")]


def test_informational_answers_come_before_the_final_one(ground):
    def hinting(c, sid):
        for status, f in ((100, []), (103, [("link", "</a>; rel=preload")]), (103, [("link", "</b>; rel=preload")])):
            c.c.send_headers(sid, [(":status", str(status)), *f])
            c.flush()
        c.until(lambda: sid in c.ended)
        c.respond(sid, body=b"done")

    with ground.origin(hinting, when="head"), ground.client() as c:
        sid = c.request("POST", fields=[("expect", "100-continue")], end=False)
        c.until(lambda: len(c.first[sid]) == 3)
        assert [f[":status"] for f in c.first[sid]] == ["100", "103", "103"] and c.first[sid][2]["link"] == "</b>; rel=preload"
        c.send(sid, b"body", end=True)
        assert c.answer(sid) == (200, b"done")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("code", [0x2, 0x8, 0xB, 0xD])
def test_a_stream_that_the_origin_resets_is_reset_with_its_code(ground, code, begun):
    def resetting(c, sid):
        if begun:
            c.respond(sid, body=b"part", end=False)
        c.reset(sid, code)

    with ground.origin(resetting), ground.client() as c:
        sid = c.request()
        c.until(lambda: sid in c.resets)
        assert c.resets[sid] == code and (sid in c.heads) == begun


@pytest.mark.parametrize("code", [0x0, 0x2, 0x8])
def test_a_stream_that_the_client_resets_is_reset_at_the_origin_with_its_code_and_the_others_go_on(ground, code):
    def waiting(c, sid):
        if dict(c.heads[sid])[":path"] != "/wait":
            c.respond(sid, body=b"ok")

    with ground.origin(waiting, when="head") as o, ground.client() as c:
        sid = c.request("POST", path="/wait", end=False)
        wait_until(lambda: o.streams(), 5, "the request at the origin")
        c.reset(sid, code)
        (s, i) = o.streams()[0]
        wait_until(lambda: i in s.resets, 5, "the reset at the origin")
        assert s.resets[i] == code
        assert c.answer(c.request()) == (200, b"ok") and len(o.seen) == 1


def test_an_answer_before_the_end_of_the_request_is_whole(ground):
    """413 and its like: the answer, then RST_STREAM(NO_ERROR); a large one, too."""
    def early(c, sid):
        c.respond(sid, 413, body=b"too much" * 100_000)
        c.reset(sid, 0)

    with ground.origin(early, when="head"), ground.client() as c:
        c.until(lambda: c.settings is not None)
        sid = c.request("POST", body=b"x" * 1000, end=False)
        c.until(lambda: sid in c.ended)
        assert c.head(sid)[":status"] == "413" and c.body[sid] == b"too much" * 100_000
        assert c.resets.get(sid, 0) == 0


def test_streams_that_a_goaway_left_unprocessed_go_again_on_a_new_connection(ground):
    """The origin serves the first stream of its first connection only; the client sees no failure, POST or not."""
    first = threading.Event()

    def going(c, sid):
        if c is o.seen[0]:
            if not first.is_set():
                wait_until(lambda: len(c.asked) >= 5 or c.turn() or False, 5, "further requests")
                first.set()
                c.asked.clear()
                c.c.close_connection(last_stream_id=sid)
                c.flush()
                # python3-h2 lets nothing be sent after its GOAWAY; RFC 9113 6.8 does.
                c.c.state_machine.state = ConnectionState.SERVER_OPEN
                c.respond(sid, body=b"old")
            return
        c.respond(sid, body=b"new" + c.body[sid])

    with ground.origin(going) as o, ground.client() as c:
        c.until(lambda: c.settings is not None)
        sids = [c.request("POST", body=b"%d" % i) for i in range(6)]
        got = [c.answer(s) for s in sids]
        assert got == [(200, b"old")] + [(200, b"new%d" % i) for i in range(1, 6)]
        assert c.goaway is None and len(o.seen) == 2


def test_streams_that_the_origin_refuses_go_again(ground):
    asked = []

    def refusing(c, sid):
        asked.append(sid)
        if len(asked) % 2:
            c.reset(sid, 0x7)
        else:
            c.respond(sid, body=c.body[sid])

    with ground.origin(refusing), ground.client() as c:
        for _ in range(3):
            assert c.answer(c.request("POST", body=b"again")) == (200, b"again")
    assert len(asked) == 6


def test_an_origin_that_takes_one_stream_at_a_time_is_never_given_two(ground):
    most = []

    def one(c, sid):
        open_now = [s for s in c.heads if s not in c.ended or s == sid]
        most.append(len(open_now))
        time.sleep(0.02)
        c.respond(sid, body=c.body[sid])

    with ground.origin(one, settings={SETTINGS_STREAMS: 1}) as o, ground.client() as c:
        c.until(lambda: c.settings is not None)
        sids = [c.request("POST", body=b"%d" % i) for i in range(20)]
        assert [c.answer(s) for s in sids] == [(200, b"%d" % i) for i in range(20)]
        assert not any(s.resets for s in o.seen) and max(most) == 1


def test_settings_that_change_in_the_midst_count_from_then_on(ground):
    """The origin lowers its window, its frame size and its streams between two requests; python3-h2 would end the connection over a byte too many."""
    def changing(c, sid):
        if dict(c.heads[sid])[":path"] == "/change":
            c.c.update_settings({SETTINGS_WINDOW: 1000, SETTINGS_FRAME: 20000, SETTINGS_STREAMS: 2})
            c.flush()
            c.until(lambda: c.acked >= 2)
        c.respond(sid, body=c.body[sid])

    with ground.origin(changing) as o, ground.client() as c:
        assert c.answer(c.request(path="/change"))[0] == 200
        data = os.urandom(300_000)
        sids = [c.request("POST", body=data) for _ in range(4)]
        assert [c.answer(s) for s in sids] == [(200, data)] * 4
        assert not any(s.goaway for s in o.seen)
        # And the client's own: a window that was closed is opened while the answer waits.
        c.c.update_settings({SETTINGS_WINDOW: 0})
        c.flush()
        c.until(lambda: c.acked >= 2)
        sid = c.request("POST", body=data)
        c.until(lambda: sid in c.heads)
        assert not c.body[sid]
        c.c.update_settings({SETTINGS_WINDOW: 70_000})
        c.flush()
        assert c.answer(sid) == (200, data)


def test_an_http_1_client_of_a_port_declared_http2_is_served(ground):
    with ground.origin(echo, HTTP2) as o, ground.client1(HTTP2) as c:
        c.send(b"POST /p HTTP/1.1\r\nHost: calc\r\nX-MiXeD: 1\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
               b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")
        m = c.read()
        assert (m.status, m.body, m.trailers) == (200, b"hello", [(b"x-sum", b"1")]) and m.get(b"x-len") == [b"5"]
        c.send(b"GET /q HTTP/1.1\r\nHost: calc\r\n\r\n")
        assert c.read().status == 200
        assert [dict(s.heads[i])[":path"] for s, i in o.streams()] == ["/p", "/q"]
        s, i = o.streams()[0]
        assert s.get(i, "x-mixed") == ["1"] and s.get(i, "x-forwarded-for") == [ground.web.host.ip4]


def test_an_http_1_client_of_a_port_declared_http2_sees_a_reset_as_502_and_a_late_one_as_a_cut(ground):
    def resetting(c, sid):
        if dict(c.heads[sid])[":path"] == "/late":
            c.respond(sid, fields=[("content-length", "100")], body=b"part", end=False)
        c.reset(sid, 0x8)

    with ground.origin(resetting, HTTP2):
        with ground.client1(HTTP2) as c:
            c.send(b"GET / HTTP/1.1\r\nHost: calc\r\n\r\n")
            m = c.read()
            assert m.status == 502 and b"upstream_reset" in m.get(b"x-weft-error")[0]
        with ground.client1(HTTP2) as c:
            c.send(b"GET /late HTTP/1.1\r\nHost: calc\r\n\r\n")
            with pytest.raises((EOFError, ConnectionError)):
                c.read()


def test_an_http_2_client_of_a_port_declared_http_is_passed_on_as_it_asked(ground):
    with ground.origin(echo, HTTP) as o, ground.client(HTTP) as c:
        assert c.answer(c.request("POST", body=b"abc")) == (200, b"abc") and len(o.seen) == 1


def test_an_application_that_knows_only_http_1_fails_an_http_2_client_as_without_a_mesh_but_with_a_reason(ground):
    def only_1(p):
        p.until(b"\r\n\r\n")
        p.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with Origin(ground.calc.host, HTTP, only_1), ground.client(HTTP) as c:
        sid = c.request()
        status, _ = c.answer(sid)
        assert status in (502, 503) and c.get(sid, "x-weft-error")[0].startswith("inbound;")


def test_both_versions_on_one_undeclared_port_are_each_passed_on_as_they_are(ground):
    """One process that takes both, as many gRPC servers do: told apart by the preface."""
    seen = []

    def accept():
        while True:
            try:
                s, _ = sock.accept()
            except OSError:
                return
            first = s.recv(3, socket.MSG_PEEK)
            seen.append(first)
            if first == b"PRI":
                threading.Thread(target=H2Origin._serve, args=(h2o, s), daemon=True).start()
            else:
                s.recv(65536)
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
                s.close()

    with ground.origin(lambda c, sid: c.respond(sid, body=b"two"), 7999) as h2o:
        with ground.calc.host.inside():
            sock = socket.create_server(("::", UNDECLARED), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=accept, daemon=True).start()
        try:
            with ground.client() as c, ground.client1(UNDECLARED) as c1:
                assert c.answer(c.request()) == (200, b"two")
                c1.send(b"GET / HTTP/1.1\r\nHost: calc\r\n\r\n")
                assert c1.read().body == b"one"
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()
    assert sorted(seen) == [b"GET", b"PRI"]


def test_answers_made_here_are_whole_for_http_2_and_for_head(ground):
    with ground.client() as c:  # nothing listens
        sid = c.request()
        status, body = c.answer(sid)
        assert status == 503 and b"connect_fail" in body and c.get(sid, "x-weft-error") == ["inbound;connect_fail;"]
        assert c.get(sid, "content-length") == [str(len(body))]
        sid = c.request("HEAD")
        assert c.answer(sid) == (503, b"") and c.get(sid, "content-length") == [str(len(body))]
        sid = c.request("POST", fields=[("content-type", "application/grpc+proto"), ("te", "trailers")], body=b"\0\0\0\0\0")
        assert c.answer(sid) == (200, b"") and c.get(sid, "grpc-status") == ["14"]
        assert c.get(sid, "content-type") == ["application/grpc"] and "connect_fail" in c.get(sid, "grpc-message")[0]
        # gRPC-Web is not gRPC: its callers read the status of HTTP.
        sid = c.request("POST", fields=[("content-type", "application/grpc-web")], body=b"\0\0\0\0\0")
        assert c.answer(sid)[0] == 503


def test_a_host_beside_another_authority_is_refused_and_nothing_reaches_the_origin(ground):
    with ground.origin(echo) as o, ground.client(lenient=True) as c:
        sid = c.request(fields=[("host", "other")])
        c.until(lambda: sid in c.resets)
        assert c.resets[sid] == 1 and not o.seen
        assert c.answer(c.request())[0] == 200


def test_a_stranger_outside_the_mesh_is_served_in_http_2_without_what_only_sidecars_may_say(ground):
    with ground.origin(echo) as o, H2Peer(ground.other.connect(ground.calc.host.ip4, UNDECLARED)) as c:
        assert c.answer(c.request("POST", fields=[("x-weft-version", "1.0"), ("x-weft-target", "none")], body=b"hi")) == (200, b"hi")
        s, i = o.streams()[0]
        assert not [n for n, _ in s.heads[i] if n.startswith("x-weft")] and s.get(i, "x-forwarded-for") == [ground.other.ip4]


def test_a_stranger_that_floods_with_resets_is_cut_off_and_one_whose_calls_are_served_is_not(ground):
    with ground.origin(lambda c, sid: c.respond(sid, body=b"ok") if dict(c.heads[sid])[":path"] == "/" else None, when="head"):
        with H2Peer(ground.other.connect(ground.calc.host.ip4, UNDECLARED)) as c:
            with pytest.raises((EOFError, OSError)):
                for _ in range(2000):
                    c.reset(c.request(path="/wait"), 8)
                c.until(lambda: False)
        with H2Peer(ground.other.connect(ground.calc.host.ip4, UNDECLARED)) as c:
            for _ in range(600):
                c.reset(c.request(path="/wait"), 8)
                assert c.answer(c.request()) == (200, b"ok")

# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 that is odd but legal, too much of it: the connection ends with its own reason, nothing but what is allowed goes up, and who is
merely busy is served. From an application, from outside the mesh, and from a sidecar with a certificate: all three the same."""

import os
import threading

import pytest
from conftest import missing
from harness.flood import FLOODS, HOLD, MADE, BOMB, POST, stream
from harness.h2peer import H2Origin
from harness.h2raw import (ACK, DATA, END_HEADERS, END_STREAM, PADDED, PING, PRIORITY, PRIORITY_UPDATE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
                           Raw, block, frame, head, headers, indexed, literal, u32)
from harness.mesh import FileMesh
from harness.netns import Net, wait_until
from harness.relay import client_context

PORT, QUICK = 7000, 7001
CALM = 11  # ENHANCE_YOUR_CALM
WHO = ["outside", "application", "sidecar"]


class Ground:
    def __init__(self, net, tmp):
        self.mesh = m = FileMesh(net, tmp)
        self.calc = m.workload(net.host("calc"), "calc", ports=f"{PORT}/http2,{QUICK}/http2")
        self.web = m.workload(net.host("web"), "web")
        self.other = net.host("outside")
        self.vip = m.service("calc", {PORT: (PORT, "http2"), QUICK: (QUICK, "http2")}, [self.calc])[0]
        self.calc.host.popen(["nghttpd", "--no-tls", "--htdocs", str(tmp), str(QUICK)])
        self.calc.host.wait_port(QUICK)
        m.start()
        self.tls = client_context(m.ca.leaf("shop", "peer"), tmp)
        self.seen, self.most, self.open = 0, 0, set()
        self.origin = H2Origin(self.calc.host, PORT, self.serve, when="head")

    def serve(self, c, sid):
        """Counts; / is answered, /hold never."""
        self.seen += 1
        self.open = {(k, s) for k, s in self.open if s not in k.resets and not k.at_end} | {(c, sid)}
        self.most = max(self.most, len(self.open))
        if dict(c.heads[sid])[":path"] == "/":
            c.respond(sid, body=b"x" * 1000)
            self.open.discard((c, sid))

    def dial(self, who, port=PORT, **kw):
        if who == "application":
            return Raw(self.web.host.connect(self.vip, port), **kw)
        return Raw(self.other.connect(self.calc.host.ip4, port), tls=self.tls if who == "sidecar" else None, **kw)

    def ended(self, who, reason):
        """How many connections of such a peer ended so."""
        w, direction = (self.web, "outbound") if who == "application" else (self.calc, "inbound")
        return w.metric("weft_connections_closed_total", direction=direction, secured="yes" if who == "sidecar" else "no", reason=reason)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net:
        g = Ground(net, tmp_path_factory.mktemp("floods"))
        with g.mesh:
            yield g
        g.origin.close()


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_is_cut_off_with_its_own_reason_and_hardly_anything_goes_up(ground, what, who):
    _, reason, n, one, first = FLOODS[what]
    before, seen = ground.ended(who, reason), ground.seen
    with ground.dial(who) as c:
        c.go(first + b"".join(map(one, range(n))))
        c.until_closed()
        assert c.goaway == CALM
    wait_until(lambda: ground.ended(who, reason) == before + 1, 5, f"a connection that ended with {reason}")
    assert ground.seen - seen <= first.count(b"/hold")


@pytest.mark.parametrize("what", MADE)
def test_making_the_server_reset_is_a_flood_of_resets(ground, what):
    before, seen, ground.most = ground.ended("outside", "flood_made_reset"), ground.seen, 0
    with ground.dial("outside") as c:
        c.until(lambda: c.acks)
        c.go(frame(SETTINGS, ACK))
        for at in range(0, 400, 50):
            if not c.go(b"".join(MADE[what](i) for i in range(at, at + 50)), lambda: len(c.resets) >= at + 50 or c.goaway is not None):
                break
        c.until_closed()
        assert c.goaway == CALM and len(c.resets) <= 260
    wait_until(lambda: ground.ended("outside", "flood_made_reset") == before + 1, 5, "the reason")
    assert ground.seen - seen <= 260 and ground.most <= 100


def test_opening_more_streams_than_allowed_ends_the_connection(ground):
    """Before it has confirmed the limit a peer is only refused (and each refusal is a reset that it made); after, it breaks the protocol."""
    many = b"".join(headers(stream(i), HOLD) for i in range(400))
    for confirmed, reason, code in ((False, "flood_made_reset", CALM), (True, "peer_protocol", 1)):
        before, ground.most = ground.ended("outside", reason), 0
        with ground.dial("outside") as c:
            c.until(lambda: c.acks)
            c.go((frame(SETTINGS, ACK) if confirmed else b"") + many)
            c.until_closed()
            assert c.goaway == code
        wait_until(lambda: ground.ended("outside", reason) == before + 1, 5, reason)
        assert ground.most <= 100


def flood_of_resets(c, n):
    """HEADERS and RST_STREAM, n times at most; False when it was cut off."""
    for at in range(0, n, 500):
        data = b"".join(headers(stream(i), HOLD) + frame(RST_STREAM, 0, stream(i), u32(8)) for i in range(at, min(n, at + 500)))
        if not c.go(data):
            return False
    return True


def test_rapid_reset_from_outside_is_cut_off_after_200(ground):
    before, seen, ground.most = ground.ended("outside", "flood_reset"), ground.seen, 0
    with ground.dial("outside") as c:
        flood_of_resets(c, 400)
        c.until_closed()
        assert c.goaway == CALM
    wait_until(lambda: ground.ended("outside", "flood_reset") == before + 1, 5, "the reason")
    assert ground.seen - seen <= 260 and ground.most <= 100


@pytest.mark.parametrize("how", ["reset", "made to reset"])
@pytest.mark.parametrize("who", ["application", "sidecar"])
def test_rapid_reset_of_a_sidecar_or_the_own_application_is_cut_off_after_10000(ground, who, how):
    reason = "flood_reset" if how == "reset" else "flood_made_reset"
    before = ground.ended(who, reason)
    with ground.dial(who, QUICK) as c:
        if how == "reset":
            flood_of_resets(c, 20000)
        else:
            c.go(b"".join(headers(stream(i), HOLD[:3]) for i in range(20000)))
        c.until_closed()
        assert c.goaway == CALM
    wait_until(lambda: ground.ended(who, reason) == before + 1, 5, reason)


# One is enough: reason, GOAWAY's code, and the bytes.
BROKEN = {
    "WINDOW_UPDATE of nothing": (1, frame(WINDOW_UPDATE, 0, 0, u32(0))),
    "a window of the connection that overflows": (3, frame(WINDOW_UPDATE, 0, 0, u32(2**31 - 1))),
    "a first window beyond 2^31": (3, frame(SETTINGS, 0, 0, b"\0\4" + u32(2**31))),
    "a stream that depends on itself": (1, frame(PRIORITY, 0, 5, u32(5) + b"\x10")),
    "a frame of 16,385 bytes": (6, headers(1, POST, end=False) + frame(DATA, 0, 1, bytes(16385))),
    "SETTINGS that answer none": (1, frame(SETTINGS, ACK) + frame(SETTINGS, ACK)),
    "push from a client": (1, frame(5, END_HEADERS, 1, u32(2) + block(HOLD))),
    "DATA behind its end": (5, headers(1, HOLD) + frame(DATA, 0, 1, b"x")),
    "a table that was never agreed": (9, headers(1, b"\x3f\xe1\xff\x03" + block(HOLD))),
    "a field that is not in the table": (9, headers(1, block(HOLD) + indexed(99))),
    "the last stream id, then a lower one": (1, headers(2**31 - 1, HOLD) + headers(1, HOLD)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_the_protocol_ends_the_connection_and_what_follows_is_not_read(ground, what):
    """With nothing behind it, for the code; then with every kind of frame behind it, which nobody may look at any more (H2-13)."""
    code, data = BROKEN[what]
    junk = b"".join(frame(k, 0xFF, 1, bytes(7)) + headers(stream(k + 5), HOLD) for k in range(20)) * 5
    for behind in (b"", junk):
        before, seen = ground.ended("outside", "peer_protocol"), ground.seen
        with ground.dial("outside") as c:
            c.go(data + behind)
            c.until_closed()
            assert c.goaway == code or (behind and c.goaway)
        wait_until(lambda: ground.ended("outside", "peer_protocol") == before + 1, 5, "the reason")
        assert ground.seen - seen <= 1


def test_the_last_stream_id_is_served_and_the_next_connection_too(ground):
    for sid in (2**31 - 1, 1):
        with ground.dial("outside") as c:
            c.go(headers(sid, head("/")), lambda: sid in c.ended)
            assert c.heads[sid][:1] == b"\x88" and c.goaway is None


@pytest.mark.parametrize("what", ["one field 20 times", "cookie crumbs", "many fields"])
def test_a_head_that_unpacks_to_too_much_is_431_and_only_that(ground, what):
    big = {"one field 20 times": BOMB, "cookie crumbs": block(head("/hold")) + literal("cookie", "a=b" * 300, index=True) + indexed(62) * 126,
           "many fields": block(head("/hold") + [("a", "b")] * 140)}[what]
    seen = ground.seen
    with ground.dial("outside") as c:
        c.go(headers(1, big) + headers(3, head("/")), lambda: {1, 3} <= c.ended)
        # 431 is not in the static table: the name's index 8, then the value.
        assert c.heads[1][0] & 0x0F == 8 and b"431" in _text(c.heads[1]) and c.heads[3][:1] == b"\x88"
        assert c.goaway is None
    assert ground.seen == seen + 1


def _text(value):
    """The first field's value of a header block; it may be Huffman-coded."""
    import hpack
    return hpack.Decoder().decode(value)[0][1].encode()


@pytest.mark.parametrize("who", WHO)
def test_a_busy_client_that_is_odd_in_every_way_is_served(ground, who):
    """On one connection: a hundred requests, each with a PRIORITY_UPDATE, a PRIORITY, a PING of gRPC's, a small window given back in
    drops, padding, an empty DATA frame that ends the body, and one in two given up; SETTINGS again and again. Nobody is hurt."""
    with ground.dial(who, settings=b"\0\4" + u32(300)) as c:
        c.until(lambda: c.acks)
        c.go(frame(SETTINGS, ACK))
        for i in range(100):
            a, b = stream(2 * i), stream(2 * i + 1)
            c.go(headers(a, head("/", "POST"), end=False) + frame(DATA, PADDED, a, b"\x03abc\0\0\0") + frame(DATA, END_STREAM, a)
                 + frame(PRIORITY_UPDATE, 0, 0, u32(a) + b"u=1") + frame(PRIORITY, 0, a, u32(0) + b"\x10")
                 + headers(b, HOLD) + frame(RST_STREAM, 0, b, u32(8)) + (frame(PING, 0, 0, bytes(8)) if i % 2 else frame(SETTINGS)))
            while c.bytes.get(a, 0) < 1000:
                had = c.bytes.get(a, 0)
                c.go(frame(WINDOW_UPDATE, 0, a, u32(150)) + frame(WINDOW_UPDATE, 0, 0, u32(150)),
                     lambda: c.bytes.get(a, 0) >= min(had + 150, 1000))
                assert not c.closed, (i, c.goaway)
            assert c.until(lambda: a in c.ended)
        assert c.goaway is None and not c.resets and c.pongs == 50

# SPDX-License-Identifier: Apache-2.0
"""The TLS of the hop against who does not speak it as sidecars do: slow, cut in pieces, broken off, out of turn, too much. What is legal is
served however it is spelt; the rest is refused with its reason, nothing reaches the application, and nobody waits for it."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading
import time

import pytest
from conftest import missing, need_tool
from cryptography import x509
from harness.h2raw import PREFACE, SETTINGS, Raw, frame, head, headers
from harness.http1 import Origin, Peer
from harness.truncating import Truncating
from harness.mesh import FileMesh
from harness.netns import Net, wait_until
from harness.relay import client_context

HTTP, TCP, STOLEN_TCP = 8080, 9000, 9443
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    tmp = tmp_path_factory.mktemp("tls")
    with Net() as net, FileMesh(net, tmp) as m:
        m.orders = m.workload(net.host("a"), "orders", ports=f"{HTTP}/http,{TCP}/tcp")
        m.web = m.workload(net.host("b"), "web")
        m.peer = net.host("c")
        m.stolen = m.service("stolen", {90: (STOLEN_TCP, "tcp")}, [(m.peer.ip4, m.orders.identity)])[0]
        m.start()
        m.leaf = m.ca.leaf("shop", "peer")
        m.tls = client_context(m.leaf, tmp)
        with Origin(m.orders.host, HTTP, serve) as m.http, Origin(m.orders.host, TCP, echo) as m.tcp:
            yield m


def serve(p):
    with contextlib.suppress(OSError):
        while p.read():
            p.send(OK)


def echo(p):
    with contextlib.suppress(OSError):
        while data := p.some():
            p.send(data)


def dial(mesh, port=HTTP):
    return mesh.peer.connect(mesh.orders.host.ip4, port)


def ended(mesh, reason, secured="no"):
    return mesh.orders.metric("weft_connections_closed_total", direction="inbound", secured=secured, reason=reason)


class Pair:
    """TLS in memory over a socket: each flight of ours can be sent in any way. `hello` is the first."""

    def __init__(self, sock, context, **kw):
        self.sock, self.come, self.go = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.sock.settimeout(5)
        self.tls = context.wrap_bio(self.come, self.go, **kw)
        self.step()
        self.hello = self.go.read()

    def step(self):
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False

    def finish(self, send):
        """The rest of the handshake; send(bytes) sends ours."""
        while not self.step():
            if out := self.go.read():
                send(out)
            data = self.sock.recv(65536)
            assert data, "refused"
            self.come.write(data)
        send(self.go.read())

    def ask(self):
        """A request over it; True when it was answered with 200."""
        self.tls.write(PREFACE + frame(SETTINGS) + headers(1, head("/")))
        self.sock.sendall(self.go.read())
        got = b""
        while b"\x88" not in got:
            data = self.sock.recv(65536)
            if not data:
                return False
            self.come.write(data)
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    got += self.tls.read(65536)
        return True


def records(data):
    """[(type, payload)] of TLS records."""
    out = []
    while data:
        n = int.from_bytes(data[3:5], "big")
        out.append((data[0], data[5:5 + n]))
        data = data[5 + n:]
    return out


def record(kind, payload):
    return bytes((kind, 3, 1)) + len(payload).to_bytes(2, "big") + payload


def each_byte(sock):
    def send(data):
        for i in range(len(data)):
            sock.sendall(data[i:i + 1])
    return send


def test_a_handshake_that_comes_byte_by_byte_is_served(mesh):
    with dial(mesh) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        p = Pair(s, mesh.tls)
        each_byte(s)(p.hello)
        p.finish(each_byte(s))
        assert p.ask()


@pytest.mark.parametrize("size", [1, 3, 5, 40, 200])
def test_a_client_hello_in_many_records_is_served(mesh, size):
    """Fragments of the handshake message, as TLS allows; and cut between any two bytes of it."""
    with dial(mesh) as s:
        p = Pair(s, mesh.tls)
        (kind, hello), = records(p.hello)
        s.sendall(b"".join(record(kind, hello[i:i + size]) for i in range(0, len(hello), size)))
        p.finish(s.sendall)
        assert p.ask()
    if size == 200:
        for cut in range(1, len(p.hello), 13):
            with dial(mesh) as s:
                p = Pair(s, mesh.tls)
                s.sendall(p.hello[:cut])
                time.sleep(0.002)
                s.sendall(p.hello[cut:])
                p.finish(s.sendall)


def test_a_hello_that_offers_other_protocols_too_is_served_and_one_without_ours_is_the_applications_own(mesh, tmp_path):
    before, seen = ended(mesh, "tls_failed"), len(mesh.tcp.seen)
    with dial(mesh) as s:
        p = Pair(s, client_context(mesh.leaf, tmp_path, ["http/1.1", "weft1-h2", "h2"]))
        s.sendall(p.hello)
        p.finish(s.sendall)
        assert p.tls.selected_alpn_protocol() == "weft1-h2" and p.ask()
    for alpn in (None, "h2", "weft1", "weft1-h2x"):
        with dial(mesh, TCP) as s:
            p = Pair(s, client_context(mesh.leaf, tmp_path, alpn))
            s.sendall(p.hello)
            assert s.recv(len(p.hello)) == p.hello, "the application's echo: nobody but it was to read that"
    assert ended(mesh, "tls_failed") == before and len(mesh.tcp.seen) == seen + 4


def with_alpn(hello, body):
    """The ClientHello with another body of its ALPN extension; lengths around it corrected."""
    (_, message), = records(hello)
    at = message.index(b"\x00\x10" + (11).to_bytes(2, "big") + (9).to_bytes(2, "big") + b"\x08weft1-h2")
    message = message[:at + 2] + len(body).to_bytes(2, "big") + body + message[at + 15:]
    grown = len(body) - 11
    i = 4 + 2 + 32
    i += 1 + message[i]
    i += 2 + int.from_bytes(message[i:i + 2], "big")
    i += 1 + message[i]
    exts = int.from_bytes(message[i:i + 2], "big") + grown
    message = message[:i] + exts.to_bytes(2, "big") + message[i + 2:]
    return record(22, message[:1] + (len(message) - 4).to_bytes(3, "big") + message[4:])


@pytest.mark.parametrize("body", [
    b"\0\x0a\x08weft1-h2\0",  # an empty name behind ours
    b"\0\x0a\0\x08weft1-h2",  # and before it
    b"\0\x0b\x08weft1-h2\x05a",  # the last one is cut
    b"\0\x09\x08weft1-h2\0\0",  # more than the list says
    b"\0\0",
    b"",
    b"\0\x01\0",
    b"\0\x09\x09weft1-h2",
])
def test_a_broken_list_of_protocols_is_never_a_peer(mesh, body):
    with dial(mesh) as s:
        p = Pair(s, mesh.tls)
        s.sendall(with_alpn(p.hello, body))
        got = b""
        with contextlib.suppress(OSError):  # it may have been refused, and the connection reset, already
            s.shutdown(socket.SHUT_WR)
            while data := s.recv(4096):
                got += data
        # An alert of TLS, an error or the silence of the application behind; no ServerHello of ours.
        assert not got.startswith(b"\x16")


def test_what_breaks_off_a_handshake_is_tls_failed_and_soon_over(mesh):
    """An alert, warnings, a record of another kind, one too large, an older version within, nothing but the end: each after ServerHello."""
    broken = {
        "fatal alert": record(21, b"\x02\x28"),
        "warnings": record(21, b"\x01\x5a") * 20,
        "application data": record(23, bytes(40)),
        "a record of 20,000 bytes": record(23, bytes(20000)),
        "change cipher spec for ever": record(20, b"\x01") * 100,
        "renegotiation": record(22, b"\x01\0\0\x02\x03\x03"),
        "an empty record": record(22, b"") * 50,
        "the end": b"",
    }
    before, seen = ended(mesh, "tls_failed"), len(mesh.http.seen)
    for what, data in broken.items():
        with dial(mesh) as s:
            p = Pair(s, mesh.tls)
            s.sendall(p.hello)
            assert s.recv(1) == b"\x16", what
            with contextlib.suppress(OSError):
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while s.recv(65536):
                    pass
    wait_until(lambda: ended(mesh, "tls_failed") == before + len(broken), 5, f"{len(broken)} ends")
    assert len(mesh.http.seen) == seen


def test_a_certificate_list_that_is_too_large_or_too_long_is_refused_without_work(mesh, tmp_path):
    """4,000 names, 80 KiB; and a chain of 40. Neither is looked at: 16 KiB is all that is taken."""
    many = mesh.ca.leaf("shop", "peer", others=[x509.DNSName(f"name-{i:05}.example") for i in range(4000)])
    long = mesh.ca.leaf("shop", "peer")
    long.cert += mesh.ca.leaf("shop", "peer").cert.split("-----END CERTIFICATE-----\n", 1)[1] * 40
    for bad in (many, long):
        before, seen = ended(mesh, "tls_failed"), len(mesh.http.seen)
        with pytest.raises(OSError):
            with client_context(bad, tmp_path).wrap_socket(dial(mesh)) as t:
                t.sendall(PREFACE)
                while t.recv(4096):
                    pass
                raise OSError("closed")
        wait_until(lambda: ended(mesh, "tls_failed") == before + 1, 5, "the refusal")
        assert len(mesh.http.seen) == seen


def test_there_are_no_tickets_and_a_session_that_is_offered_is_not_resumed(mesh, tmp_path):
    """Full handshakes only: a session of another server with the same key is offered, and the certificate is asked for all the same."""
    context = client_context(mesh.leaf, tmp_path)
    crt, key, _ = mesh.leaf.write(tmp_path, "ticketing")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(crt, key)
    server.set_alpn_protocols(["weft1-h2"])
    a, b = socket.socketpair()
    t = threading.Thread(target=lambda: (s := server.wrap_socket(b, server_side=True), s.sendall(b"x"), s.recv(1)), daemon=True)
    t.start()
    with context.wrap_socket(a) as c:
        assert c.recv(1) == b"x" and c.session.has_ticket
        ticket = c.session
        c.sendall(b"x")
    t.join(5)
    for session in (None, ticket):
        with context.wrap_socket(dial(mesh), session=session) as c:
            c.sendall(PREFACE + frame(SETTINGS))
            assert c.recv(100) and not c.session_reused and c.version() == "TLSv1.3"
            assert not c.session.has_ticket


def test_early_data_is_refused(mesh, tmp_path):
    """A client that sends a request within its ClientHello's flight, with a ticket of somebody else that allows it."""
    need_tool("openssl")
    crt, key, _ = mesh.leaf.write(tmp_path, "early")
    server = mesh.peer.popen(["openssl", "s_server", "-tls1_3", "-cert", crt, "-key", key, "-alpn", "weft1-h2", "-early_data", "-port", "4433",
                              "-max_early_data", "16384"], stdin=subprocess.PIPE)
    server.wait_output("ACCEPT")
    issuer = tmp_path / "issuer.crt"  # s_client does not send what stands behind the leaf in its file
    issuer.write_text("-----BEGIN" + mesh.leaf.cert.split("-----BEGIN")[2])
    client = ["openssl", "s_client", "-tls1_3", "-alpn", "weft1-h2", "-cert", crt, "-cert_chain", str(issuer), "-key", key]
    saved = mesh.peer.popen([*client, "-connect", "127.0.0.1:4433", "-sess_out", str(tmp_path / "session")], stdin=subprocess.PIPE)
    wait_until(lambda: (tmp_path / "session").exists() and (tmp_path / "session").stat().st_size > 0, 5, "a ticket")
    saved.popen.stdin.close()
    saved.wait()
    early = tmp_path / "early.bin"
    early.write_bytes(PREFACE + frame(SETTINGS) + headers(1, head("/early")))
    before = ended(mesh, "tls_failed")
    offer = mesh.peer.popen([*client, "-connect", f"{mesh.orders.host.ip4}:{HTTP}", "-sess_in", str(tmp_path / "session"), "-early_data", str(early)],
                            stdin=subprocess.PIPE)
    offer.wait_output("Early data was rejected")
    wait_until(lambda: ended(mesh, "tls_failed") == before + 1, 5, "the end of who sent it all the same")
    offer.popen.stdin.close()
    offer.wait()
    assert b"/early" not in mesh.http.received()


def test_keys_that_are_changed_all_the_time_are_flood_tls(mesh, tmp_path):
    need_tool("openssl")
    crt, key, _ = mesh.leaf.write(tmp_path, "keys")
    issuer = tmp_path / "issuer.crt"  # s_client does not send what stands behind the leaf in its file
    issuer.write_text("-----BEGIN" + mesh.leaf.cert.split("-----BEGIN")[2])
    before = ended(mesh, "flood_tls", "yes")
    c = mesh.peer.popen(["openssl", "s_client", "-tls1_3", "-alpn", "weft1-tcp", "-cert", crt, "-cert_chain", str(issuer), "-key", key,
                         "-connect", f"{mesh.orders.host.ip4}:{TCP}"],
                        stdin=subprocess.PIPE)
    c.wait_output("Verify return code")
    with contextlib.suppress(BrokenPipeError):
        for _ in range(200):
            for line in (b"K\n", b"x\n"):  # a line read by itself is a command; the next write sends it
                c.popen.stdin.write(line)
                c.popen.stdin.flush()
                time.sleep(0.005)
            if not c.alive():
                break
        c.popen.stdin.close()
    c.wait()
    wait_until(lambda: ended(mesh, "flood_tls", "yes") == before + 1, 5, "the reason")


def test_bytes_that_end_without_close_notify_never_look_complete(mesh):
    """Either way: what a sidecar's TLS cut off, somebody on the way may have cut off. The other side sees a reset, never an orderly end."""
    with contextlib.closing(client_context(mesh.leaf, mesh.tmp, "weft1-tcp").wrap_socket(dial(mesh, TCP))) as t:
        n = len(mesh.tcp.seen)
        t.sendall(b"half of it")
        assert t.recv(100) == b"half of it"
        os.close(t.detach())
    wait_until(lambda: mesh.tcp.seen[n - 1 if len(mesh.tcp.seen) == n else n].sock.fileno() < 0, 5, "its end at the application")
    last = mesh.tcp.seen[-1]
    assert bytes(last.received) == b"half of it" and not last.at_end, "an orderly end was seen"
    with Truncating(mesh.peer, STOLEN_TCP, mesh.ca.leaf("shop", "orders"), mesh.tmp, b"half of it"):
        with Peer(mesh.web.host.connect(mesh.stolen, 90), 5) as c:
            c.send(b"x")
            with pytest.raises(ConnectionResetError):
                while c.some():
                    pass


def test_slow_peers_are_let_go_in_time_and_each_for_its_own_reason(mesh):
    """All at once, each on its own connection: a handshake that stops, one that trickles, HTTP/2 without preface, a head that does not end, half a frame."""
    handshakes, heads = ended(mesh, "handshake_timeout"), ended(mesh, "head_timeout", "yes")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(dial(mesh))
        silent.sendall(Pair(silent, mesh.tls).hello)
        slow = stack.enter_context(dial(mesh))
        slow.sendall(Pair(slow, mesh.tls).hello)
        no_preface = stack.enter_context(mesh.tls.wrap_socket(dial(mesh)))
        head_open = stack.enter_context(Raw(dial(mesh), tls=mesh.tls))
        head_open.go(headers(1, head("/")[:3], flags=0))
        half = stack.enter_context(Raw(dial(mesh), tls=mesh.tls))
        half.go(frame(SETTINGS, 0, 0, bytes(6))[:12])
        quick = stack.enter_context(Raw(dial(mesh), tls=mesh.tls))
        trickle = b"\x17\x03\x03\x01\0" + bytes(256)
        for i in range(8):
            with contextlib.suppress(OSError):
                slow.sendall(trickle[i:i + 1])
            quick.go(headers(2 * i + 1, head("/")), lambda: 2 * i + 1 in quick.ended)
            time.sleep(1)
        no_preface.settimeout(10)
        with contextlib.suppress(OSError):
            while no_preface.recv(4096):
                pass
        wait_until(lambda: ended(mesh, "handshake_timeout") == handshakes + 2 and ended(mesh, "head_timeout", "yes") == heads + 3, 8, "five ends")
        assert 9 < time.monotonic() - began < 15
        assert quick.go(headers(101, head("/")), lambda: 101 in quick.ended), "who is not slow stays"


def test_a_flood_of_handshakes_has_its_bound_and_who_is_connected_notices_nothing(mesh):
    """400 ClientHellos at once from many connections that then say nothing: 128 handshakes at most are open; those that wait push the oldest
    out; a new peer gets its turn, and a connection that is open is served meanwhile."""
    evicted = ended(mesh, "handshake_overflow")
    with contextlib.ExitStack() as stack:
        quick = stack.enter_context(Raw(dial(mesh), tls=mesh.tls))
        quick.go(headers(1, head("/")), lambda: 1 in quick.ended)
        idle = [stack.enter_context(dial(mesh)) for _ in range(400)]
        for s in idle:
            s.sendall(Pair(s, mesh.tls).hello)
        most, sid = 0, 3
        end = time.monotonic() + 10
        while ended(mesh, "handshake_overflow") < evicted + 100:
            assert time.monotonic() < end, "the flood was not pushed out"
            most = max(most, mesh.orders.metric("weft_handshakes"))
            quick.go(headers(sid, head("/")), lambda: sid in quick.ended)
            sid += 2
        assert 100 <= most <= 128
        new = stack.enter_context(Raw(dial(mesh), tls=mesh.tls))
        assert new.go(headers(1, head("/")), lambda: 1 in new.ended)
    wait_until(lambda: mesh.orders.metric("weft_handshakes") == mesh.orders.metric("weft_handshakes_waiting") == 0, 12, "all over")

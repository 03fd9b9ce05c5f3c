# SPDX-License-Identifier: Apache-2.0
"""Opaque TCP through two sidecars: the bytes, the ends, the addresses, as without a mesh."""

import contextlib
import hashlib
import json
import os
import secrets
import socket
import threading
import time

import pytest
from conftest import missing, need_tool
from harness.http1 import Origin, Peer
from harness.memory import Watch
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

PORT, REDIS, CLOSED = 9000, 6379, 9001


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net, FileMesh(net, tmp_path_factory.mktemp("tcp")) as m:
        orders = m.workload(net.host("a"), "orders", ports=f"{PORT}/tcp,{REDIS}/tcp,{CLOSED}/tcp")
        web = m.workload(net.host("b"), "web")
        m.vips = m.service("orders", {p: (p, "tcp") for p in (PORT, REDIS, CLOSED)}, [orders])
        m.start()
        m.orders, m.web = orders, web
        yield m


def echo(p):
    with contextlib.suppress(OSError):
        while data := p.sock.recv(65536):
            p.sock.sendall(data)


def dial(mesh, address=None, **kw):
    return mesh.web.host.connect(address or mesh.vips[0], PORT, **kw)


def addresses(mesh):
    host = mesh.orders.host
    return {"vip4": mesh.vips[0], "vip6": mesh.vips[1], "pod4": host.ip4, "pod6": host.ip6}


@pytest.mark.parametrize("way", ["vip4", "vip6", "pod4", "pod6"])
def test_bytes_come_back_as_they_went(mesh, way):
    marker = secrets.token_bytes(40000)
    wire = mesh.net.sniff("tcp")
    with Origin(mesh.orders.host, PORT, echo), Peer(dial(mesh, addresses(mesh)[way])) as c:
        c.send(marker)
        assert c.exactly(len(marker)) == marker
    assert not wire.contains(marker[:500])


def test_a_server_that_speaks_first_is_heard_at_once(mesh):
    with Origin(mesh.orders.host, PORT, lambda p: (p.send(b"220 ready\r\n"), p.rest())):
        began = time.monotonic()
        with Peer(dial(mesh)) as c:
            assert c.exactly(11) == b"220 ready\r\n"
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("way", ["vip4", "pod4", "pod6"])
def test_accept_shows_the_real_clients_address(mesh, way):
    with Origin(mesh.orders.host, PORT, echo) as o, Peer(dial(mesh, addresses(mesh)[way])) as c:
        c.send(b"x")
        c.exactly(1)
        web = mesh.web.host
        want = web.ip6 if way == "pod6" else f"::ffff:{web.ip4}"
        assert o.last_client[0] == want
        assert o.seen[0].sock.getpeername()[0] == want
        assert c.sock.getpeername()[:2] == (addresses(mesh)[way], PORT)


def test_accept_shows_the_port_that_a_client_had_bound_for_reuse(mesh):
    source = (mesh.web.host.ip4, 34567)
    with mesh.web.host.inside():
        s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(source)
    with Origin(mesh.orders.host, PORT, echo) as o, Peer(s, 5) as c:
        s.connect((mesh.orders.host.ip4, PORT))
        c.send(b"x")
        c.exactly(1)
        assert o.last_client[:2] == (f"::ffff:{source[0]}", source[1])


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_close_is_passed_on_and_the_other_half_goes_on(mesh, first):
    def behave(p):
        if first == "client":
            assert p.rest() == b"question"
            p.send(b"answer")
        else:
            p.send(b"answer").fin()
            assert p.rest() == b"question"
            done.set()

    done = threading.Event()
    with Origin(mesh.orders.host, PORT, behave) as o, Peer(dial(mesh)) as c:
        if first == "client":
            c.send(b"question").fin()
            assert c.rest() == b"answer"
        else:
            assert c.rest() == b"answer"
            c.send(b"question").fin()
            assert done.wait(5)
    assert not o.errors


def test_a_reset_by_the_application_is_a_reset_at_the_client(mesh):
    def behave(p):
        p.sock.recv(100)
        p.reset()

    with Origin(mesh.orders.host, PORT, behave), Peer(dial(mesh)) as c:
        c.send(b"x")
        with pytest.raises(ConnectionResetError):
            c.sock.recv(100)


def test_a_reset_by_the_client_is_a_reset_at_the_application(mesh):
    result = []

    def behave(p):
        p.sock.recv(100)
        p.send(b"y")
        try:
            result.append(p.sock.recv(100))
        except ConnectionResetError:
            result.append("reset")

    with Origin(mesh.orders.host, PORT, behave):
        c = Peer(dial(mesh))
        c.send(b"x")
        assert c.exactly(1) == b"y"  # it has come through: a reset that overtook it would be fair
        c.reset()
        wait_until(lambda: result, 5, "the end at the application")
    assert result == ["reset"]


def test_a_port_where_nobody_listens_is_a_reset_not_an_end(mesh):
    with pytest.raises(ConnectionResetError), mesh.web.host.connect(mesh.vips[0], CLOSED) as s:
        s.sendall(b"hello")
        while s.recv(100):
            pass


def test_a_leg_that_is_refused_leaves_no_note_behind(mesh):
    """The note that names the client to the application is taken away by who accepts, and taken back where nobody does."""
    need_tool("bpftool")

    def notes():
        r = mesh.web.host.run(["bpftool", "-j", "map", "dump", "pinned", f"{mesh.pin_dir}/pending"])
        return len(json.loads(r.stdout))
    before = notes()
    for address in mesh.vips * 5:
        with contextlib.suppress(ConnectionResetError), mesh.web.host.connect(address, CLOSED) as s:
            s.sendall(b"hello")
            assert s.recv(100) == b""
    assert notes() <= before


def test_an_undeclared_port_of_a_service_is_refused(mesh):
    with pytest.raises(ConnectionResetError), mesh.web.host.connect(mesh.vips[0], 4242) as s:
        s.recv(1)


def test_200_connections_at_once_keep_their_bytes_apart(mesh):
    words = [secrets.token_bytes(5000) for _ in range(200)]
    with Origin(mesh.orders.host, PORT, echo), contextlib.ExitStack() as stack:
        conns = [stack.enter_context(Peer(dial(mesh))) for _ in words]
        for c, w in zip(conns, words):
            c.send(w)
        for c, w in zip(conns, words):
            assert c.exactly(len(w)) == w


def test_redis_works_and_sees_its_real_client(mesh):
    need_tool("redis-server", "redis-cli")
    server = mesh.orders.host.popen(["redis-server", "--port", str(REDIS), "--save", "", "--protected-mode", "no", "--bind", "*", "-::*"])
    mesh.orders.host.wait_port(REDIS)
    try:
        cli = ["redis-cli", "-h", mesh.vips[0], "-p", str(REDIS)]
        run = lambda *a: mesh.web.host.run([*cli, *a]).stdout.strip()  # noqa: E731
        assert run("ping") == "PONG"
        value = "v" * 300000
        assert mesh.web.host.run([*cli, "-x", "set", "k"], stdin=None, input=value).stdout.strip() == "OK"
        assert run("get", "k") == value
        assert f" addr={mesh.web.host.ip4}:" in run("client", "list")
        script = "".join(f"*3\r\n$3\r\nSET\r\n$2\r\nk{i % 10}\r\n$1\r\n{i % 10}\r\n" for i in range(5000))
        assert "replies: 5000" in mesh.web.host.run([*cli, "--pipe"], stdin=None, input=script).stdout
    finally:
        server.stop()


def test_redis_in_protected_mode_does_not_take_the_mesh_for_localhost(mesh):
    need_tool("redis-server", "redis-cli")
    server = mesh.orders.host.popen(["redis-server", "--port", str(REDIS), "--save", "", "--bind", "*", "-::*"])
    mesh.orders.host.wait_port(REDIS)
    try:
        out = mesh.web.host.run(["redis-cli", "-h", mesh.vips[0], "-p", str(REDIS), "ping"], check=False).stdout
        assert "DENIED Redis is running in protected mode" in out
    finally:
        server.stop()


# --- volume ---

GIB = 1 << 30
BLOCK_SIZE = 32 << 20


def send_all(sock, path, times):
    with open(path, "rb") as f:
        for _ in range(times):
            at = 0
            while at < BLOCK_SIZE:
                at += os.sendfile(sock.fileno(), f.fileno(), at, BLOCK_SIZE - at)


def hash_all(sock):
    h, view = hashlib.sha256(), memoryview(bytearray(1 << 20))
    while n := sock.recv_into(view):
        h.update(view[:n])
    return h.hexdigest()


@pytest.mark.plain(reason="memory and volume are claims about the plain build")
def test_a_gibibyte_both_ways_at_once_is_intact_and_memory_stays_flat(mesh, tmp_path):
    times = GIB // BLOCK_SIZE
    path = tmp_path / "block"
    block = secrets.token_bytes(BLOCK_SIZE)
    path.write_bytes(block)
    want = hashlib.sha256()
    for _ in range(times):
        want.update(block)
    got = {}

    def behave(p):
        p.sock.settimeout(None)
        t = threading.Thread(target=lambda: (send_all(p.sock, path, times), p.fin()))
        t.start()
        got["server"] = hash_all(p.sock)
        t.join()

    with Origin(mesh.orders.host, PORT, behave) as o:
        c = Peer(dial(mesh), None)
        # Buffers and heap get their size with the first bytes; flat is what comes after.
        c.sock.sendall(block[: 1 << 20])
        with Watch(mesh.orders, mesh.web) as w:
            c.sock.sendall(block[1 << 20 :])
            t = threading.Thread(target=lambda: (send_all(c.sock, path, times - 1), c.fin()))
            t.start()
            got["client"] = hash_all(c.sock)
            t.join()
            wait_until(lambda: "server" in got, 30, "the server's sum")
        c.close()
    assert not o.errors
    assert got == {"server": want.hexdigest(), "client": want.hexdigest()}
    assert w.growth_kb() < 2048, (w.first, w.high)


def test_every_connection_of_a_sidecar_to_another_host_has_keep_alive_probes(mesh):
    """A peer that vanished without a word is found: `ss -o` shows the timer on each end. Of the connection to the own application, whose
    kernel is ours, it does not."""
    with Origin(mesh.orders.host, PORT, echo), Peer(dial(mesh)) as c:
        c.send(b"x")
        assert c.exactly(1) == b"x"
        for w, other in ((mesh.web, mesh.orders), (mesh.orders, mesh.web)):
            worker = w.worker()

            def to_the_other():
                lines = w.host.run(["ss", "-tnpoH", "state", "established"]).stdout.splitlines()
                return [line for line in lines if f"pid={worker}," in line and other.host.ip4 in line.split()[3]]
            # A retransmission timer may stand in its place for as long as a segment is on its way.
            wait_until(lambda: to_the_other() and all("timer:(keepalive" in line for line in to_the_other()), 5, f"probes on {to_the_other()}")

# SPDX-License-Identifier: Apache-2.0
"""The supervisor replaces its worker by one of the program that is on the disk now: under load, with streams open, and when the new program is
no good. `WEFT_UPGRADES=20` makes the long form of the first test."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import threading
import time

import pytest
from conftest import need_tool
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh, Mesh, program
from harness.netns import wait_until
from harness.upgrade import Replaceable, children, descriptors, serving, upgrade, upgrade_log, upgraded
from harness.xds import XdsProxy
from test_mesh import Load as MeshLoad
from test_websocket import echo_server, frame, open_websocket, read_frame

HTTP, TCP, WS, HTTP2 = 8080, 9000, 8081, 8082
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADES = int(os.environ.get("WEFT_UPGRADES", "5"))
EXITS = "int main(void) { return 3; }"
HANGS = "#include <unistd.h>\nint main(void) { for (;;) pause(); }"


def answer_all(p):
    with contextlib.suppress(OSError, EOFError):
        while p.read():
            p.send(OK)


def echo(p):
    with contextlib.suppress(OSError):
        while data := p.sock.recv(65536):
            p.sock.sendall(data)


class Ground:
    """web calls orders; both run a program that can be replaced."""

    def __init__(self, net, tmp, *args):
        self.net, self.mesh = net, FileMesh(net, tmp)
        self.binary = Replaceable(tmp / "program", program("weft-proxy"))
        m = self.mesh
        self.orders = m.workload(net.host("a"), "orders", ports=f"{HTTP}/http,{WS}/http,{TCP}/tcp,{HTTP2}/http2")
        self.web = m.workload(net.host("b"), "web")
        self.vip = m.service("orders", {HTTP: (HTTP, "http"), WS: (WS, "http"), TCP: (TCP, "tcp"), HTTP2: (HTTP2, "http2")},
                             [self.orders])[0]
        for w in m.workloads.values():
            m.write(w)
            w.start(ready=False, command=[str(self.binary.path), *m.proxy_args(w), *args])
        for w in m.workloads.values():
            w.wait_ready()

    def dial(self, port=HTTP, timeout=20.0):
        return Peer(self.web.host.connect(self.vip, port), timeout, keep=False)

    def get(self):
        with self.dial() as c:
            return c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").read().status


@pytest.fixture
def ground(request, net, tmp_path):
    g = Ground(net, tmp_path, "--upgrade-timeout", getattr(request, "param", "30s"), "--upgrade-drain", "60s", "--drain", "5s")
    with g.mesh, Origin(g.orders.host, HTTP, answer_all, keep=False), Origin(g.orders.host, WS, echo_server, keep=False), \
            Origin(g.orders.host, TCP, echo, keep=False):
        yield g


class Load:
    """Clients that keep their connections as HTTP/1.1 lets them. What is not 200 is a failure, a connection that ends without having said
    so before as well."""

    def __init__(self, ground, threads=4, body=b""):
        self.ground, self.served, self.failed, self.renewed, self._stop = ground, 0, [], 0, threading.Event()
        self.ask = b"POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self):
        while not self._stop.is_set():
            try:
                with self.ground.dial() as c:
                    while not self._stop.is_set():
                        m = c.send(self.ask).read()
                        if m is None or m.status != 200:
                            self.failed.append(m or "closed")
                            break
                        self.served += 1
                        if b"close" in b",".join(m.get(b"connection")).lower():
                            self.renewed += 1
                            break
            except (OSError, EOFError, TypeError) as e:
                self.failed.append(e)

    def wait_served(self, more):
        target = self.served + more
        wait_until(lambda: self.served >= target, 30, f"{more} more requests (failed: {self.failed[:3]})")

    def __enter__(self):
        for t in self._threads:
            t.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for t in self._threads:
            t.join(25)


class Stream:
    """Blocks of random bytes that have to come back as they went, one after the other, until stopped. `turn(peer, block)` is one of them."""

    def __init__(self, peer, turn):
        self.peer, self.turn, self.turns, self.error, self._stop = peer, turn, 0, None, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            while not self._stop.is_set():
                block = secrets.token_bytes(secrets.randbelow(100_000) + 1)
                assert self.turn(self.peer, block) == block, "other bytes came back"
                self.turns += 1
                self._stop.wait(0.02)
        except Exception as e:
            self.error = e

    def wait_turns(self, more=3):
        target = self.turns + more
        wait_until(lambda: self.error or self.turns >= target, 20, "the stream to go on")
        assert self.error is None, repr(self.error)

    def __enter__(self):
        self._thread.start()
        self.wait_turns()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(20)


def raw_turn(p, block):
    t = threading.Thread(target=lambda: p.send(block))
    t.start()
    got = p.exactly(len(block))
    t.join()
    return got


def websocket_turn(p, block):
    p.send(frame(block))
    return read_frame(p.exactly)[1]


def pss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(row.split()[1]) for row in f if row.startswith("Pss:"))


def test_upgrades_under_load_fail_no_request_and_cut_no_stream(ground):
    g = ground
    both = (g.web, g.orders)
    with g.dial(TCP) as raw, g.dial(WS) as ws:
        open_websocket(ws)
        first = {w.name: serving(w)["worker"]["pid"] for w in both}
        with Load(g) as load, Stream(raw, raw_turn) as s1, Stream(ws, websocket_turn) as s2:
            load.wait_served(50)
            fds, memory = {}, {}
            for n in range(UPGRADES):
                for w in both:
                    g.binary.restore()  # another inode each time
                    pid = upgrade(w)
                    load.wait_served(20)
                    s1.wait_turns(), s2.wait_turns()
                    # The worker before has nothing left but, the first of them, the streams.
                    wait_until(lambda w=w, pid=pid: set(children(w.capture.pid)) == {first[w.name], pid}, 15,
                               f"the end of former workers of {w.name}: {children(w.capture.pid)}")
                    seen = descriptors(w.capture.pid), descriptors(pid)
                    if n == 0:
                        fds[w.name], memory[w.name] = seen, (pss_kb(w.capture.pid), pss_kb(pid))
            for w in both:
                assert descriptors(w.capture.pid) == fds[w.name][0], "descriptors of the supervisor grew"
                assert pss_kb(w.capture.pid) <= memory[w.name][0] + 300, "the supervisor grew"
        assert load.failed == []
        assert load.renewed >= UPGRADES, "no kept connection was told to close"
        assert s1.error is None and s2.error is None
    for w in both:  # the streams were all that held them
        wait_until(lambda w=w: len(children(w.capture.pid)) == 1, 15, f"one worker of {w.name}")
        log = w.log()
        assert log.count(" upgraded ") == UPGRADES and "upgrade_failed" not in log and "worker_died" not in log
    print(f"{load.served} requests, {load.renewed} connections renewed, {s1.turns} and {s2.turns} turns of the streams")


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGUSR2, "admin"])
def test_a_new_version_is_served_by_after_being_asked_for(ground, how):
    g, w = ground, ground.web
    before = serving(w)
    assert before["worker"]["version"] == before["supervisor"]["version"] == g.binary.version
    g.binary.replace(g.binary.versioned("0.0.9"))
    if how == "admin":
        assert "upgraded" in w.admin("/upgrade", "POST")
    else:
        w.capture.signal(how)
    upgraded(w, [before["worker"]["pid"]])
    now = serving(w)
    assert now["worker"]["version"] == "0.0.9" and now["supervisor"] == before["supervisor"]
    line = upgrade_log(w, "upgraded")
    assert 'version="0.0.9"' in line and f'former_version="{g.binary.version}"' in line
    assert g.get() == 200


@pytest.mark.parametrize("what, says", [("exits", "it ended before it was ready, exit status 3"), ("no program", "Exec format error"),
                                        ("gone", "No such file")])
def test_with_a_new_program_that_does_not_serve_the_old_worker_goes_on(ground, what, says):
    g, w = ground, ground.web
    pid = serving(w)["worker"]["pid"]
    if what == "gone":
        g.binary.path.unlink()
    else:
        g.binary.replace(g.binary.compiled(EXITS) if what == "exits" else b"not even a script\n" * 100)
    with Load(g) as load:
        load.wait_served(20)
        answer = w.admin("/upgrade", "POST")
        load.wait_served(20)
    assert not load.failed and load.renewed == 0
    line = upgrade_log(w, "upgrade_failed")
    assert says in line and says in answer and f'serving="{g.binary.version}"' in line
    assert children(w.capture.pid) == [pid] and serving(w)["worker"]["pid"] == pid
    # What crashes now is started again as it was, whatever lies at the path.
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (c := children(w.capture.pid)) and c != [pid], 10, "the same program again")
    w.wait_ready()
    assert g.get() == 200
    g.binary.restore()
    upgrade(w)
    assert g.get() == 200


@pytest.mark.parametrize("ground", ["6s"], indirect=True)
def test_a_new_program_that_hangs_is_ended_and_an_upgrade_asked_for_meanwhile_follows(ground):
    """The file may have changed again meanwhile: what counts is the one that lies there last."""
    g, w = ground, ground.web
    before = children(w.capture.pid)
    g.binary.replace(g.binary.compiled(HANGS))
    began = time.monotonic()
    with Load(g) as load:
        w.capture.signal(signal.SIGUSR2)
        wait_until(lambda: len(children(w.capture.pid)) == 2, 5, "the next worker")
        g.binary.replace(g.binary.versioned("0.0.9"))
        w.capture.signal(signal.SIGUSR2)
        w.capture.signal(signal.SIGHUP)
        # The one that follows begins at once, and closes kept connections in its turn: what was closed before the failure counts here.
        renewed = [0, 0]
        while "upgrade_failed" not in w.log():
            renewed = [renewed[1], load.renewed]
            time.sleep(0.02)
        line = upgrade_log(w, "upgrade_failed")
        assert "it was not ready within 6000 ms" in line and time.monotonic() - began >= 5.9
        assert load.failed == [] and renewed[0] == 0 and load.served > 20
        upgraded(w, before)
    assert load.failed == []
    assert serving(w)["worker"]["version"] == "0.0.9"
    wait_until(lambda: len(children(w.capture.pid)) == 1, 15, "one worker")
    assert w.log().count(" upgrading ") == 2 and g.get() == 200


def test_sigterm_during_an_upgrade_ends_everything(ground):
    g, w = ground, ground.web
    g.binary.replace(g.binary.compiled(HANGS))
    w.capture.signal(signal.SIGUSR2)
    kids = wait_until(lambda: len(c := children(w.capture.pid)) == 2 and c, 5, "the next worker")
    began = time.monotonic()
    w.capture.signal(signal.SIGTERM)
    assert w.capture.wait(20) == 0 and time.monotonic() - began < 15, "it waited for the next worker's time-out"
    assert not any(os.path.exists(f"/proc/{p}") for p in kids)
    assert "upgrade_failed" not in w.log() and "stopped status=0" in w.log()


def test_sigterm_ends_former_workers_within_the_drain(ground):
    """The grace of a former worker is not added to the stop's."""
    g, w = ground, ground.web
    with g.dial(TCP) as c:
        assert raw_turn(c, b"hello") == b"hello"
        upgrade(w)
        assert raw_turn(c, b"still there") == b"still there"
        kids = children(w.capture.pid)
        assert len(kids) == 2
        w.capture.signal(signal.SIGTERM)
        assert w.capture.wait(15) == 0  # --drain 5s, not --upgrade-drain 60s
        with pytest.raises(ConnectionResetError):
            c.rest()
    assert not any(os.path.exists(f"/proc/{p}") for p in kids)


def test_the_grace_of_a_former_worker_is_bounded(net, tmp_path):
    g = Ground(net, tmp_path, "--upgrade-drain", "2s")
    with g.mesh, Origin(g.orders.host, TCP, echo, keep=False), g.dial(TCP) as c, g.dial(TCP) as frozen:
        assert raw_turn(c, b"hello") == b"hello" and raw_turn(frozen, b"hello") == b"hello"
        began = time.monotonic()
        new = upgrade(g.web)
        assert raw_turn(c, b"more") == b"more"
        with contextlib.suppress(ConnectionResetError):
            assert c.rest() == b""
        assert time.monotonic() - began >= 1.9
        wait_until(lambda: children(g.web.capture.pid) == [new], 10, "the former worker's end")
        # One that does not listen any more ends as well.
        os.kill(new, signal.SIGSTOP)
        last = wait_until(lambda: upgrade_stopped(g.web, new), 20, "a successor of a frozen worker")
        wait_until(lambda: children(g.web.capture.pid) == [last], 15, "the frozen worker's end")
        upgrade_log(g.web, "worker_ended", 2)


def upgrade_stopped(w, frozen):
    """The frozen worker accepts nothing: who serves is seen from the supervisor's children."""
    if len(children(w.capture.pid)) == 1:
        w.capture.signal(signal.SIGUSR2)
    now = [p for p in children(w.capture.pid) if p != frozen]
    return now[0] if now and w.log().count(" upgraded ") == 2 else None


def test_with_weftd_the_endpoint_stays_and_no_certificate_is_asked_for(net, tmp_path):
    with Mesh(net, tmp_path) as mesh, contextlib.ExitStack() as stack:
        mesh.start_control(args=("--lease", "3s"))
        binary = Replaceable(tmp_path / "program", program("weft-proxy"))
        orders = mesh.workload(net.host("orders"), "orders-1", sa="orders", labels={"app": "orders"}, ports=f"{HTTP}/http")
        web = mesh.workload(net.host("web"), "web-1", sa="web")
        stack.enter_context(Origin(orders.host, HTTP, answer_all, keep=False))
        for w in (orders, web):
            w.start(ready=False, command=[str(binary.path), *mesh.proxy_args(w)])
        vip = mesh.service("orders", {80: (HTTP, "http")}, {"app": "orders"})[0]
        orders.wait_ready(), web.wait_ready()
        eyes = XdsProxy(net.host("eyes"), mesh, "eyes-1", sa="eyes")
        stack.callback(eyes.close)
        eyes.join(mesh.new_token("shop", "eyes"))
        eyes.open()
        eyes.subscribe("shop/orders", types=("Endpoints",))
        eyes.wait_push("Endpoints", name="shop/orders")
        issued = mesh.weftd.output().count(" issued ")

        load = stack.enter_context(mesh_load(web.host, vip))
        for _ in range(3):
            for w in (orders, web):
                binary.restore()
                upgrade(w)
        wait_until(lambda: all(len(children(w.capture.pid)) == 1 for w in (orders, web)), 20, "the former workers' ends")
        ended = time.monotonic()
        wait_until(lambda: time.monotonic() - ended > 4.5, 10, "more than a lease")
        good, bad, first = load.stop()
        assert good > 100 and bad == 0, (good, bad, first)

        # weftd away: what is kept is enough to take over with.
        mesh.weftd.kill()
        upgrade(orders), upgrade(web)
        assert get_once(web.host, vip) == 200
        assert mesh.weftd.output().count(" issued ") == issued
        assert not re.search(r"(workload_gone|lease_expired)[^\n]*shop/orders-1", mesh.weftd.output())
        seen = [r["body"].get("endpoints") for p in eyes.pushes("Endpoints") for r in p["resources"]]
        assert seen and all(seen) and not [p for p in eyes.pushes("Endpoints") if "shop/orders" in p["removed"]]
        mesh.start_control(args=("--lease", "3s"))
        wait_until(lambda: re.search(r"proxy_joined[^\n]*shop/orders-1", mesh.weftd.output()), 10, "orders is back")
        # A clean stop withdraws it still.
        assert orders.stop() == 0
        wait_until(lambda: re.search(r"workload_gone[^\n]*shop/orders-1", mesh.weftd.output()), 3, "the goodbye")


@contextlib.contextmanager
def mesh_load(host, vip):
    load = MeshLoad(host, vip)
    try:
        yield load
    finally:
        load.proc.stop()


def get_once(host, vip):
    with Peer(host.connect(vip, 80), 10) as c:
        return c.send(b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n").read().status


@pytest.mark.parametrize("version", ["h1", "h2"])
def test_h2load_sees_no_failure(ground, tmp_path, version):
    """HTTP/1.1: its connections are renewed as they are told to close. HTTP/2, where it does not know GOAWAY: the server's sidecar is replaced,
    and the connections between the sidecars are renewed beneath it."""
    need_tool("h2load", "nghttpd")
    g = ground
    (tmp_path / "index.html").write_text("hello")
    g.orders.host.popen(["nghttpd", "--no-tls", "-d", str(tmp_path), str(HTTP2)])
    g.orders.host.wait_port(HTTP2)
    how, port = (["--h1"], HTTP) if version == "h1" else (["-m", "8"], HTTP2)
    load = g.web.host.popen(["h2load", "-n", "8000", "-c", "4", *how, f"http://{g.vip}:{port}/index.html"])
    wait_until(lambda: g.web.metric("weft_requests_total", direction="outbound") > 50, 10, "requests")
    rounds = 0
    while load.alive() and rounds < 20:
        rounds += 1
        upgrade(g.orders)
        if version == "h1":
            upgrade(g.web)
    load.wait(60)
    out = load.output()
    assert "8000 total, 8000 started, 8000 done, 8000 succeeded, 0 failed, 0 errored, 0 timeout" in out, out
    assert rounds >= 2

# SPDX-License-Identifier: Apache-2.0
"""Supervisor and worker of the real sidecar: what they may do, and what the network shows when they die.

That these checks would see plaintext if the capture let it pass is proven by a mutant of the capture in
test_capture_closed.py (test_the_mutant_that_passes_is_found_out)."""

import contextlib
import itertools
import os
import pathlib
import re
import secrets
import signal
import socket
import threading

import pytest
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh
from harness.netns import wait_until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def mesh(net, tmp_path):
    with FileMesh(net, tmp_path) as m:
        m.orders = m.workload(net.host("a"), "orders", ports="8080/http,9000/tcp")
        m.web = m.workload(net.host("b"), "web")
        m.vip = m.service("orders", {8080: (8080, "http"), 9000: (9000, "tcp")}, [m.orders])[0]
        m.start()
        yield m


def answer_all(p):
    with contextlib.suppress(OSError, EOFError):
        while p.read():
            p.send(OK)


def get(mesh, timeout=10.0, body=b"", address=None):
    """One request on a connection of its own; its status."""
    with Peer(mesh.web.host.connect(address or mesh.vip, 8080), timeout) as c:
        c.send(b"POST / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        m = c.read()
        return m.status if m else None


class Load:
    """Requests that carry a marker, from a few threads, each on a new connection, until stopped."""

    def __init__(self, mesh, marker, threads=3):
        self.mesh, self.marker, self.served, self.failed, self._stop = mesh, marker, 0, 0, threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for t in self._threads:
            t.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                ok = get(self.mesh, body=self.marker) == 200
            except (OSError, EOFError, TypeError):
                ok = False
            if ok:
                self.served += 1
            else:
                self.failed += 1

    def wait_served(self, more=5, timeout=20):
        target = self.served + more
        wait_until(lambda: self.served >= target, timeout, f"{more} more requests served (failed so far: {self.failed})")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        for t in self._threads:
            t.join(15)


def status_rows(pid):
    """/proc status of each thread of a process."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        yield dict(row.split(":\t", 1) for row in (task / "status").read_text().splitlines() if ":\t" in row)


@pytest.mark.plain(reason="a sanitizer needs calls that the filter forbids")
def test_no_thread_of_supervisor_or_worker_has_a_right_left_under_traffic(mesh):
    with Origin(mesh.orders.host, 8080, answer_all), Load(mesh, b"x") as load:
        load.wait_served()
        for w in (mesh.orders, mesh.web):
            supervisor, worker = w.pids()
            for pid in (supervisor, worker):
                rows = list(status_rows(pid))
                assert rows
                for r in rows:
                    assert {r[c] for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}, (w.name, pid)
                    assert (r["NoNewPrivs"], r["Seccomp"]) == ("1", "2"), (w.name, pid)
                    assert set(r["Uid"].split() + r["Gid"].split()) == {"4800"} and r["Groups"].strip() in ("", "4800")
        load.wait_served()


@pytest.mark.plain(reason="LeakSanitizer needs a dumpable process")
def test_neither_process_can_be_read_by_its_own_user(mesh):
    for pid in mesh.web.pids():
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0, "not dumpable: /proc belongs to root"
        for what in (f"/proc/{pid}/mem", f"/proc/{pid}/fd", f"/proc/{pid}/environ"):
            r = mesh.web.host.run(["ls" if what.endswith("fd") else "cat", what], check=False, user=4800)
            assert r.returncode and "Permission denied" in r.stdout
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert next(r for r in limits.splitlines() if r.startswith("Max core")).split()[4:6] == ["0", "0"]


def test_both_workers_killed_twenty_times_under_load_leak_nothing_and_serve_on(mesh, net):
    marker = secrets.token_hex(24).encode()
    pair = [mesh.web, mesh.orders]
    supervisors = [w.pids()[0] for w in pair]
    wire = net.sniff("tcp")
    with Origin(mesh.orders.host, 8080, answer_all, keep=False), Load(mesh, marker) as load:
        killed = set()
        for _ in range(20):
            pair.reverse()  # either end first
            for w in pair:
                pid = w.worker()
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            for w in pair:
                wait_until(lambda w=w: (now := w.pids()[1]) and now not in killed, 10, f"a new worker of {w.name}")
            load.wait_served(3)
        assert len(killed) == 40 and [w.pids()[0] for w in pair] == supervisors
        # At once, then after 10 ms, doubling to 1 s and no further; at once again after one that lived for 10 s.
        for w in pair:
            pauses = [int(ms) for ms in re.findall(r" worker_died signal=9 again_in_ms=(\d+)", w.log())]
            steps = {0: 10, 640: 1000, 1000: 1000}
            assert len(pauses) == 20 and pauses[0] == 0, pauses
            assert all(b in (0, steps.get(a, 2 * a)) for a, b in itertools.pairwise(pauses)), pauses
    assert load.served >= 60
    assert not wire.contains(marker)


def test_connections_that_waited_in_the_queue_of_a_killed_worker_are_served_by_its_successor(mesh):
    """The listeners outlive the worker: what the kernel had accepted for it is not lost."""
    with Origin(mesh.orders.host, 8080, answer_all), contextlib.ExitStack() as stack:
        pid = mesh.web.worker()
        os.kill(pid, signal.SIGSTOP)
        conns = [stack.enter_context(Peer(mesh.web.host.connect(mesh.vip, 8080))) for _ in range(50)]
        for c in conns:
            c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        os.kill(pid, signal.SIGKILL)
        assert [c.read().status for c in conns] == [200] * 50
        assert mesh.web.pids()[1] != pid


def test_hop_connections_that_waited_for_a_killed_worker_are_served_by_its_successor(mesh):
    def echo(p):
        while data := p.sock.recv(1000):
            p.sock.sendall(data)

    with Origin(mesh.orders.host, 9000, echo), contextlib.ExitStack() as stack:
        pid = mesh.orders.worker()
        os.kill(pid, signal.SIGSTOP)
        conns = [stack.enter_context(Peer(mesh.web.host.connect(mesh.vip, 9000))) for _ in range(20)]
        for i, c in enumerate(conns):
            c.send(b"%d" % (i + 10))
        # The sidecar's own connections are made and wait for the handshake.
        wait_until(lambda: mesh.orders.host.run(["cat", "/proc/self/net/tcp6", "/proc/self/net/tcp"]).stdout.count(" 01 ") >= 20, 5,
                   "connections in the queue")
        os.kill(pid, signal.SIGKILL)
        for i, c in enumerate(conns):
            assert c.exactly(2) == b"%d" % (i + 10)


def refused(host, address, port):
    """No byte of the application comes back, and none went."""
    try:
        with host.connect(address, port, timeout=3) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            s.settimeout(3)
            return s.recv(1000) == b""
    except (ConnectionRefusedError, ConnectionResetError, TimeoutError, socket.timeout):
        return True


def test_a_killed_supervisor_takes_its_worker_along_and_outbound_is_refused(mesh, net):
    marker = secrets.token_hex(24).encode()
    wire = net.sniff("tcp")
    with Origin(mesh.orders.host, 8080, answer_all) as o:
        assert get(mesh, body=marker) == 200
        seen = len(o.seen)
        worker = mesh.web.worker()
        mesh.web.capture.kill()
        wait_until(lambda: not os.path.exists(f"/proc/{worker}"), 5, "the worker's end")
        for address in (mesh.vip, mesh.orders.host.ip4, mesh.orders.host.ip6):
            with pytest.raises(ConnectionRefusedError):
                get(mesh, body=marker, address=address)
        assert len(o.seen) == seen
    assert not wire.contains(marker)


def test_a_killed_supervisor_takes_its_worker_along_and_inbound_is_closed(mesh, net):
    stranger = net.host("c")
    with Origin(mesh.orders.host, 8080, answer_all) as o:
        assert get(mesh) == 200
        seen = len(o.seen)
        worker = mesh.orders.worker()
        mesh.orders.capture.kill()
        wait_until(lambda: not os.path.exists(f"/proc/{worker}"), 5, "the worker's end")
        for address in (mesh.orders.host.ip4, mesh.orders.host.ip6):
            assert refused(stranger, address, 8080)
        assert get(mesh) in (502, 503, 504)
        assert len(o.seen) == seen, "the application got a connection that no sidecar had seen"


@pytest.mark.parametrize("side", ["web", "orders"])
def test_sigterm_lets_the_request_in_flight_complete_and_exits_0(mesh, side):
    w = getattr(mesh, side)
    asked, go = threading.Event(), threading.Event()

    def behave(p):
        if p.read():
            asked.set()
            go.wait(10)
            p.send(OK)
            p.rest()

    with Origin(mesh.orders.host, 8080, behave), Peer(mesh.web.host.connect(mesh.vip, 8080)) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert asked.wait(5)
        w.capture.signal(signal.SIGTERM)
        wait_until(lambda: w.status("/ready")[0] == 503, 5, "not ready any more")
        assert w.capture.alive()
        go.set()
        m = c.read()
        assert (m.status, m.body) == (200, b"ok")
        assert w.capture.wait(10) == 0
    assert "stopped status=0" in w.log()


def test_sigterm_tells_a_kept_client_connection_to_close_with_its_next_answer(mesh):
    with Origin(mesh.orders.host, 8080, answer_all), Peer(mesh.web.host.connect(mesh.vip, 8080)) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not c.read().get(b"connection")
        mesh.web.capture.signal(signal.SIGTERM)
        assert c.rest() == b"" and c.at_end  # idle: closed in order
        assert mesh.web.capture.wait(10) == 0


def test_a_second_sigterm_does_not_wait(mesh):
    asked = threading.Event()
    with Origin(mesh.orders.host, 8080, lambda p: (p.read(), asked.set(), p.rest())), Peer(mesh.web.host.connect(mesh.vip, 8080)) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert asked.wait(5)
        mesh.web.capture.signal(signal.SIGTERM)
        wait_until(lambda: mesh.web.status("/ready")[0] == 503, 5, "draining")
        mesh.web.capture.signal(signal.SIGTERM)
        assert mesh.web.capture.wait(5) == 0

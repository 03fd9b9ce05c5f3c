# SPDX-License-Identifier: Apache-2.0
"""Fail closed: whatever dies, and whenever, no plaintext leaves or enters a meshed namespace. The last test builds a capture that is broken on
purpose and proves that the others would notice."""

import os
import pathlib
import shutil
import socket
import subprocess
import threading

import pytest
from conftest import ROOT, need_tool, weft_program
from harness import capture, netns
from harness.echo import MARKER, line, refused, serve, talk

# Where a kill can make a difference: calls that change the state of the kernel or the file system, with the stride in which their
# invocations are tried (WEFT_TEST_LONG=1: each). The deciding one is among the last of bpf.
CALLS = {"bpf": 8, "mkdir": 6, "bind": 7, "listen": 6, "write": 1, "memfd_create": 1, "fchown": 1, "lchown": 1, "close_range": 1,
         "setgroups": 1, "setresuid": 1, "capset": 1, "execve": 1}
BPF_LATE = 96  # from here every bpf call


def invocations(kill):
    """Calls kill(call, n) for the n that are tried; kill answers whether the process died of it. Returns how many deaths there were."""
    deaths = 0
    for call, stride in CALLS.items():
        n = 2 if call == "execve" else 1  # strace's own start of the program is the first
        while kill(call, n):
            deaths += 1
            n += 1 if os.environ.get("WEFT_TEST_LONG") or call == "bpf" and n >= BPF_LATE else stride
    return deaths


class Traffic:
    """Calls from one host to another, over and over, in a thread; each call that is served has carried the marker."""

    def __init__(self, host, address, port=8080):
        self.served = self.failed = 0
        self._stop = threading.Event()
        self._args = host, address, port
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        host, address, port = self._args
        while not self._stop.is_set():
            try:
                with host.connect(address, port, timeout=2) as s:
                    s.sendall(MARKER)
                    line(s)
                    self.served += 1
            except (OSError, AssertionError):
                self.failed += 1
                self._stop.wait(0.005)

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def meshed(net, two_hosts, cap):
    """Client a and application b, both meshed: (net, a, b, proxy of a, proxy of b)."""
    a, b = two_hosts
    serve(b)
    yield net, a, b, cap.mesh(a, "client"), cap.mesh(b, "orders")


def test_killed_proxies_leak_nothing_under_load(meshed, cap):
    net, a, b, pa, pb = meshed
    wire = net.sniff("tcp")
    load = [Traffic(a, b.ip4), Traffic(a, b.ip6)]
    try:
        for round_ in range(6):
            netns.wait_until(lambda before=[t.served for t in load]: all(t.served > n for t, n in zip(load, before)), 20, "traffic")
            pa.kill()
            pb.kill()
            failed = [t.failed for t in load]
            netns.wait_until(lambda before=failed: all(t.failed > n + 3 for t, n in zip(load, before)), 20, "refusals")
            if round_ % 2:  # either end first
                pb, pa = cap.mesh(b, "orders"), cap.mesh(a, "client")
            else:
                pa, pb = cap.mesh(a, "client"), cap.mesh(b, "orders")
    finally:
        for t in load:
            t.stop()
    assert sum(t.served for t in load) > 12
    assert not wire.contains(MARKER)


def test_without_its_proxy_a_workload_neither_calls_nor_is_called(meshed, cap):
    net, a, b, pa, pb = meshed
    c = net.host("c")
    serve(c)
    pb.kill()
    wire = net.sniff("tcp")
    for address in (b.ip4, b.ip6):
        assert refused(c, address, 8080), "an unmeshed client reached the application in plaintext"
        assert refused(a, address, 8080)
    for address in (c.ip4, c.ip6, f"::ffff:{c.ip4}"):
        with pytest.raises(ConnectionRefusedError):
            b.connect(address, 8080)
    assert cap.counters("default-orders")["dropped"] >= 4
    # After a clean stop as well: only detach opens.
    assert pa.stop() is not None
    with pytest.raises(ConnectionRefusedError):
        a.connect(c.ip4, 8080)
    assert not wire.contains(MARKER)


def test_connections_wait_while_the_listeners_outlive_the_worker(net, two_hosts, cap):
    """As under the proxy's supervisor: who holds the listening sockets decides, not who accepts."""
    a, b = two_hosts
    serve(b)
    cap.mesh(a, "client", mode="plain")
    code = f"import os, sys, time\nif os.fork() == 0:\n  sys.argv = ['x', 'plain']; exec({capture.DUMMY!r})\n" \
           "print('worker', flush=True); os.wait(); print('gone', flush=True); sys.stdin.readline()\n" \
           f"sys.argv = ['x', 'plain']; exec({capture.DUMMY!r})"
    p = b.popen(cap.argv("orders", [netns.PYTHON, "-u", "-c", code]), env=cap.env, stdin=subprocess.PIPE)
    p.wait_output("^serving")
    worker = int(subprocess.run(["pgrep", "-P", str(p.pid)], capture_output=True, text=True, check=True).stdout)
    os.kill(worker, 9)
    p.wait_output("^gone")
    waiting = [a.connect(b.ip4, 8080) for _ in range(20)]
    p.popen.stdin.write(b"\n")
    p.popen.stdin.flush()
    for s in waiting:
        assert line(s).startswith(f"::ffff:{a.ip4} ")


def is_open(host, address):
    """Whether an application answers in plaintext."""
    return not refused(host, address, 8080)


def kill_at(cap, host, call, n):
    """Runs `weft-capture exec` and kills it on entering its n-th invocation of a system call. False when it came to its end before."""
    p = cap.start(host, "orders", ["/bin/true"], "--exclude-out-ports", "99", "--control", "10.99.0.200:4810",
                  prefix=["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={n}"])
    code = p.wait(20)
    assert code in (0, -9, 137), p.output()
    p.close()
    return code != 0


def test_exec_killed_at_any_step_leaves_it_plain_or_closed_never_half(net, two_hosts, cap):
    a, b = two_hosts
    need_tool("strace")
    serve(a)
    serve(b)
    seen = {}

    def kill(call, n):
        if not kill_at(cap, b, call, n):
            assert not is_open(a, b.ip4), "it ran to its end: closed, since /bin/true serves nobody"
            cap.detach(b)
            return False
        now = {is_open(a, b.ip4), is_open(a, b.ip6), is_open(b, a.ip4), is_open(b, a.ip6)}
        assert len(now) == 1, f"killed at {call} {n}: open in one direction only"
        seen.setdefault(call, []).append(now == {True})
        if now == {False}:
            cap.detach(b)
        return True

    assert invocations(kill) > 40
    for call, opened in seen.items():
        assert opened == sorted(opened, reverse=True), f"{call}: once closed, no later step opens"
    assert True in seen["bpf"] and False in seen["bpf"], "the kills lie on both sides of the deciding step"
    assert not any(seen["listen"] + seen["setresuid"]), "closed before the proxy could be reached"


def test_exec_killed_at_any_step_never_opens_what_was_meshed(net, two_hosts, cap):
    a, b = two_hosts
    need_tool("strace")
    serve(a)
    serve(b)
    cap.mesh(b, "orders").kill()
    sent = net.sniff(f"tcp and (src host {b.ip4} or src host {b.ip6})")
    load = [Traffic(a, b.ip4), Traffic(b, a.ip6)]
    try:
        deaths = invocations(lambda call, n: kill_at(cap, b, call, n))
    finally:
        for t in load:
            t.stop()
    assert deaths > 40
    assert all(t.served == 0 and t.failed > 20 for t in load)
    assert not sent.contains(MARKER)
    assert not is_open(a, b.ip4)


def build(folder, flag):
    """weft-capture with a flag for its eBPF programs, in a folder of its own; shares the plain build's other objects."""
    if pathlib.Path(weft_program("weft-capture")) != ROOT / "build" / "plain" / "bin" / "weft-capture":
        pytest.skip("variants are made from the plain build")
    plain, there = ROOT / "build" / "plain", ROOT / "build" / folder
    for part in ("obj/lib", "obj/certs", "gen"):
        shutil.copytree(plain / part, there / part, dirs_exist_ok=True)
    for part in ("flags", "libweft.a"):
        shutil.copy2(plain / part, there / part)
    r = subprocess.run(["make", "-C", ROOT, f"B=build/{folder}", f"BPFFLAGS=-D{flag}", f"build/{folder}/bin/weft-capture"],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr
    return str(there / "bin" / "weft-capture")


@pytest.mark.plain(reason="variants are made from the plain build")
def test_the_mutant_that_passes_is_found_out(net, two_hosts, cap):
    """Were sk_lookup to answer PASS, the checks above would see plaintext; and going back to the true build closes it in place."""
    a, b = two_hosts
    mutant = build("mutant", "WEFT_TEST_SK_PASS")
    serve(b)
    cap.mesh(b, "orders").kill()
    assert not is_open(a, b.ip4)
    link, tag = link_id(cap, b), steer_tag(cap)
    cap.mesh(b, "orders", binary=mutant).kill()
    assert steer_tag(cap) != tag, "the other build's program is in force"
    wire = net.sniff("tcp")
    assert is_open(a, b.ip4) and is_open(a, b.ip6)
    assert MARKER in exchange(a, b.ip4)
    assert wire.contains(MARKER)
    cap.mesh(b, "orders").kill()
    assert steer_tag(cap) == tag and link_id(cap, b) == link, "replaced in the same link, so never absent"
    assert not is_open(a, b.ip4) and not is_open(a, b.ip6)


def exchange(host, address):
    with host.connect(address, 8080) as s:
        talk(s)
        return MARKER


def steer_tag(cap):
    return cap.workload("default-orders")["steering"]["tag"]


def link_id(cap, host):
    """The kernel's number of the steering link."""
    cookie = cap.workload("default-orders")["cookie"]
    need_tool("bpftool")
    out = host.run(["bpftool", "link", "show", "pinned", f"{cap.pins}/ns/{cookie}/weft_steer"]).stdout
    return out.split(":")[0]


@pytest.mark.plain(reason="variants are made from the plain build")
def test_replacing_programs_under_load_lets_nothing_through(net, two_hosts, cap):
    """Outbound stays captured while another build takes the shared links over, back and forth."""
    a, b = two_hosts
    c = net.host("c")
    serve(b)
    cap.mesh(a, "client").kill()
    other = build("twin", "WEFT_TEST_ONE_PORT")  # the same to everyone, another program to the kernel
    wire = net.sniff("tcp")
    load = Traffic(a, b.ip4)
    try:
        ids = {p["name"]: p["id"] for p in cap.status()["programs"]}
        for binary in (other, None, other, None):
            failed = load.failed
            cap.mesh(c, "other", binary=binary).kill()
            now = {p["name"]: p["id"] for p in cap.status()["programs"]}
            assert all(now[n] != ids[n] for n in ("weft_connect4", "weft_connect6")), "replaced"
            ids = now
            netns.wait_until(lambda n=failed: load.failed > n, what="refusals")
    finally:
        load.stop()
    assert load.served == 0 and not wire.contains(MARKER)

# SPDX-License-Identifier: Apache-2.0
"""What the processes have taken away from themselves, seen from outside and tried in their own name. On the plain build: a sanitizer needs most of
it. (Capabilities, groups and who may read /proc: test_supervisor.py.)"""

import errno
import os
import pathlib
import platform
import signal
import subprocess

import pytest
from conftest import need_tool
from cryptography.hazmat.primitives import serialization
from harness.http1 import Origin, Peer
from harness.inside import Traced, found, maps
from harness.mesh import FileMesh, Mesh, program
from harness.netns import wait_until
from test_supervisor import answer_all, status_rows

pytestmark = pytest.mark.plain(reason="hardening is a claim about the plain build")
PROGRAMS = ["weft-proxy", "weftd", "weft", "weft-capture"]


def readelf(what, name):
    return subprocess.run(["readelf", what, "-W", program(name)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_is_built_to_be_hard_to_take_over(name):
    need_tool("readelf", "objdump")
    head, segments, dynamic, symbols = (readelf(w, name) for w in ("-h", "-l", "-d", "--dyn-syms"))
    assert "DYN (Position-Independent Executable" in head
    assert "GNU_RELRO" in segments and "BIND_NOW" in dynamic and "NOW" in dynamic.split("FLAGS_1")[1].splitlines()[0], "all relocated at the start, then read-only"
    (stack,) = [r for r in segments.splitlines() if "GNU_STACK" in r]
    assert "RWE" not in stack and " RW " in stack
    assert not [r for r in segments.splitlines() if r.split()[:1] == ["LOAD"] and "W" in r and " E " in r.replace("RWE", " E ")]
    assert "TEXTREL" not in dynamic
    assert "__stack_chk_fail" in symbols and "_chk@" in symbols.replace("__stack_chk_fail@", "")
    if platform.machine() == "x86_64":
        code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program(name)], check=True, capture_output=True, text=True).stdout
        starts = [code[i:].split("\n", 2)[1] for i in (code.index(f"<{f}>:") for f in ("main", "err_set", "mem_alloc"))]
        assert all("endbr64" in s for s in starts), "landing pads for indirect calls"


def limits_core(pid):
    rows = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(r for r in rows if r.startswith("Max core")).split()[4:6]


def no_page_to_write_and_run(pid):
    seen = list(maps(pid))
    assert len(seen) > 10
    return not [m for m in seen if "w" in m[2] and "x" in m[2]]


@pytest.fixture
def mesh(net, tmp_path):
    with FileMesh(net, tmp_path) as m:
        m.orders = m.workload(net.host("a"), "orders", ports="8080/http")
        m.web = m.workload(net.host("b"), "web")
        m.vip = m.service("orders", {8080: (8080, "http")}, [m.orders])[0]
        m.credentials = {w.name: m.ca.leaf(w.ns, w.sa) for w in (m.orders, m.web)}
        m.start()
        yield m


def call(mesh, n=5):
    with Origin(mesh.orders.host, 8080, answer_all):
        for _ in range(n):
            with Peer(mesh.web.host.connect(mesh.vip, 8080)) as c:
                assert c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").read().status == 200


NR = {"mmap": 9, "mprotect": 10, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "ptrace": 101, "personality": 135, "mount": 165, "unshare": 272,
      "bpf": 321, "execveat": 322, "pkey_mprotect": 329, "io_uring_setup": 425, "clone3": 435}
READ, WRITE, EXEC, PRIVATE_ANONYMOUS = 1, 2, 4, 0x22
NEWUSER, NEWNET, THREAD = 0x10000000, 0x40000000, 0x10000


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system calls are made by x86-64 registers")
def test_a_taken_over_worker_gets_no_executable_memory_no_process_and_no_namespace(mesh):
    """The calls are made by the worker itself, so that its own filter answers."""
    call(mesh)
    supervisor, worker = mesh.web.pids()
    with Traced(worker) as t:
        def kernel(name, *args):
            return t.call(NR[name], *args)

        data = kernel("mmap", 0, 4096, READ | WRITE, PRIVATE_ANONYMOUS, -1, 0)
        assert data > 0, "memory for data there is"
        for prot in (EXEC, READ | EXEC, READ | WRITE | EXEC, READ | EXEC | 1 << 32):
            assert kernel("mmap", 0, 4096, prot, PRIVATE_ANONYMOUS, -1, 0) == -errno.EPERM, prot
            assert kernel("mprotect", data, 4096, prot) == -errno.EPERM, prot
        assert kernel("clone", signal.SIGCHLD, 0, 0, 0, 0) == -errno.EPERM, "no process"
        assert kernel("clone", NEWUSER | signal.SIGCHLD, 0, 0, 0, 0) == kernel("clone", NEWNET | THREAD, 0, 0, 0, 0) == -errno.EPERM
        assert kernel("clone3", 0, 0) == -errno.ENOSYS
        for name in ("fork", "vfork", "execve", "execveat", "ptrace", "personality", "mount", "unshare", "bpf", "pkey_mprotect", "io_uring_setup"):
            assert kernel(name, 0, 0, 0, 0, 0) == -errno.EPERM, name
    with Traced(supervisor) as t:
        assert t.call(NR["mmap"], 0, 4096, READ | WRITE | EXEC, PRIVATE_ANONYMOUS, -1, 0) == -errno.EPERM
        assert t.call(NR["clone"], NEWUSER | signal.SIGCHLD, 0, 0, 0, 0) == -errno.EPERM
        assert t.call(NR["execve"], 0, 0, 0) == t.call(NR["bpf"], 0, 0, 0) == -errno.EPERM
    call(mesh)
    assert mesh.web.pids() == (supervisor, worker), "they went on as before"


def test_no_page_of_any_process_is_writable_and_executable(mesh):
    call(mesh)
    for w in (mesh.orders, mesh.web):
        for pid in w.pids():
            assert no_page_to_write_and_run(pid)


def test_weftd_cannot_be_read_by_its_own_user_and_gets_no_new_rights(net, tmp_path):
    with Mesh(net, tmp_path) as m:
        m.start_control()
        m.weftd.stop()
        for p in (m.tmp, *m.tmp.glob("weft.db*")):
            os.chown(p, 4711, 4711)
        weftd = m.control.popen([program("weftd"), "--store", m.store, "--name", m.control.ip4], user=4711)
        m.weftd = weftd
        m.wait_control()
        pid = weftd.pid
        for r in status_rows(pid):
            assert r["NoNewPrivs"] == "1" and set(r["Uid"].split()) == {"4711"}
        assert limits_core(pid) == ["0", "0"] and no_page_to_write_and_run(pid)
        for what in ("mem", "environ", "maps"):
            r = m.control.run(["cat", f"/proc/{pid}/{what}"], check=False, user=4711)
            assert r.returncode and "Permission denied" in r.stdout


# --- keys ---

def private(number, name=""):
    """A private number as it may stand in memory: as it is sent, and as arithmetic has it; halves too, for copies that were partly overwritten."""
    big = number.to_bytes(32, "big")
    return {name + "big": big, name + "little": big[::-1], name + "big half": big[8:24], name + "little half": big[::-1][8:24]}


def of_pem(pem):
    key = serialization.load_pem_private_key(pem.encode(), None)
    lines = pem.split("\n")
    return {**private(key.private_numbers().private_value), "text 1": lines[1][50:].encode(), "text 2": lines[2][:28].encode()}


def arithmetic(places):
    """Of `found`: the one copy that OpenSSL calculates with."""
    return {k: len(v) for k, v in places.items()}


ONE_COPY = {"big": 0, "little": 1, "big half": 0, "little half": 1}
NO_COPY = dict.fromkeys(ONE_COPY, 0)


def test_a_worker_holds_its_key_once_and_leaves_nothing_at_its_end(mesh):
    call(mesh)
    for w in (mesh.orders, mesh.web):
        supervisor, worker = w.pids()
        needles = of_pem(mesh.credentials[w.name].key)
        assert arithmetic(found(worker, needles)) == {**ONE_COPY, "text 1": 0, "text 2": 0}
        assert not any(found(supervisor, needles).values())
        with Traced(worker) as t:
            t.until_exit(lambda w=w: w.capture.signal(signal.SIGTERM))
            assert not any(found(worker, needles).values()), "at the end of the process"


def handed_key(supervisor):
    """The private number in the memfd that the supervisor keeps: PKCS#8 within certs/credential.c's blob."""
    for fd in pathlib.Path(f"/proc/{supervisor}/fd").iterdir():
        if "weft-credential" in os.readlink(fd):
            blob = fd.read_bytes()
            at = blob.index(bytes.fromhex("306b0201010420")) + 7
            return int.from_bytes(blob[at : at + 32], "big")
    return None


def test_after_a_renewal_the_former_key_is_nowhere_although_its_connections_live(net, tmp_path):
    with Mesh(net, tmp_path) as m:
        m.start_control(args=("--certificate-lifetime", "6s"))
        w = m.workload(net.host("web"), "web").start()
        supervisor, worker = w.pids()
        first = wait_until(lambda: handed_key(supervisor), 5, "the first key")
        assert arithmetic(found(worker, private(first))) == ONE_COPY, "the search finds a key that is in use"
        second = wait_until(lambda: (k := handed_key(supervisor)) != first and k, 20, "the second key")
        for pid in (supervisor, worker):
            assert not any(found(pid, private(first)).values()), pid
        assert w.log().count("link_up") == 1, "the link is the one that was opened with the first key"
        # The worker that comes after a crash has it out of the memfd, and no second copy either.
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: w.pids()[1] not in (None, worker), 10, "another worker")
        w.wait_ready()
        now = handed_key(supervisor)
        assert arithmetic(found(w.worker(), private(now))) in (ONE_COPY, NO_COPY), "NO_COPY: renewed in between"
        assert second != first

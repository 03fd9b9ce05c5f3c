# SPDX-License-Identifier: Apache-2.0
"""Capture in the machine's own network namespace: what is listed and nothing else, undone unless confirmed. Nothing is captured in the real
one of the machine that the tests run on: host `a` plays it. An init is process 1 and lives in it (a PID namespace of its own with a
program called init), which is what weft-capture goes by where the kernel's first namespace is out of sight."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest
from conftest import missing, need_tool, weft_program
from harness import capture, mesh as meshes, netns
from harness.echo import line, refused, serve, talk

LISTS = ["--ports", "8080", "--capture-out-ports", "9090"]
UNDO = 8  # seconds: 5 can be asked for, but what a test does before must be over on a loaded machine too
SSHD = "import socket\ns = socket.create_server(('::', 22), family=socket.AF_INET6, backlog=64, dualstack_ipv6=True)\nprint('ready', flush=True)\nwhile True:\n" \
       "    c, _ = s.accept(); c.sendall(b'SSH-2.0-test\\r\\n'); c.close()"
WEB = "import http.server, socket\nclass H(http.server.BaseHTTPRequestHandler):\n    protocol_version = 'HTTP/1.1'\n    def do_GET(self):\n" \
      "        t = ('from %s\\n' % self.client_address[0]).encode(); self.send_response(200)\n" \
      "        self.send_header('content-length', str(len(t))); self.end_headers(); self.wfile.write(t)\n" \
      "class S(http.server.ThreadingHTTPServer): address_family = socket.AF_INET6\n" \
      "import sys\ns = S(('::', int(sys.argv[1])), H); print('ready', flush=True); s.serve_forever()"


def machine(folder, name="init"):
    """Prefix under which a command runs as on a machine of its own: process 1, its parent, is called `name`. Killing it kills all of it."""
    init = pathlib.Path(folder) / name
    if not init.exists():
        init.symlink_to(os.path.realpath("/bin/sh"))
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", str(init), "-c", '"$@"; exit $?', name]


class HostCapture(capture.Capture):
    """weft-capture on a machine of which host `a` is the network namespace."""

    def exec(self, host, name, command, *options, binary=None):
        return host.popen([*machine(self.dir), *self.argv(name, command, *options, binary=binary)], env=self.env)

    def host(self, host, name, *options, mode="plain"):
        p = self.exec(host, name, [netns.PYTHON, "-u", "-c", capture.DUMMY, mode], *options)
        p.wait_output("^serving")
        return p

    def kill(self, proc, instance):
        proc.kill()
        netns.wait_until(lambda: not self.workload(instance)["proxyRunning"], 10, "the proxy's end")

    def undo(self, instance="default-m"):
        w = self.workload(instance)
        return w["undo"]["state"], w["undo"]["secondsLeft"]

    def confirm(self, *args, check=True):
        return self.run(None, "confirm", *args, check=check)


def mount_bpffs():
    """A mount by weft-capture inside the PID namespace's mounts would end with it."""
    if not os.path.ismount("/sys/fs/bpf"):
        subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)


@pytest.fixture
def hcap(net):
    need_tool("unshare")
    mount_bpffs()
    c = HostCapture(weft_program("weft-capture"))
    yield c
    for h in net.hosts.values():
        for p in h.procs:
            p.kill()  # unshare waits for its child and takes no other signal
            p.close()
    c.close()


def curl(host, url):
    """Body of an answer, or curl's exit code."""
    r = host.run(["curl", "-s", "--noproxy", "*", "-m", "3", url], check=False)
    return r.stdout.strip() if r.returncode == 0 else r.returncode


def logs_in(a, b):
    with b.connect(a.ip4, 22) as s, b.connect(a.ip6, 22) as t:
        return line(s) == line(t) == "SSH-2.0-test"


def expire(hcap, instance="default-m"):
    netns.wait_until(lambda: hcap.undo(instance)[0] == "undone", UNDO + 10, "the deadline")


def check(hcap, host):
    """What `weft-capture check` says on that machine."""
    return host.run([*machine(hcap.dir), hcap.binary, "check"], env={**os.environ, **hcap.env}, check=False).stdout


REFUSALS = [
    ([], "only ports that you list are captured here, and none is listed"),
    (["--exclude-out-ports", "80"], "none is listed"),
    (["--ports", "22"], "--ports: 22 is the port of remote logins (SSH)"),
    (["--capture-out-ports", "20-25"], "--capture-out-ports: 22 is the port of remote logins (SSH)"),
    (["--ports", "4806"], "--ports: 4806 is the port of the proxy itself"),
    (["--ports", "80", "--capture-out-ports", "4810"], "--capture-out-ports: 4810 is the port of weftd"),
    (["--capture-out-ports", "4999", "--control", "10.99.0.9:4999"], "4999 is the port of weftd (--control)"),
    (["--ports", "80", "--capture-out-cidrs", "10.0.0.0/8"], "--capture-out-ports, which is missing"),
    (["--ports", "80", "--undo-after", "4"], "--undo-after: 4 is not a number of seconds (5 to 3600)"),
]


def test_what_would_lock_the_operator_out_is_refused_and_nothing_is_attached(net, hcap):
    a = net.host("a")
    for options, text in REFUSALS:
        p = hcap.exec(a, "m", ["/bin/true"], *options)
        assert p.wait() == 1 and text in p.output(), (options, p.output())
    assert not os.path.exists(hcap.pins)
    said = check(hcap, a)
    assert "‼ the machine's own network namespace (process 1 is an init and lives in it)" in said and "weft-capture confirm" in said


def test_the_machines_real_namespace_is_recognised(hcap):
    """The kernel's first one, whatever process 1 is called. Only looked at: exec is refused before it changes anything."""
    if not os.path.exists("/proc/sys/net/core/netdev_max_backlog"):
        missing("the tests do not run in the machine's own network namespace")
    r = hcap.run(None, *hcap.argv("m", ["/bin/true"])[1:], check=False)
    assert r.returncode == 1 and "(the kernel's first one)" in r.stderr and not os.path.exists(hcap.pins)


def test_an_applications_container_is_a_workload_of_its_own(net, hcap):
    """Process 1 lives here too, but it is the application, not an init: everything is captured, no deadline."""
    a, b = net.host("a"), net.host("b")
    argv = hcap.argv("m", [netns.PYTHON, "-u", "-c", capture.DUMMY, "tell"])
    a.popen([*machine(hcap.dir, "application"), *argv], env=hcap.env).wait_output("^serving")
    w = hcap.workload("default-m")
    assert not w["host"] and w["undo"] == {"state": "none", "secondsLeft": 0}
    assert line(a.connect(b.ip4, 8081)) == f"{b.ip4} 8081"
    assert "nothing to confirm" in hcap.confirm("--name", "m").stdout
    for options in (["--capture-out-ports", "80"], ["--capture-out-cidrs", "10.0.0.0/8"], ["--undo-after", "60"]):
        p = hcap.start(b, "other", ["true"], *options)
        assert p.wait() == 1 and "the machine's own network namespace" in p.output(), p.output()


def test_only_listed_ports_are_captured_and_never_ssh(net, hcap):
    a, b = net.host("a"), net.host("b")
    need_tool("bpftool")
    a.start_python(SSHD, ready="ready")
    for host, port in ((a, 8080), (a, 8081), (b, 9090), (b, 9091)):
        serve(host, "::", port)
    p = hcap.host(a, "m", *LISTS, "--capture-out-cidrs", f"{b.ip4},fd00:99::/64")
    said = p.output()
    assert "captured are new connections to local ports 8080 and to the listed destinations' ports 9090; nothing else" in said
    assert re.search(r"undoes itself in (59|60) s .*weft-capture confirm --name m --namespace default", said)

    def seen():
        return re.findall(r"^(?:in|out) \S+ \d+", p.output(), re.M)

    # Not listed: in, out, by address, logins. The proxy never hears of it.
    for host, to, port in ((b, a.ip4, 8081), (b, a.ip6, 8081), (a, b.ip4, 9091), (a, b.ip6, 9091), (a, f"::ffff:{b.ip4}", 9091)):
        talk(host.connect(to, port))
    assert logs_in(a, b)
    assert refused(a, b.ip4, 22) and refused(a, b.ip4, 8080), "nobody listens there"
    assert seen() == []
    assert hcap.counters("default-m")["unlisted"] == 9
    # Listed.
    for host, to, port in ((b, a.ip4, 8080), (b, a.ip6, 8080), (a, b.ip4, 9090), (a, b.ip6, 9090), (a, f"::ffff:{b.ip4}", 9090)):
        talk(host.connect(to, port))
    assert seen() == [f"in {a.ip4} 8080", f"in {a.ip6} 8080", f"out {b.ip4} 9090", f"out {b.ip6} 9090", f"out {b.ip4} 9090"]
    w = hcap.workload("default-m")
    assert w["host"] and w["ports"] == [8080] and w["capturedOutPorts"] == [9090] and w["undo"]["state"] == "waiting"
    # The same port elsewhere than the listed prefixes.
    b.add_address("10.99.0.77/24")
    talk(a.connect("10.99.0.77", 9090))
    assert len(seen()) == 5
    # The programs keep it, not only the loader: SSH written into the list by hand.
    cookie = int(w["cookie"]).to_bytes(8, "little") + (22).to_bytes(8, "little")
    a.run(["bpftool", "map", "update", "pinned", f"{hcap.pins}/ports", "key", *[f"{x:#04x}" for x in cookie], "value", "0x0c", "0", "0", "0"])
    assert hcap.workload("default-m")["ports"] == [22, 8080], "it is on the list"
    assert logs_in(a, b) and refused(a, b.ip4, 22) and len(seen()) == 5


def test_an_attach_that_nobody_confirms_undoes_itself(net, hcap):
    a, b = net.host("a"), net.host("b")
    a.start_python(SSHD, ready="ready")
    for host, port in ((a, 8080), (b, 9090)):
        host.start_python(WEB, port, ready="ready")
    b.add_address("10.99.0.77/24")
    inbound, outbound = [f"http://{a.ip4}:8080/", f"http://[{a.ip6}]:8080/"], [f"http://{b.ip4}:9090/", f"http://[{b.ip6}]:9090/"]
    p = hcap.host(a, "m", *LISTS, "--undo-after", str(UNDO))
    attached = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert curl(b, inbound[0]) == f"from ::ffff:{b.ip4}" and "in " in p.output()
    hcap.kill(p, "default-m")
    # The operator's mistake: nothing serves what is captured. Logins go on.
    assert [curl(b, u) for u in inbound] == [curl(a, u) for u in outbound] == [7, 7]
    assert logs_in(a, b)
    r = hcap.confirm("--name", "m", check=False)
    assert r.returncode == 1 and "its proxy does not run" in r.stderr and hcap.undo()[0] == "waiting"
    with a.inside():
        retried = socket.socket()
    with pytest.raises(ConnectionRefusedError):
        retried.connect((b.ip4, 9090))
    # A proxy that is started again and again prolongs nothing.
    before = hcap.undo()[1]
    hcap.kill(hcap.host(a, "m", *LISTS, "--undo-after", "3600"), "default-m")
    assert hcap.undo()[1] <= before <= UNDO
    expire(hcap)
    assert UNDO - 1 < time.clock_gettime(time.CLOCK_BOOTTIME) - attached < UNDO + 8
    assert [curl(b, u) for u in inbound] == [f"from ::ffff:{b.ip4}", f"from {b.ip6}"]
    assert [curl(a, u) for u in outbound] == [f"from ::ffff:{a.ip4}", f"from {a.ip6}"]
    assert logs_in(a, b)
    # What the kernel remembers of a socket's first attempt does not describe its second.
    retried.connect(("10.99.0.77", 9090))
    assert retried.getpeername() == ("10.99.0.77", 9090) and retried.getsockname()[0] == a.ip4
    # Whoever comes too late is told what happened and what to do.
    r = hcap.confirm("--name", "m", check=False)
    assert r.returncode == 1 and "too late" in r.stderr and "weft-capture detach --name m --namespace default" in r.stderr
    assert hcap.confirm("--all", check=False).returncode == 1
    table = hcap.run(None, "status").stdout
    assert " undone " in table and "connections go around its proxy; clear it: weft-capture detach --name m" in table
    p = hcap.exec(a, "m", ["/bin/true"], *LISTS)
    assert p.wait() == 1 and "undid itself since nobody confirmed it" in p.output(), "a supervisor's restart does not capture again"
    assert curl(b, inbound[0]) == f"from ::ffff:{b.ip4}"
    r = hcap.run(None, "detach", "--name", "m")
    assert re.search(r"default/m: detached; \d+ map rows and 4 pins removed$", r.stdout, re.M)
    hcap.host(a, "m", *LISTS)
    assert hcap.undo()[0] == "waiting" and hcap.undo()[1] > 50


def test_a_confirmed_attach_stays_and_is_closed_without_its_proxy(net, hcap):
    a, b = net.host("a"), net.host("b")
    a.start_python(SSHD, ready="ready")
    serve(a)
    serve(b, "::", 9090)
    p = hcap.host(a, "m", *LISTS, "--undo-after", str(UNDO))
    deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + UNDO
    assert re.search(r" in [1-8] s .*\n.*keep it: weft-capture confirm --name m --namespace default", hcap.run(None, "status").stdout)
    r = hcap.confirm("--name", "nobody", check=False)
    assert r.returncode == 1 and "is not attached on this machine" in r.stderr
    assert "default/m: confirmed" in hcap.confirm("--name", "m").stdout
    assert "is confirmed already" in hcap.confirm("--all").stdout
    assert hcap.undo() == ("confirmed", 0) and re.search(r"running +confirmed", hcap.run(None, "status").stdout)
    assert "listed ports captured for default/m, confirmed" in check(hcap, a)
    netns.wait_until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > deadline + 0.2, UNDO + 5, "the time of the deadline")
    talk(b.connect(a.ip4, 8080))
    talk(a.connect(b.ip4, 9090))
    assert f"in {a.ip4} 8080" in p.output() and f"out {b.ip4} 9090" in p.output()
    # The same list again stays confirmed, in any order; without a proxy in between what is listed is closed.
    for again in (LISTS[2:] + LISTS[:2], LISTS):
        hcap.kill(p, "default-m")
        for address in (a.ip4, a.ip6):
            assert refused(b, address, 8080)
        with pytest.raises(ConnectionRefusedError):
            a.connect(b.ip4, 9090)
        assert logs_in(a, b)
        p = hcap.host(a, "m", *again)
        assert "the same list was confirmed before, and stays" in p.output() and hcap.undo() == ("confirmed", 0)
    # Another list waits again.
    for changed in (["--ports", "8080"], LISTS, [*LISTS, "--exclude-in-cidrs", "10.9.0.0/16"], [*LISTS, "--capture-out-cidrs", "10.0.0.0/8"]):
        hcap.kill(p, "default-m")
        p = hcap.host(a, "m", *changed, "--undo-after", "900")
        assert hcap.undo()[0] == "waiting" and hcap.undo()[1] > 880, changed
        assert "confirmed" in hcap.confirm("--all").stdout


def test_connections_that_run_outlive_attach_deadline_and_detach(net, hcap):
    a, b = net.host("a"), net.host("b")
    serve(a)
    serve(b, "::", 9090)
    held = {"direct in": b.connect(a.ip4, 8080), "direct out": a.connect(b.ip4, 9090)}
    for s in held.values():
        talk(s)
    p = hcap.host(a, "m", *LISTS, "--undo-after", str(UNDO))
    held["proxied in"], held["proxied out"] = b.connect(a.ip4, 8080), a.connect(b.ip4, 9090)
    for what in ("proxied in", "proxied out"):
        talk(held[what])
    assert len(re.findall("^(?:in|out) ", p.output(), re.M)) == 2

    def all_go_on(when):
        for what, s in held.items():
            s.sendall(b"still here")
            got = b""
            while len(got) < 10:
                more = s.recv(10 - len(got))
                assert more, f"{what} ended with {when}"
                got += more

    all_go_on("the attach")
    # Two that the kernel gave to the proxy, and that it finds after the deadline.
    (proxy,) = (int(pid) for pid in pathlib.Path(hcap.cgroup("default-m"), "cgroup.procs").read_text().split())
    os.kill(proxy, signal.SIGSTOP)
    held["waiting in"], held["waiting out"] = b.connect(a.ip4, 8080), a.connect(b.ip4, 9090)
    expire(hcap)
    os.kill(proxy, signal.SIGCONT)
    assert talk(held["waiting in"])[0][0] == f"::ffff:{b.ip4}", "the application is told its client"
    talk(held["waiting out"])
    all_go_on("the deadline")
    assert held["proxied out"].getsockname()[0] == a.ip4 and held["proxied out"].getpeername() == (b.ip4, 9090), "names stay true"
    talk(b.connect(a.ip4, 8080))
    assert len(re.findall("^(?:in|out) ", p.output(), re.M)) == 4, "new ones go around the proxy"
    r = hcap.run(None, "detach", "--name", "m")
    assert "its proxy still runs and carries the connections that it has" in r.stdout
    all_go_on("the detach")


def test_a_confirmed_attach_is_never_open_while_it_is_made_again(net, hcap):
    """Killed before each change of a map: the list has no gap, and nothing of it waits for a deadline."""
    a, b = net.host("a"), net.host("b")
    need_tool("strace")
    serve(a)
    options = ["--ports", "8080,8081", "--capture-out-ports", "9090", "--exclude-in-ports", "7000", "--capture-out-cidrs", f"{b.ip4}"]
    p = hcap.host(a, "m", *options)
    hcap.confirm("--name", "m")
    hcap.kill(p, "default-m")
    log = f"{hcap.dir}/strace"

    def again(*strace):
        # In the namespace of the processes that a kill hits, so its proxy is gone when it has ended.
        p = a.popen([*machine(hcap.dir), "strace", "-qq", "-e", "trace=bpf", *strace, *hcap.argv("m", ["/bin/true"], *options)], env=hcap.env)
        assert p.wait(20) in (0, 137, 9), p.output()

    again("-o", log)
    calls = [row for row in pathlib.Path(log).read_text().splitlines() if row.startswith("bpf(")]
    changes = [n for n, row in enumerate(calls, 1) if re.match(r"bpf\(BPF_MAP_(UPDATE|DELETE)_ELEM", row)]
    late = [n for n in changes if n > 60]
    assert len(late) >= 7, "four ports, a prefix, the token and the row at least"
    for n in late:
        again("-o", "/dev/null", "-e", f"inject=bpf:signal=KILL:when={n}")
        assert refused(b, a.ip4, 8080) and hcap.undo() == ("confirmed", 0), n
        with pytest.raises(ConnectionRefusedError):
            a.connect(b.ip4, 9090)


def leftovers(hcap):
    """What detach --all must not leave: pins, cgroups, our programs in the kernel."""
    return [p for p in (hcap.pins, hcap.cgroup("")) if os.path.exists(p)]


def programs_of(hcap):
    return {p["id"] for p in hcap.status()["programs"] if p.get("id")} | {w["steering"]["id"] for w in hcap.status()["workloads"] if w["steering"].get("id")}


def in_kernel():
    return {p["id"] for p in json.loads(subprocess.run(["bpftool", "prog", "show", "-j"], capture_output=True, text=True, check=True).stdout)}


def test_detach_all_leaves_nothing_also_after_a_kill_in_the_middle(net, hcap):
    a, b = net.host("a"), net.host("b")
    need_tool("bpftool", "strace")
    serve(a)
    inject = ["strace", "-f", "-qq", "-o", "/dev/null"]

    def killed(call, n, *argv):
        """Runs it, killed on entering its n-th such call; whether it was."""
        r = a.run([*inject, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={n}", *argv],
                  env={**os.environ, **hcap.env}, check=False)
        return r.returncode in (137, -9)

    def clean(what):
        r = hcap.run(None, "detach", "--all")
        assert not leftovers(hcap), (what, leftovers(hcap), r.stdout)
        assert "nothing is attached" in hcap.run(None, "detach", "--all").stdout

    # An exec, on a host as elsewhere (strace would be process 1's child there: the steps are the same).
    for call, n in (("mkdir", 3), ("bpf", 30), ("bpf", 80), ("listen", 1)):
        assert killed(call, n, *hcap.argv("m", ["/bin/true"], "--exclude-in-ports", "9000-9010")), (call, n)
        clean((call, n))
    # A detach: before and behind the row, among the namespace's pins and the shared ones, between folders.
    for call, n in (("bpf", 14), ("unlink", 1), ("unlink", 3), ("unlink", 9), ("rmdir", 3)):
        hcap.kill(hcap.host(a, "m", *LISTS, "--exclude-in-ports", "9000-9003"), "default-m")
        ours = programs_of(hcap)
        assert len(ours) == 10
        assert killed(call, n, hcap.binary, "detach", "--all"), (call, n)
        clean((call, n))
        netns.wait_until(lambda ids=ours: not ids & in_kernel(), 10, "no program of ours in the kernel")
        talk(b.connect(a.ip4, 8080))
    # One workload of two, killed in the middle: the next detach or exec takes the rest.
    p = hcap.host(a, "m", *LISTS)
    hcap.kill(p, "default-m")
    assert killed("unlink", 2, hcap.binary, "detach", "--name", "m")
    assert hcap.status()["workloads"] == [] and len(os.listdir(f"{hcap.pins}/ns")) == 1
    assert hcap.run(None, "detach", "--name", "m", check=False).returncode == 1
    assert os.listdir(f"{hcap.pins}/ns") == []
    clean("detach --name")


def test_the_sidecar_says_what_happens_and_withdraws(net, tmp_path):
    """The real proxy: its capture undone or detached, it is no endpoint any more and carries what it has; confirmed, it stays one."""
    a, b = net.host("a"), net.host("b")
    need_tool("unshare", "curl")
    mount_bpffs()
    serve(a)
    with meshes.Mesh(net, tmp_path) as m:
        m.start_control()
        vip = m.service("orders", {80: (8080, "tcp")}, {"app": "orders"})[0]
        m.workload(b, "web").start()
        w = m.workload(a, "orders-1", labels={"app": "orders"}, ports="8080/tcp", extra=["--undo-after", str(UNDO)])
        w.prefix = machine(tmp_path)
        command = [m.bin("weft-capture")]
        env = {**os.environ, **m.env(), "WEFT_PIN_DIR": m.pin_dir, "WEFT_CGROUP": m.id}

        def run(*args):
            return subprocess.run([*command, *args, "--name", "orders-1", "--namespace", "shop"], env=env, check=True, capture_output=True, text=True)

        def endpoints():
            return json.loads(m.weft("describe", "service", "orders", "-n", "shop", "-o", "json").stdout)["endpoints"]

        def started():
            w.start()
            netns.wait_until(endpoints, 15, "the endpoint")
            s = b.connect(vip, 80)
            talk(s)
            return s

        s = started()
        w.capture.wait_output("warn weft-proxy capture_unconfirmed .*weft-capture confirm --name orders-1 --namespace shop")
        w.capture.wait_output("error weft-proxy capture_undone .*not confirmed in time.*weft-capture detach --name orders-1", UNDO + 10)
        netns.wait_until(lambda: not endpoints(), 10, "the registration withdrawn")
        assert w.status("/ready")[0] == 503
        s.sendall(b"goes on")
        assert s.recv(100) == b"goes on"
        w.capture.kill()  # unshare takes no other signal
        run("detach")
        # Again, and in time.
        w.extra = []
        s = started()
        run("confirm")
        w.capture.wait_output("info weft-proxy capture_confirmed ")
        assert w.status("/ready")[0] == 200 and endpoints()
        assert "its proxy still runs" in run("detach").stdout
        w.capture.wait_output("warn weft-proxy capture_detached ")
        netns.wait_until(lambda: not endpoints(), 10, "the registration withdrawn")
        s.sendall(b"goes on")
        assert s.recv(100) == b"goes on"
        w.capture.kill()

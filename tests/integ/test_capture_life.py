# SPDX-License-Identifier: Apache-2.0
"""How a capture begins and ends: what it refuses, who takes over from whom, and what is left behind."""

import json
import os
import subprocess
import time

import pytest
from conftest import missing, need_tool
from harness import capture, netns
from harness.echo import MARKER, line, refused, serve, talk


def test_a_second_proxy_is_refused_and_disturbs_nothing(two_hosts, cap):
    a, b = two_hosts
    cap.mesh(a, "client", mode="tell")
    before = cap.workload("default-client")
    for name, host, why in (("client", a, "runs already"), ("other", a, "is taken"), ("client", b, "runs already")):
        p = cap.start(host, name, ["true"])
        assert p.wait() == 1 and why in p.output()
    assert line(a.connect(b.ip4, 8080)) == f"{b.ip4} 8080"
    assert cap.workload("default-client")["steering"] == before["steering"]
    assert len(cap.status()["workloads"]) == 1


def test_exec_again_after_the_proxy_ended_takes_over(two_hosts, cap):
    a, b = two_hosts
    serve(b)
    cap.mesh(a, "client")
    for _ in range(3):
        p = cap.mesh(b, "orders")
        programs = cap.status()["programs"]
        assert talk(a.connect(b.ip4, 8080))[0][0] == f"::ffff:{a.ip4}"
        p.kill()
        assert refused(a, b.ip4, 8080)
        assert cap.status()["programs"] == programs
        assert not cap.workload("default-orders")["proxyRunning"]


def test_a_namesake_of_another_workload_does_not_get_its_state(two_hosts, cap):
    a, b = two_hosts
    cap.mesh(a, "c", "--namespace", "a-b").stop()
    p = cap.start(b, "b-c", ["true"], "--namespace", "a")
    assert p.wait() == 1 and "holds the state of a-b/c" in p.output()


def test_detach_restores_plain_connections(net, two_hosts, cap):
    a, b = two_hosts
    serve(b)
    cap.mesh(a, "client")
    cap.mesh(b, "orders")
    kept = a.connect(b.ip4, 8080)
    talk(kept)
    cap.detach(a)
    cap.detach(b)
    wire = net.sniff("tcp")
    s = a.connect(b.ip4, 8080)
    talk(s)
    assert s.getsockname()[0] == a.ip4
    assert wire.contains(MARKER)
    kept.sendall(b"still through the proxies")
    assert kept.recv(100) == b"still through the proxies"
    assert cap.status()["workloads"] == []
    ours = {p["id"] for p in cap.status()["programs"]}
    cap.run(None, "detach", "--all")
    assert not os.path.exists(cap.pins)
    need_tool("bpftool")
    netns.wait_until(lambda: not ours & {p["id"] for p in json.loads(a.run(["bpftool", "prog", "show", "-j"]).stdout)},
                     what="the kernel rid of every shared program")
    assert cap.run(a, "detach", check=False).returncode == 1
    assert cap.run(a, "detach", "--all").returncode == 0


def test_leftovers_of_a_dead_namespace_are_collected(net, cap):
    a, b = net.host("a"), net.host("b")
    cap.mesh(a, "client", "--exclude-out-ports", "99")
    a.close()
    assert len(os.listdir(f"{cap.pins}/ns")) == 1

    def collected():
        p = cap.mesh(b, "orders")
        p.kill()
        return len(os.listdir(f"{cap.pins}/ns")) == 1 and cap.workload("default-client") is None

    netns.wait_until(collected, 20, "the dead namespace's pins and rows gone")


def test_it_works_inside_ip_netns_exec(two_hosts, cap):
    """That command hides cgroup2 and bpffs behind a fresh /sys."""
    a, b = two_hosts
    p = net_exec = cap.start(a, "client", [netns.PYTHON, "-u", "-c", capture.DUMMY, "tell"], prefix=["ip", "netns", "exec", a.ns])
    net_exec.wait_output("^serving")
    assert line(a.connect(b.ip4, 8080)) == f"{b.ip4} 8080"
    assert cap.workload("default-client")["proxyRunning"]
    p.kill()
    assert refused(a, b.ip4, 8080)


def test_many_workloads_start_at_once(net, cap):
    hosts = [net.host(f"h{i}") for i in range(6)]
    started = [cap.start(h, f"w{i}", [netns.PYTHON, "-u", "-c", capture.DUMMY, "tell"]) for i, h in enumerate(hosts)]
    for p in started:
        p.wait_output("^serving", 30)
    assert [line(h.connect("10.98.0.1", 80)) for h in hosts] == ["10.98.0.1 80"] * 6
    assert len(cap.status()["workloads"]) == 6


def test_a_command_that_cannot_run_leaves_it_closed(two_hosts, cap):
    a, b = two_hosts
    serve(b)
    p = cap.start(b, "orders", ["/nonexistent/proxy"])
    assert p.wait() == 1 and "/nonexistent/proxy cannot be run as UID 4800" in p.output()
    assert refused(a, b.ip4, 8080)


def test_a_namespace_without_loopback_is_refused_and_left_alone(two_hosts, cap):
    p = cap.start(two_hosts[0], "client", ["true"], prefix=["unshare", "-n"])
    assert p.wait() == 1 and "ip link set lo up" in p.output()
    assert cap.status()["workloads"] == []


def test_the_machines_own_namespace_is_refused(cap):
    if not os.path.exists("/proc/sys/net/core/netdev_max_backlog"):
        missing("the tests do not run in the machine's own network namespace")
    r = cap.run(None, *cap.argv("client", ["true"])[1:], check=False)
    assert r.returncode == 1 and "machine's own network namespace" in r.stderr
    assert not os.path.exists(cap.pins)


def test_bpffs_is_not_mounted_where_it_would_not_last(two_hosts, cap):
    """In a service's own mount namespace: there the pins, and with them the capture, would end with the service."""
    inner = 'umount -l /sys/fs/bpf 2>/dev/null; exec "$@"'
    outer = f"unshare -m sh -c '{inner}' x \"$@\"; exit $?"
    p = cap.start(two_hosts[0], "client", ["true"], prefix=["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", outer, "x"])
    assert p.wait() == 1 and "mount it on the machine" in p.output(), p.output()
    assert not os.path.exists(cap.pins)


def test_a_living_workload_is_never_taken_for_a_dead_one(two_hosts, cap):
    """Its link cannot be read (here: there is none): it stays, closed."""
    a, b = two_hosts
    cap.mesh(a, "client").kill()
    pin = f"{cap.pins}/ns/{cap.workload('default-client')['cookie']}/weft_steer"
    os.unlink(pin)
    cap.mesh(b, "orders")
    assert cap.workload("default-client"), "another exec collected it"
    with pytest.raises(ConnectionRefusedError):
        a.connect(b.ip4, 8080)
    cap.mesh(a, "client", mode="tell")
    assert line(a.connect(b.ip4, 8080)) == f"{b.ip4} 8080" and os.path.exists(pin)


def test_a_deadline_ends_the_capture_by_itself(two_hosts, cap):
    """Nothing sets it yet, but it is in the ABI: boot time in ns, first field of the workload's row."""
    a, b = two_hosts
    need_tool("bpftool")
    serve(b)
    p = cap.mesh(a, "client", mode="tell")
    cookie = int(cap.workload("default-client")["cookie"])
    key = [f"{x:#04x}" for x in cookie.to_bytes(8, "little")]
    table = ["bpftool", "map", "lookup", "pinned", f"{cap.pins}/workloads", "key", *key, "-j"]
    value = bytes(int(x, 16) for x in json.loads(a.run(table).stdout)["value"])

    def write(deadline):
        raw = [f"{x:#04x}" for x in deadline.to_bytes(8, "little") + value[8:]]
        a.run(["bpftool", "map", "update", "pinned", f"{cap.pins}/workloads", "key", *key, "value", *raw])

    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    write(now + 3600 * 10**9)
    assert line(a.connect(b.ip4, 8080)) == f"{b.ip4} 8080"
    write(now)
    talk(a.connect(b.ip4, 8080))
    assert p.alive()


RIVAL = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("cgroup/connect4") int sock_lb_connect(struct bpf_sock_addr *ctx) { return 1; }
char LICENSE[] SEC("license") = "GPL";
"""


def test_check_names_a_socket_load_balancer(two_hosts, cap):
    a, _ = two_hosts
    need_tool("bpftool", "clang")
    source, obj, pin = f"{cap.dir}/rival.c", f"{cap.dir}/rival.o", f"/sys/fs/bpf/{cap.id}-rival"
    with open(source, "w") as f:
        f.write(RIVAL)
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", "-idirafter", "/usr/include/x86_64-linux-gnu", "-c", source, "-o", obj], check=True)
    cap.mesh(a, "client").kill()
    assert "nothing else rewrites connect()" in cap.run(a, "check").stdout
    subprocess.run(["bpftool", "prog", "load", obj, pin], check=True)
    where = [netns.cgroup2_root(), "connect4", "pinned", pin]
    try:
        subprocess.run(["bpftool", "cgroup", "attach", *where, "multi"], check=True)
        r = cap.run(a, "check")
        assert "‼ other programs rewrite connect()" in r.stdout and "sock_lb_connect" in r.stdout
    finally:
        subprocess.run(["bpftool", "cgroup", "detach", *where], check=False)
        os.unlink(pin)


def test_check_finds_what_forbids_capture(two_hosts, cap):
    a, _ = two_hosts
    r = cap.run(a, "check")
    assert r.stdout.count("√") >= 5 and "×" not in r.stdout
    a.run(["ip", "link", "set", "lo", "down"])
    r = cap.run(a, "check", check=False)
    assert r.returncode == 1 and "× loopback is down" in r.stdout and "hint: ip link set lo up" in r.stdout
    r = a.run([cap.binary, "check", "-o", "json"], check=False, user=4800, stderr=None)
    rows = {x["name"]: x for x in json.loads(r.stdout)}
    assert rows["capabilities"]["result"] == "error" and "CAP_BPF" in rows["capabilities"]["text"]


@pytest.mark.parametrize("options,text", [
    (["--ports", "70000"], "--ports: 70000 is not a port (1 to 65535)"),
    (["--exclude-out-ports", "90-80"], "--exclude-out-ports: 90-80 is not a range of ports"),
    (["--exclude-in-cidrs", "10.0.0.1/8"], "--exclude-in-cidrs: 10.0.0.1/8 is not an address or prefix"),
    (["--control", "10.0.0.1:1,fd00::1:4810"], "--control: fd00::1:4810 is not HOST:PORT"),
    (["--namespace", "UPPER"], "--namespace: UPPER is not a name"),
    (["--token-file", "/nonexistent"], "--token-file: /nonexistent: No such file"),
    (["--unknown", "x"], "--unknown: no such option"),
])
def test_a_wrong_option_is_named_and_nothing_is_attached(two_hosts, cap, options, text):
    a, _ = two_hosts
    p = cap.start(a, "client", ["true"], *options)
    assert p.wait() in (1, 2) and text in p.output()
    assert cap.status()["workloads"] == []

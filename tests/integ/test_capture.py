# SPDX-License-Identifier: Apache-2.0
"""What the capture promises to a proxy and to applications, with a dummy proxy: who is reached, what is seen, what cannot be got around.
How it begins and ends is in test_capture_life.py."""

import json
import os
import socket
import struct

import pytest
from conftest import missing
from harness import netns
from harness.echo import MARKER, address, line, refused, serve, talk


@pytest.mark.parametrize("family", ["v4", "v6", "mapped"])
def test_a_call_goes_through_both_proxies_and_names_are_as_without_a_mesh(net, two_hosts, cap, family):
    a, b = two_hosts
    serve(b)
    pa, pb = cap.mesh(a, "client"), cap.mesh(b, "orders", "--ports", "8080/tcp")
    wire = net.sniff("tcp")
    s = a.connect(address(b, family), 8080)
    accepted, peer, own = talk(s)
    me, you = address(a, family), address(b, family)
    on_wire = {"v4": a.ip4, "v6": a.ip6, "mapped": a.ip4}[family]
    # The application sees the address that its connection comes from on the wire, and its own.
    shown = on_wire if family == "v6" else f"::ffff:{a.ip4}"
    assert accepted == peer and accepted[0] == shown
    assert own == (b.ip6 if family == "v6" else f"::ffff:{b.ip4}", "8080")
    assert s.getpeername()[:2] == (you, 8080)
    assert s.getsockname()[0] == me
    assert f"out {b.ip6 if family == 'v6' else b.ip4} 8080" in pa.output()
    assert f"in {b.ip6 if family == 'v6' else b.ip4} 8080 from {on_wire}" in pb.output()
    s.close()
    assert not wire.contains(MARKER)
    assert wire.contains(MARKER.translate(bytes(x ^ 0xFF for x in range(256)))), "the hop itself was not on this wire"


def test_an_ipv4_application_sees_an_ipv4_client(two_hosts, cap):
    a, b = two_hosts
    serve(b, "0.0.0.0")
    cap.mesh(a, "client")
    cap.mesh(b, "orders")
    accepted, peer, own = talk(a.connect(b.ip4, 8080))
    assert accepted == peer and accepted[0] == a.ip4 and own == (b.ip4, "8080")


@pytest.mark.parametrize("bound,reached", [("0.0.0.0", True), ("10.99.0.2", True), ("::", True), ("fd00:99::2", True),
                                           ("127.0.0.1", False), ("::1", False)])
def test_what_is_reachable_from_outside_is_what_was_without_a_mesh(two_hosts, cap, bound, reached):
    a, b = two_hosts
    serve(b, bound)
    cap.mesh(a, "client")
    cap.mesh(b, "orders")
    target = b.ip6 if ":" in bound and bound != "::" else b.ip4
    if reached:
        assert talk(a.connect(target, 8080))[0][0].removeprefix("::ffff:") == (a.ip6 if target == b.ip6 else a.ip4)
    else:
        assert refused(a, target, 8080)


def test_a_workload_calls_itself(two_hosts, cap):
    _, b = two_hosts
    serve(b)
    p = cap.mesh(b, "orders")
    for own in (b.ip4, b.ip6):
        s = b.connect(own, 8080)
        assert talk(s)[0][0].removeprefix("::ffff:") == own
        assert f"out {own} 8080" in p.output() and f"in {own} 8080" in p.output()
    before = cap.counters("default-orders")["captured"]
    assert talk(b.connect("127.0.0.1", 8080))[0][0] == "::ffff:127.0.0.1"
    assert talk(b.connect("::1", 8080))[0][0] == "::1"
    assert cap.counters("default-orders")["captured"] == before, "loopback is not captured"
    # The proxy's own port is refused by the proxy, which sees each attempt once: no loop.
    for n, host in enumerate(two_hosts, 1):
        assert refused(host, b.ip4, 4806)
        netns.wait_until(lambda n=n: p.output().count(f"in {b.ip4} 4806 ") == n)
    assert p.output().count(" 4806") == 3


def test_status_port_is_reached_directly(two_hosts, cap):
    a, b = two_hosts
    cap.mesh(b, "orders")
    before = cap.counters("default-orders")["steered"]
    with a.connect(b.ip4, 4820), a.connect(b.ip6, 4820):
        assert cap.counters("default-orders")["steered"] == before


@pytest.mark.parametrize("family", ["v4", "v6", "mapped"])
def test_a_socket_bound_to_a_source_or_a_device_works(two_hosts, cap, family):
    a, b = two_hosts
    serve(b)
    cap.mesh(a, "client")
    cap.mesh(b, "orders")
    mine, yours = address(a, family), address(b, family)
    with a.inside():
        bound, device = (socket.socket(socket.AF_INET if family == "v4" else socket.AF_INET6) for _ in range(2))
    for s in (bound, device):
        s.settimeout(5)
    bound.bind((mine, 40123))
    bound.connect((yours, 8080))
    talk(bound)
    assert bound.getsockname()[:2] == (mine, 40123) and bound.getpeername()[:2] == (yours, 8080)
    device.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    device.connect((yours, 8080))
    talk(device)
    assert device.getsockname()[0] == mine


def test_a_socket_that_failed_and_dials_loopback_next_shows_loopback(two_hosts, cap):
    a, b = two_hosts
    p = cap.mesh(a, "client")
    serve(a, "127.0.0.1", 9000)
    with a.inside():
        s = socket.socket()
    p.kill()
    with pytest.raises(ConnectionRefusedError):
        s.connect((b.ip4, 8080))
    s.connect(("127.0.0.1", 9000))
    talk(s)
    assert s.getpeername() == ("127.0.0.1", 9000) and s.getsockname()[0] == "127.0.0.1"


def test_a_connection_straight_to_an_outbound_listener_has_no_destination(two_hosts, cap):
    a, b = two_hosts
    serve(b)
    p = cap.mesh(a, "client", mode="plain")
    for addr in ("127.0.0.1", "::1"):
        for port in range(4830, 4838):
            assert refused(a, addr, port)
    assert p.output().count("none") == 16 and "out " not in p.output()
    # From outside they do not exist: the inbound listener gets the connection, and refuses its own ports.
    assert refused(b, a.ip4, 4830)


def test_a_note_that_nobody_took_does_not_describe_the_next_connection(two_hosts, cap):
    """The same 4-tuple, first captured and given up while in the backlog, then dialled by hand."""
    a, b = two_hosts
    p = cap.mesh(a, "client", mode="idle")
    with a.inside():
        socks = [socket.socket() for _ in range(8)]
    for i, s in enumerate(socks):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.bind(("127.0.0.1", 41000 + i))
        s.connect((b.ip4, 8080))
        s.close()
    p.kill()
    p = cap.mesh(a, "client", mode="plain")
    for i in range(8):
        for port in range(4830, 4838):
            try:
                with a.inside(), socket.socket() as s:
                    s.settimeout(3)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.bind(("127.0.0.1", 41000 + i))
                    s.connect(("127.0.0.1", port))
                    assert s.recv(1) == b""
            except ConnectionResetError:
                pass
    assert "out " not in p.output() and p.output().count("none") == 64


RAMP = """
import json, resource, socket, sys
n, first, family, source, net = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held, wrong = [], []
for i in range(n):
    s = socket.socket(socket.AF_INET if family == "v4" else socket.AF_INET6); s.settimeout(float(sys.argv[6]))
    s.setsockopt(1, 2, 1); s.bind((source, first + i))
    port = 1000 + i
    dst = {"v4": "10.98.%d.%d" % (net, i % 250 + 1), "v6": "fd00:98::%d:%x" % (net, i + 1),
           "mapped": "::ffff:10.98.%d.%d" % (net, i % 250 + 1)}[family]
    s.connect((dst, port))
    told = b""
    while not told.endswith(b"\\n"): told += s.recv(100)
    want = "%s %d\\n" % (socket.inet_ntop(s.family, socket.inet_pton(s.family, dst)).removeprefix("::ffff:"), port)
    if told.decode() != want or s.getpeername()[1] != port: wrong.append((want, told.decode(), s.getpeername()))
    held.append(s)
print("held", json.dumps({"held": len(held), "wrong": len(wrong), "first": wrong[:3]}), flush=True)
sys.stdin.read()
"""


def test_identical_local_ports_never_mix_up_destinations(net, cap):
    """4,000 IPv4 and 4,000 IPv6 connections held at once: each local port is used by four sockets, of two families and two addresses."""
    a = net.host("a")
    a.add_address("10.99.0.77/24")
    a.add_address("fd00:99::77/64")
    cap.mesh(a, "client", mode="tell")
    jobs = [("v4", a.ip4), ("mapped", "::ffff:10.99.0.77"), ("v6", a.ip6), ("v6", "fd00:99::77")]
    ramps = [a.popen([netns.PYTHON, "-u", "-c", RAMP, 2000, 20000, family, source, i, 20 * netns.PATIENCE], stdin=-1) for i, (family, source) in enumerate(jobs)]
    results = [json.loads(r.wait_output("^held (.*)", 120).group(1)) for r in ramps]
    assert [r["held"] for r in results] == [2000] * 4
    assert [r["wrong"] for r in results] == [0] * 4, results
    counters = cap.counters("default-client")
    assert counters["captured"] == counters["origins"] == 8000 and counters["origins_lost"] == 0


def test_destinations_are_spread_over_all_outbound_listeners(net, cap):
    a = net.host("a")
    cap.mesh(a, "client", mode="tell")
    held = [a.connect("10.98.0.1", 80) for _ in range(200)]
    # The kernel's own table, since the application cannot see it.
    table = a.run(["cat", "/proc/self/net/tcp"]).stdout
    used = {row.split()[2].split(":")[1] for row in table.splitlines()[1:] if row.split()[3] == "01"}
    assert {f"{p:04X}" for p in range(4830, 4838)} <= used
    del held


BYPASS = """
import ctypes, os, socket, struct, sys
SOL = 0x5745; target, spoof = sys.argv[1], sys.argv[2]
def attempt(what, fn):
    s = socket.socket(); s.settimeout(3)
    try: r = fn(s)
    except OSError as e: r = "errno %d" % e.errno
    try:
        s.connect((target, 8080)); got = s.recv(200)
    except OSError as e: got = b"errno %d" % e.errno
    print(what, "|", r, "|", got, flush=True); s.close()
attempt("nothing", lambda s: None)
attempt("wrong token", lambda s: s.setsockopt(SOL, 1, b"x" * 16))
attempt("short token", lambda s: s.setsockopt(SOL, 1, b"x" * 3))
attempt("forged source", lambda s: s.setsockopt(SOL, 2, b"x" * 16 + struct.pack("=H", 2) + struct.pack("!H", 99) + socket.inet_aton(spoof).ljust(16, b"\\0")))
attempt("mark", lambda s: s.setsockopt(1, 36, 0x5745))
def mapfd(s):
    libc = ctypes.CDLL(None, use_errno=True)
    class A(ctypes.Structure): _fields_ = [("id", ctypes.c_uint), ("next", ctypes.c_uint), ("flags", ctypes.c_uint)]
    tries = []
    for i in range(1, 4000):
        a = A(i, 0, 0); fd = libc.syscall(321, 14, ctypes.byref(a), ctypes.sizeof(a))
        if fd >= 0: tries.append(fd)
    return "map fds %d" % len(tries)
attempt("map by id", mapfd)
def pins(s): return os.listdir(sys.argv[3])
attempt("pins", pins)
def cg(s): open(sys.argv[4] + "/cgroup.procs", "w").write("0")
attempt("cgroup", cg)
def mem(s):
    for fd in os.listdir("/proc/%s/fd" % sys.argv[5]): pass
    return "fds of the proxy"
attempt("proxy fds", mem)
"""


@pytest.mark.parametrize("in_proxy_cgroup", [False, True])
def test_the_proxys_user_cannot_get_around_the_mesh(two_hosts, cap, in_proxy_cgroup):
    a, b = two_hosts
    serve(b)
    p = cap.mesh(a, "client", mode="tell")
    cgroup = cap.cgroup("default-client")
    where = cgroup if in_proxy_cgroup else netns.cgroup2_root()
    argv = [netns.PYTHON, "-u", "-c", BYPASS, b.ip4, "203.0.113.9", cap.pins, cgroup, p.pid]
    rows = [r.split(" | ") for r in a.run(argv, cgroup=where, user=4800).stdout.strip().splitlines()]
    results = {r[0]: r[1] for r in rows}
    told = repr(f"{b.ip4} 8080\n".encode())
    assert all(r[2] == told for r in rows), rows  # captured, every one
    no_option = "errno 1" if in_proxy_cgroup else "errno 92"
    assert results["wrong token"] == results["forged source"] == no_option
    assert results["map by id"] == "map fds 0"
    assert results["pins"] == results["cgroup"] == "errno 13"
    if in_proxy_cgroup:
        assert cap.counters("default-client")["token_wrong"] == 2  # the short one is no token at all


def test_the_right_token_counts_only_in_the_proxys_cgroup(two_hosts, cap):
    a, b = two_hosts
    serve(b)
    p = cap.mesh(a, "client", mode="tell")
    code = """
import socket, sys
s = socket.socket(); s.settimeout(3)
try: s.setsockopt(0x5745, 1, bytes.fromhex(sys.argv[1]))
except OSError as e: print("errno", e.errno)
s.connect((sys.argv[2], 8080)); print(s.recv(200).decode())
"""
    fds = dict(i.split(":") for i in environ(p.pid)["WEFT_FDS"].split(","))
    with open(f"/proc/{p.pid}/fd/{fds['token']}", "rb") as f:
        token = f.read().hex()
    assert len(token) == 32
    assert f"errno 92\n{b.ip4} 8080" in a.run_python(code, token, b.ip4, user=4800)
    inside = a.run_python(code, token, b.ip4, user=4800, cgroup=cap.cgroup("default-client"))
    assert "errno" not in inside and a.ip4 in inside  # the application itself answered
    assert token not in " ".join(environ(p.pid).values())


def environ(pid):
    with open(f"/proc/{pid}/environ") as f:
        return dict(v.split("=", 1) for v in f.read().split("\0") if "=" in v)


def test_the_proxy_has_nothing_left(two_hosts, cap):
    a, _ = two_hosts
    secret = f"{cap.dir}/join"
    with open(secret, "w") as f:
        f.write("weft1.something")
    os.chmod(secret, 0o600)
    cap.env["WEFT_TOKEN_FILE"] = secret
    p = cap.mesh(a, "client", "--ports", "80/http", "--labels", "app=x", "--control", "10.99.0.254:4810")
    with open(f"/proc/{p.pid}/status") as f:
        status = dict(r.split(":\t", 1) for r in f.read().splitlines() if ":\t" in r)
    assert {status[c] for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1" and set(status["Uid"].split()) == set(status["Gid"].split()) == {"4800"}
    assert status["Groups"].strip() in ("", "4800")
    with open(f"/proc/{p.pid}/limits") as f:
        assert next(r for r in f if r.startswith("Max core")).split()[4:6] == ["0", "0"]
    env = environ(p.pid)
    named = dict(i.split(":") for i in env["WEFT_FDS"].split(","))
    links = {n: os.readlink(f"/proc/{p.pid}/fd/{n}") for n in os.listdir(f"/proc/{p.pid}/fd")}
    assert not [x for x in links.values() if "bpf" in x], "a handle on maps or programs was inherited"
    with open(f"/proc/{p.pid}/fd/{named['join']}") as f:
        assert f.read() == "weft1.something"
    with pytest.raises(OSError):
        os.ftruncate(os.open(f"/proc/{p.pid}/fd/{named['token']}", os.O_RDWR), 0)
    assert "something" not in " ".join(env.values())
    assert "WEFT_TOKEN_FILE" not in env  # a file that it cannot read
    assert env["WEFT_NAME"] == "client" and env["WEFT_NAMESPACE"] == "default" and env["WEFT_PORTS"] == "80/http"
    assert env["WEFT_POD_IPS"] == f"{a.ip4},{a.ip6}" and env["WEFT_CONTROL"] == "10.99.0.254:4810"
    for path, mode in ((f"{env['WEFT_RUN_DIR']}/admin.sock", 0o600), (env["WEFT_STATE_DIR"], 0o700)):
        st = os.stat(path)
        assert st.st_uid == 4800 and st.st_mode & 0o777 == mode


def test_exclusions_pass_untouched_both_ways(two_hosts, cap):
    a, b = two_hosts
    for port in (8080, 8081, 4810):
        serve(b, "::", port)
    pa = cap.mesh(a, "client", "--exclude-out-ports", "8081", "--control", f"[{b.ip6}]:4810", mode="tell")
    assert talk(a.connect(b.ip4, 8081))[0][0] == f"::ffff:{a.ip4}"
    assert talk(a.connect(b.ip6, 4810))[0][0] == a.ip6
    assert line(a.connect(b.ip4, 4810)) == f"{b.ip4} 4810", "the control plane's port at another address is captured"
    assert line(a.connect(b.ip6, 8080)) == f"{b.ip6} 8080"
    pa.stop()
    cap.mesh(a, "client", "--exclude-out-cidrs", f"{b.ip4}/32,fd00:98::/32", mode="tell")
    talk(a.connect(b.ip4, 8080))
    talk(a.connect(f"::ffff:{b.ip4}", 8080))
    assert line(a.connect(b.ip6, 8081)) == f"{b.ip6} 8081", "what the last run excluded is captured again"
    assert line(a.connect("10.99.0.3", 8081)) == "10.99.0.3 8081"
    # Inbound.
    pb = cap.mesh(b, "orders", "--exclude-in-ports", "8081-8082", "--exclude-in-cidrs", "10.99.0.0/31")
    talk(a.connect(b.ip4, 8080))
    assert "in " not in pb.output()
    with a.inside():
        s = socket.create_connection((b.ip4, 8081), 5)
    talk(s)
    assert "in " not in pb.output()
    assert cap.counters("default-orders")["excluded_in"] == 2
    cap.detach(a)
    s = a.connect(b.ip6, 8080)  # not excluded: the dummy flips what it gets
    s.settimeout(5)
    with pytest.raises((UnicodeDecodeError, AssertionError, TimeoutError)):
        talk(s)
    netns.wait_until(lambda: f"in {b.ip6} 8080" in pb.output())


def test_udp_passes_and_is_counted(two_hosts, cap):
    a, b = two_hosts
    cap.mesh(a, "client")
    cap.mesh(b, "orders")
    with b.inside():
        server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::", 5353))
    server.settimeout(5)
    with a.inside():
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)]
    before = cap.counters("default-client")
    socks[0].connect((b.ip4, 5353))
    socks[0].send(b"connected")
    assert server.recv(100) == b"connected"
    socks[1].sendto(b"addressed", (b.ip6, 5353))
    assert server.recv(100) == b"addressed"
    after = cap.counters("default-client")
    assert after["udp"] - before["udp"] == 2 and after["captured"] == before["captured"]


def test_other_namespaces_are_not_touched(net, two_hosts, cap):
    a, b = two_hosts
    c = net.host("c")
    serve(b)
    cap.mesh(a, "client", mode="tell")
    accepted, _, _ = talk(c.connect(b.ip4, 8080))
    assert accepted[0] == f"::ffff:{c.ip4}"


def test_two_workloads_on_one_machine_are_told_apart(net, two_hosts, cap):
    a, b = two_hosts
    cap.mesh(a, "one", "--namespace", "shop", "--ports", "80,443/tcp", mode="tell")
    cap.mesh(b, "two", mode="tell")
    held = [line(a.connect("10.98.0.1", 80)) for _ in range(3)] + [line(b.connect("10.98.0.2", 81)) for _ in range(2)]
    assert held == ["10.98.0.1 80"] * 3 + ["10.98.0.2 81"] * 2
    st = {w["instance"]: w for w in cap.status()["workloads"]}
    assert st["shop-one"]["counters"]["captured"] == 3 and st["default-two"]["counters"]["captured"] == 2
    assert st["shop-one"]["ports"] == [80, 443] and st["shop-one"]["addresses"] == [a.ip4, a.ip6]
    assert all(w["proxyRunning"] and w["steering"]["attached"] for w in st.values())
    programs = {p["name"]: p["id"] for p in cap.status()["programs"]}
    assert len(programs) == 9
    # One detached, the other goes on.
    cap.run(None, "detach", "--name", "one", "--namespace", "shop")
    serve(net.host("c"))
    talk(a.connect("10.99.0.3", 8080))
    assert line(b.connect("10.99.0.3", 8080)) == "10.99.0.3 8080"
    assert {p["name"]: p["id"] for p in cap.status()["programs"]} == programs


def test_a_host_without_ipv6_is_meshed(net, cap):
    a, b = net.host("a", ipv6=False), net.host("b", ipv6=False)
    serve(b, "0.0.0.0")
    cap.mesh(a, "client")
    cap.mesh(b, "orders")
    assert talk(a.connect(b.ip4, 8080))[0][0] == a.ip4


def test_a_neighbour_cannot_come_in_by_way_of_127(two_hosts, cap):
    """With route_localnet a host takes packets for 127/8 from the wire; they must not count as local."""
    a, b = two_hosts
    serve(b, "0.0.0.0")
    for h in two_hosts:
        h.run(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"])
    a.run(["ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"])
    a.run(["ip", "route", "add", "127.9.9.9/32", "via", b.ip4, "dev", "eth0", "src", a.ip4])
    assert line(a.connect("127.9.9.9", 8080)).startswith(f"{a.ip4} "), "the way in exists without a mesh"
    p = cap.mesh(b, "orders", mode="tell")
    try:
        with a.connect("127.9.9.9", 8080, timeout=2) as s:
            s.settimeout(0.5)
            s.recv(1)
    except OSError:
        pass
    assert "in 127.9.9.9 8080" in p.output(), "the proxy decides about it"
    p.kill()
    assert refused(a, "127.9.9.9", 8080)
    assert line(b.connect("127.9.9.9", 8080)), "what is local stays so"


def test_fast_open_is_not_a_way_out(two_hosts, cap):
    a, b = two_hosts
    serve(b)
    a.run(["sysctl", "-qw", "net.ipv4.tcp_fastopen=0x605"])  # send data without asking for a cookie
    cap.mesh(a, "client", mode="tell")
    with a.inside():
        s = socket.socket()
    s.settimeout(5)
    s.sendto(b"data with the SYN", socket.MSG_FASTOPEN, (b.ip4, 8080))
    assert line(s) == f"{b.ip4} 8080"


def test_multipath_tcp_is_not_a_way_out(two_hosts, cap):
    a, b = two_hosts
    serve(b)
    cap.mesh(a, "client", mode="tell")
    with a.inside():
        try:
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
        except OSError:
            missing("the kernel has no MPTCP")
    s.settimeout(5)
    s.connect((b.ip4, 8080))
    assert line(s) == f"{b.ip4} 8080"

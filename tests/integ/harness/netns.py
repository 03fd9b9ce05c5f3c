# SPDX-License-Identifier: Apache-2.0
"""Network namespaces as hosts: the ground that every integration test stands on.

    net = Net()                          # a switch of its own: namespace "wft-<pid>-<n>-wire" with a bridge
    a, b = net.host("a"), net.host("b")  # 10.99.0.1 / fd00:99::1, 10.99.0.2 / fd00:99::2 on eth0
    b.start_python(ECHO, 8080)           # a Python program inside b
    b.wait_port(8080)
    with a.inside():                     # this thread's new sockets belong to a
        s = socket.create_connection((b.ip4, 8080))
    pcap = net.sniff("tcp")              # everything on the switch;  b.sniff(dev="lo") for one host
    ...
    assert pcap.stop().contains(b"marker")
    net.close()                          # also at exit, at SIGTERM, and for the dead by the next run

Names are unique to the process, so runs do not disturb each other. A host is entered with `nsenter --net`, not with `ip netns
exec`: the latter hides /sys/fs/cgroup and bpffs behind a fresh /sys. Nothing here knows of Weft.
"""

import atexit
import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PYTHON = "/usr/bin/python3"
CLONE_NEWNET = 0x40000000
PREFIX = "wft"

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
_open_nets = set()


class Timeout(AssertionError):
    """A condition did not come true before its deadline; the text says what was awaited and what was seen."""


PATIENCE = float(os.environ.get("WEFT_PATIENCE", 1))  # of every wait_until(): more where a machine is slow as an emulated one is


def wait_until(condition, timeout=10.0, what="condition"):
    """Calls condition() until it returns something true, and returns that. Raises Timeout; never sleeps longer than needed."""
    end = time.monotonic() + timeout * PATIENCE
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"{what}: not within {timeout} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def cgroup2_root():
    """The mount point of cgroup2 (it may stand beside v1), or None."""
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.split(" - ", 1)
            if right.split()[0] == "cgroup2":
                return left.split()[4]
    return None


def _ip(*args, check=True):
    return subprocess.run(["ip", *args], check=check, capture_output=True, text=True)


class Proc:
    """A process inside a host. Its output (stdout and stderr together) goes to a file and can be awaited."""

    def __init__(self, host, argv, **popen):
        self.host = host
        self.argv = argv
        self._out = tempfile.NamedTemporaryFile(prefix="wft-out-", delete=False)
        popen.setdefault("stdin", subprocess.DEVNULL)
        self.name = " ".join(a if len(a) < 80 else a[:40] + "..." for a in argv)
        self.popen = subprocess.Popen(argv, stdout=self._out, stderr=subprocess.STDOUT, start_new_session=True, **popen)
        self.pid = self.popen.pid

    def output(self):
        """All it has written so far."""
        with open(self._out.name, errors="replace") as f:
            return f.read()

    def wait_output(self, regex, timeout=10.0):
        """Waits until its output matches; returns the match. Fails at once when it has ended without."""

        def seen():
            ended = self.popen.poll() is not None
            m = re.search(regex, self.output(), re.M)
            if not m and ended:
                raise AssertionError(f"{self.name!r}: ended with {self.popen.returncode} before /{regex}/:\n{self.output()}")
            return m

        try:
            return wait_until(seen, timeout, f"output /{regex}/ of {self.name!r}")
        except Timeout as e:
            raise Timeout(f"{e}\n{self.output()}") from None

    def alive(self):
        return self.popen.poll() is None

    def wait(self, timeout=10.0):
        """Waits for its end and returns the exit code."""
        return self.popen.wait(timeout)

    def signal(self, sig):
        if self.alive():
            self.popen.send_signal(sig)

    def kill(self):
        """SIGKILL to this process alone, and waits."""
        self.signal(signal.SIGKILL)
        return self.popen.wait(10)

    def stop(self, timeout=5.0):
        """SIGTERM, then SIGKILL to its process group. Returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.popen.wait(5) if code is None else code

    def close(self):
        if self.alive():
            self.stop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._out.name)


class Sniffer:
    """tcpdump until stop(); then the packets' bytes. Marker searches look at the raw file: a marker must fit in one segment."""

    def __init__(self, host, dev, expression):
        self.path = tempfile.mktemp(prefix="wft-", suffix=".pcap")
        argv = ["tcpdump", "-i", dev, "-s", "0", "-U", "--immediate-mode", "-B", "16384", "-Z", "root", "-w", self.path]
        self.proc = host.popen(argv + ([expression] if expression else []))
        self.proc.wait_output("listening on")
        self.data = None

    def stop(self):
        if self.data is None:
            # Packets reach the file through the ring in order: let what was sent before now pass.
            size = -1
            while size != (size := os.path.getsize(self.path)):
                time.sleep(0.1)
            self.proc.popen.send_signal(signal.SIGINT)
            self.proc.wait()
            dropped = re.search(r"(\d+) packets? dropped by kernel", self.proc.output())
            if dropped and int(dropped.group(1)):
                raise AssertionError(f"tcpdump lost packets, its evidence is void: {self.proc.output()}")
            with open(self.path, "rb") as f:
                self.data = f.read()
            os.unlink(self.path)
        return self

    def contains(self, marker):
        """Whether the bytes were seen. Stops the capture."""
        return marker in self.stop().data

    def packets(self):
        """How many packets were seen (microsecond pcap as tcpdump writes it). Stops the capture."""
        data, at, n = self.stop().data, 24, 0
        while at + 16 <= len(data):
            at += 16 + int.from_bytes(data[at + 8 : at + 12], sys.byteorder)
            n += 1
        return n


class Host:
    """One network namespace with eth0 on the switch. Made by Net.host()."""

    def __init__(self, net, name, number, ipv6=True):
        self.net = net
        self.name = name
        self.ns = f"{net.id}-{name}"
        self.ip4 = f"10.99.0.{number}"
        self.ip6 = f"fd00:99::{number:x}" if ipv6 else None
        self.procs = []
        _ip("netns", "add", self.ns)
        sysctl = self.run(["sysctl", "-qw", f"net.ipv6.conf.all.disable_ipv6={0 if ipv6 else 1}",
                           f"net.ipv6.conf.default.disable_ipv6={0 if ipv6 else 1}"], check=False)
        if ipv6 and sysctl.returncode:
            raise RuntimeError(f"IPv6 in {self.ns}: {sysctl.stdout}")

    def _plug(self, port):
        wire = self.net.wire_ns
        _ip("link", "add", "eth0", "netns", self.ns, "type", "veth", "peer", "name", port, "netns", wire)
        _ip("-n", wire, "link", "set", port, "master", "br0", "up")
        _ip("-n", self.ns, "link", "set", "lo", "up")
        _ip("-n", self.ns, "addr", "add", f"{self.ip4}/24", "dev", "eth0")
        if self.ip6:
            _ip("-n", self.ns, "addr", "add", f"{self.ip6}/64", "dev", "eth0", "nodad")
        _ip("-n", self.ns, "link", "set", "eth0", "up")

    def add_address(self, cidr):
        """One more address on eth0, e.g. "10.99.0.77/24" or "fd00:99::77/64"."""
        _ip("-n", self.ns, "addr", "add", cidr, "dev", "eth0", *(["nodad"] if ":" in cidr else []))

    def command(self, argv, cgroup=None, user=None):
        """argv as it must be run from outside to run inside. `cgroup`: a cgroup2 folder to enter first; `user`: a numeric UID
        (and GID) without groups or capabilities."""
        full = ["nsenter", f"--net=/run/netns/{self.ns}"]
        if cgroup:
            full += ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroup]
        if user is not None:
            full += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all"]
        return full + [str(a) for a in argv]

    def run(self, argv, check=True, timeout=60, cgroup=None, user=None, **kw):
        """Runs to the end; a CompletedProcess with text in stdout (stderr joined unless given). check: failure raises with output."""
        kw.setdefault("stderr", subprocess.STDOUT)
        kw.setdefault("stdin", subprocess.DEVNULL)
        r = subprocess.run(self.command(argv, cgroup, user), stdout=subprocess.PIPE, text=True, timeout=timeout, **kw)
        if check and r.returncode:
            raise AssertionError(f"{self.name}: {argv}: exit {r.returncode}\n{r.stdout}")
        return r

    def popen(self, argv, cgroup=None, user=None, env=None, **kw):
        """Starts a program and returns its Proc; ended with the net. `env` is added to the environment."""
        p = Proc(self, self.command(argv, cgroup, user), env={**os.environ, **env} if env else None, **kw)
        self.procs.append(p)
        return p

    def start_python(self, code, *args, ready=None, timeout=10.0, **kw):
        """Runs Python source inside (sys.argv[1:] = args, unbuffered). `ready`: regex of the output to wait for."""
        p = self.popen([PYTHON, "-u", "-c", code, *args], **kw)
        if ready:
            p.wait_output(ready, timeout)
        return p

    def run_python(self, code, *args, **kw):
        """Runs Python source inside to its end and returns its output, stripped."""
        return self.run([PYTHON, "-u", "-c", code, *args], **kw).stdout.strip()

    @contextlib.contextmanager
    def inside(self):
        """This thread's network is the host's within the block: sockets made there stay the host's afterwards."""
        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net") as back, open(f"/run/netns/{self.ns}") as there:
            _setns(there.fileno())
            try:
                yield self
            finally:
                _setns(back.fileno())

    def connect(self, address, port, timeout=5.0, source=None):
        """A connected TCP socket that belongs to this host."""
        with self.inside():
            return socket.create_connection((address, port), timeout, source)

    def listening(self, port):
        """Whether some TCP socket listens on the port (read from /proc: nothing is connected, so no server sees a probe)."""
        want = f":{port:04X}"
        for table in ("tcp", "tcp6"):
            text = self.run(["cat", f"/proc/self/net/{table}"], check=False).stdout
            for line in text.splitlines()[1:]:
                f = line.split()
                if len(f) > 3 and f[3] == "0A" and f[1].endswith(want):
                    return True
        return False

    def wait_port(self, port, timeout=10.0):
        """Waits until something listens on the TCP port."""
        wait_until(lambda: self.listening(port), timeout, f"{self.name}: a listener on port {port}")

    def sniff(self, expression="", dev="eth0"):
        """Captures packets on one device ("lo", "eth0", "any") of this host; returns a Sniffer that already listens."""
        return Sniffer(self, dev, expression)

    def pids(self):
        """Every process whose network this is."""
        return [int(p) for p in _ip("netns", "pids", self.ns, check=False).stdout.split()]

    def close(self):
        for p in reversed(self.procs):
            with contextlib.suppress(Exception):
                p.close()
        _remove_namespace(self.ns)


class Net:
    """A switch and the hosts plugged into it: 10.99.0.0/24 and fd00:99::/64. There is no router: other addresses are unreachable,
    unless gateway=True gives each host a default route to the switch, where what is not its own disappears."""

    def __init__(self, gateway=False):
        _remove_orphans()
        self.id = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.gateway = gateway
        self.hosts = {}
        _open_nets.add(self)
        self.wire_ns = f"{self.id}-wire"
        self.wire = Host(self, "wire", 254)
        _ip("-n", self.wire_ns, "link", "set", "lo", "up")
        _ip("-n", self.wire_ns, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", self.wire_ns, "addr", "add", "10.99.0.254/24", "dev", "br0")
        _ip("-n", self.wire_ns, "addr", "add", "fd00:99::fe/64", "dev", "br0", "nodad")
        _ip("-n", self.wire_ns, "link", "set", "br0", "up")

    def host(self, name, ipv6=True):
        """A new host. Names are free text of a namespace ("orders"); numbers, thus addresses, are given in order from 1."""
        n = len(self.hosts) + 1
        h = Host(self, name, n, ipv6)
        self.hosts[name] = h
        h._plug(f"p{n}")
        if self.gateway:
            _ip("-n", h.ns, "route", "add", "default", "via", "10.99.0.254")
            if h.ip6:
                _ip("-n", h.ns, "-6", "route", "add", "default", "via", "fd00:99::fe")
        return h

    def sniff(self, expression=""):
        """Everything between hosts: the bridge's view."""
        return self.wire.sniff(expression, dev="br0")

    def close(self):
        """Ends every process and namespace of this net. Safe to call twice."""
        _open_nets.discard(self)
        for h in [*reversed(self.hosts.values()), self.wire]:
            h.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _remove_namespace(ns):
    """Ends what runs inside (everything there is ours: the namespace's name is) and deletes the namespace."""
    for pid in _ip("netns", "pids", ns, check=False).stdout.split():
        if int(pid) != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "del", ns, check=False)


def _remove_orphans():
    """Namespaces of runs that were killed before they could clean up."""
    if not os.path.isdir("/run/netns"):
        return
    for ns in os.listdir("/run/netns"):
        m = re.fullmatch(PREFIX + r"-(\d+)-\d+-.*", ns)
        if m and not os.path.exists(f"/proc/{m.group(1)}"):
            _remove_namespace(ns)


def close_all():
    for net in list(_open_nets):
        with contextlib.suppress(Exception):
            net.close()


def _on_sigterm(_signo, _frame):
    sys.exit(143)  # runs atexit


atexit.register(close_all)
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
    signal.signal(signal.SIGTERM, _on_sigterm)


def have(tool):
    return shutil.which(tool) is not None

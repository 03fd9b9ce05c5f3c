# SPDX-License-Identifier: Apache-2.0
"""A mesh on the hosts of harness/netns.py, in two forms.

FileMesh: sidecars that run from one JSON file each (-f), certificates by harness/pki.py; no control plane.

    mesh = FileMesh(net, tmp_path)
    orders = mesh.workload(net.host("a"), "orders", ports="8080/http")
    web = mesh.workload(net.host("b"), "web")
    vip = mesh.service("orders", {80: (8080, "http")}, [orders])       # -> ("240.0.0.1", "fd77:6566:7400:1::1")
    mesh.start()                                                        # sidecars up and ready
    web.host.run(["curl", f"http://{vip[0]}/"])

Mesh: weftd, join tokens, everything pushed.

    mesh = Mesh(net, tmp_path)
    mesh.start_control()                                                # weftd init, weftd; host "control"
    orders = mesh.workload(net.host("a"), "orders-1", sa="orders", labels={"app": "orders"}, ports="8080/http")
    mesh.apply(YAML)                                                    # weft apply -f -
    vip = mesh.vips("orders")

Programs come from WEFT_BUILD (default build/plain). Pins, cgroups, state and run folders are of the test's own."""

import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from harness import pki
from harness.netns import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
TRUST_DOMAIN = "weft.test"
MESH_CIDRS = ["10.99.0.0/24", "fd00:99::/64", "240.0.0.0/4", "fd77:6566:7400:1::/64"]
_numbers = itertools.count(1)


def program(name, build=None):
    build = pathlib.Path(build or os.environ.get("WEFT_BUILD", "build/plain"))
    return str((build if build.is_absolute() else ROOT / build) / "bin" / name)


class Workload:
    """One sidecar on one host. `capture` is the Proc of weft-capture exec, which becomes the supervisor."""

    def __init__(self, mesh, host, name, ns, sa, labels, ports, extra, env):
        self.mesh, self.host, self.name, self.ns, self.sa = mesh, host, name, ns, sa
        self.labels, self.ports, self.extra, self.env = labels or {}, ports, list(extra), dict(env or {})
        self.identity = pki.spiffe_id(TRUST_DOMAIN, ns, sa)
        self.capture = None
        self.prefix = ()  # a program to run weft-capture under
        self.token = None
        self.file = None

    def start(self, ready=True, proxy_args=(), command=None):
        """weft-capture exec -- weft-proxy. ready: waits for /ready."""
        m = self.mesh
        m.open_path()
        argv = [m.bin("weft-capture"), "exec", "--name", self.name, "--namespace", self.ns, *m.capture_args()]
        if self.labels:
            argv += ["--labels", ",".join(f"{k}={v}" for k, v in self.labels.items())]
        if self.ports:
            argv += ["--ports", self.ports]
        argv += m.join_args(self) + self.extra
        argv += ["--"] + (command or [m.bin("weft-proxy"), *m.proxy_args(self), *proxy_args])
        self.capture = self.host.popen([*self.prefix, *argv], env={"WEFT_LOG_LEVEL": "debug", **m.env(), **self.env})
        if ready:
            self.wait_ready()
        return self

    def log(self):
        return self.capture.output()

    def wait_ready(self, timeout=15.0):
        def is_ready():
            if not self.capture.alive():
                raise AssertionError(f"{self.name}: the sidecar ended with {self.capture.popen.returncode}:\n{self.log()}")
            return self.status("/ready")[0] == 200
        try:
            wait_until(is_ready, timeout, f"{self.name} ready")
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.status('/ready')}\n{self.log()}") from None

    def status(self, path):
        """(HTTP status, body) of a page on the status port, asked from the host itself."""
        r = self.host.run(["curl", "-s", "-m", "2", "-w", "\n%{http_code}", f"http://127.0.0.1:4820{path}"], check=False)
        body, _, code = r.stdout.rpartition("\n")
        return int(code or 0), body

    def metric(self, name, **labels):
        """Sum of the samples of one metric whose labels match."""
        total = 0.0
        for line in self.status("/metrics")[1].splitlines():
            m = re.match(r"([a-z_]+)(?:\{(.*)\})? (\S+)$", line)
            if not m or m.group(1) != name:
                continue
            have = dict(re.findall(r'(\w+)="([^"]*)"', m.group(2) or ""))
            if all(have.get(k) == v for k, v in labels.items()):
                total += float(m.group(3))
        return total

    def admin(self, path, method="GET", body=None):
        """A page of the admin socket, parsed when it is JSON."""
        argv = ["curl", "-s", "-m", "5", "-X", method, "--unix-socket", self.admin_socket(), f"http://admin{path}"]
        r = self.host.run(argv + (["-d", body] if body else []), check=True)
        return json.loads(r.stdout) if r.stdout.lstrip()[:1] in "[{" else r.stdout

    def admin_socket(self):
        found = list(self.mesh.run_dir.glob(f"{self.ns}-{self.name}/admin.sock"))
        assert found, f"no admin socket for {self.name} under {self.mesh.run_dir}"
        return str(found[0])

    def pids(self):
        """(supervisor, worker) of the running sidecar; worker None while there is none."""
        kids = pathlib.Path(f"/proc/{self.capture.pid}/task/{self.capture.pid}/children").read_text().split()
        return self.capture.pid, int(kids[0]) if kids else None

    def worker(self):
        return wait_until(lambda: self.pids()[1], 5, f"a worker of {self.name}")

    def stop(self):
        return self.capture.stop(timeout=35)


def _detach(capture, name):
    """Takes a capture away whose pins and cgroup are called `name`."""
    subprocess.run([capture, "detach", "--all", "--pin-dir", f"/sys/fs/bpf/{name}", "--cgroup", name], capture_output=True, text=True, check=False)


def _remove_orphans(capture):
    """Captures of runs that were killed before they could detach."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/sys/fs/bpf"):
            m = re.fullmatch(r"weft-test-(\d+)-\d+", name)
            if m and not os.path.exists(f"/proc/{m.group(1)}"):
                _detach(capture, name)


class _Base:
    def __init__(self, net, tmp_path, build=None):
        self.net, self.tmp, self.build = net, pathlib.Path(tmp_path), build
        _remove_orphans(self.bin("weft-capture"))
        self.id = f"weft-test-{os.getpid()}-{next(_numbers)}"
        self.run_dir, self.state_dir = self.tmp / "run", self.tmp / "state"
        self.pin_dir = f"/sys/fs/bpf/{self.id}"
        self.workloads = {}
        for d in (self.run_dir, self.state_dir):
            d.mkdir(mode=0o755)
        self.open_path()

    def open_path(self):
        """The proxy is UID 4800: it must be able to walk there. Before each start: another pytest of root's closes the shared parent."""
        for d in [self.tmp, *self.tmp.parents]:
            with contextlib.suppress(PermissionError):
                if not d.stat().st_mode & 0o001:
                    d.chmod(d.stat().st_mode | 0o011)

    def bin(self, name):
        return program(name, self.build)

    def env(self):
        return {"ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1",
                "TSAN_OPTIONS": "second_deadlock_stack=1"}

    def capture_args(self):
        return ["--pin-dir", self.pin_dir, "--cgroup", self.id, "--run-dir", str(self.run_dir), "--state-dir", str(self.state_dir)]

    def workload(self, host, name, ns="shop", sa=None, labels=None, ports="", extra=(), env=None):
        w = Workload(self, host, name, ns, sa or name, labels, ports, extra, env)
        self.workloads[name] = w
        return w

    def detach(self):
        _detach(self.bin("weft-capture"), self.id)

    def close(self):
        """Ends the sidecars, then takes the capture away. Fails the test when a sanitizer spoke."""
        logs = []
        for w in self.workloads.values():
            if w.capture is not None:
                w.stop()
                logs.append((w.name, w.log()))
        self.detach()
        for name, log in logs:
            found = re.search(r"(ERROR: AddressSanitizer|WARNING: ThreadSanitizer|runtime error:|MUST\(|ERROR: LeakSanitizer)[^\0]*", log)
            assert not found, f"{name}: {found.group(0)[:4000]}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for w in self.workloads.values():
                if w.capture is not None:
                    print(f"--- {w.name}\n{w.log()[-3000:]}", file=sys.stderr)
        self.close()


class FileMesh(_Base):
    def __init__(self, net, tmp_path, build=None):
        super().__init__(net, tmp_path, build)
        self.ca = pki.Authority(TRUST_DOMAIN)
        self.services = []
        self.credentials = {}

    def service(self, name, ports, endpoints, ns="shop"):
        """ports: {service port: (endpoint port, protocol)}; endpoints: workloads, or (address, identity or None). Returns the VIPs."""
        n = len(self.services) + 1
        vips = [f"240.0.0.{n}", f"fd77:6566:7400:1::{n:x}"]
        eps = []
        for e in endpoints:
            ips = [e.host.ip4] + ([e.host.ip6] if e.host.ip6 else []) if isinstance(e, Workload) else [e[0]]
            identity = e.identity if isinstance(e, Workload) else e[1]
            for ip in ips[:1]:
                eps.append({"address": ip, "ports": {str(p): t[0] for p, t in ports.items()},
                            **({"identity": identity} if identity else {"meshed": False})})
        self.services.append({"name": name, "namespace": ns, "vips": vips, "endpoints": eps,
                              "ports": [{"port": p, "protocol": t[1], "name": f"p{p}"} if t[1] else {"port": p, "name": f"p{p}"}
                                        for p, t in ports.items()]})
        return vips

    def _ports(self, text):
        out = []
        for one in filter(None, text.split(",")):
            port, _, proto = one.partition("/")
            out.append({"port": int(port), **({"protocol": proto} if proto else {})})
        return out

    def write(self, w, credential=None):
        """The file of one workload; `credential`: another than its own (a thief's, an expired one)."""
        c = credential or self.credentials.get(w.name) or self.ca.leaf(w.ns, w.sa)
        crt, key, roots = c.write(self.tmp, w.name)
        for p in (crt, key, roots):
            os.chmod(p, 0o644)
        w.file = self.tmp / f"{w.name}.json"
        w.file.write_text(json.dumps({
            "trustDomain": TRUST_DOMAIN, "cidrs": MESH_CIDRS, "certificate": crt, "key": key, "roots": roots,
            "self": {"name": w.name, "namespace": w.ns, "serviceAccount": w.sa, "ports": self._ports(w.ports)},
            "services": self.services,
            "workloads": [{"name": o.name, "namespace": o.ns, "identity": o.identity, "meshed": True, "ports": self._ports(o.ports),
                           "addresses": [o.host.ip4] + ([o.host.ip6] if o.host.ip6 else [])}
                          for o in self.workloads.values()]}))
        w.file.chmod(0o644)

    def join_args(self, w):
        return []

    def proxy_args(self, w):
        return ["-f", str(w.file)]

    def start(self):
        for w in self.workloads.values():
            self.write(w)
            w.start(ready=False)
        for w in self.workloads.values():
            w.wait_ready()


class Mesh(_Base):
    """weftd on a host of its own, `weft` from there, sidecars that join with tokens."""

    def __init__(self, net, tmp_path, build=None, cidrs=("10.99.0.0/24", "fd00:99::/64")):
        super().__init__(net, tmp_path, build)
        self.cidrs = cidrs
        self.control = None
        self.weftd = None
        self.store = self.tmp / "weft.db"
        self.config = self.tmp / "admin.json"

    def start_control(self, host=None, args=()):
        """`weftd init` the first time, then weftd. Returns its Proc; ready when it serves."""
        self.control = self.control or host or self.net.host("control")
        if not self.store.exists():
            cidrs = [a for c in self.cidrs for a in ("--mesh-cidr", c)]
            self.control.run([self.bin("weftd"), "init", "--store", self.store, "--admin-config", self.config, "--trust-domain", TRUST_DOMAIN,
                              "--server", f"{self.control.ip4}:4810", *cidrs], env={**os.environ, **self.env()})
        names = [a for n in (self.control.ip4, self.control.ip6) if n for a in ("--name", n)]
        self.weftd = self.control.popen([self.bin("weftd"), "--store", self.store, *names, *args],
                                        env={"WEFT_LOG_LEVEL": "debug", **self.env(), "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1"})
        self.wait_control()
        return self.weftd

    def wait_control(self):
        def up():
            assert self.weftd.alive(), f"weftd ended with {self.weftd.popen.returncode}:\n{self.weftd.output()}"
            r = self.control.run(["curl", "-s", "-m", "1", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:4814/ready"], check=False)
            return r.stdout == "200"
        wait_until(up, 15, "weftd ready")

    def weft(self, *args, input=None, check=True, host=None):
        """The CLI. A CompletedProcess with stdout and stderr apart."""
        h = host or self.control
        r = subprocess.run(h.command([self.bin("weft"), *args]), input=input, text=True, timeout=60, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env={**os.environ, **self.env(), "WEFT_CONFIG": str(self.config)})
        if check and r.returncode:
            raise AssertionError(f"weft {args}: exit {r.returncode}\n{r.stdout}{r.stderr}")
        return r

    def apply(self, text):
        return self.weft("apply", "-f", "-", input=text)

    def get(self, kind, name=None, ns="shop"):
        r = self.weft("get", kind, *([name] if name else []), "-n", ns, "-o", "json")
        return json.loads(r.stdout)

    def vips(self, service, ns="shop"):
        """[v4, v6] of a service, as weftd gave them."""
        return self.get("service", service, ns)["spec"]["clusterIPs"]

    def service(self, name, ports, selector, ns="shop"):
        """Applies a Service. ports: {port: (targetPort, appProtocol or None)}. Returns its VIPs."""
        self.apply(json.dumps({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns},
            "spec": {"selector": selector, "ports": [
                {"name": f"p{p}", "port": p, "targetPort": t[0], **({"appProtocol": t[1]} if t[1] else {})} for p, t in ports.items()]}}))
        return self.vips(name, ns)

    def new_token(self, ns, sa, labels=None, *args):
        extra = [a for k, v in (labels or {}).items() for a in ("--label", f"{k}={v}")]
        return self.weft("token", "create", "-n", ns, "--service-account", sa, *extra, *args).stdout.strip()

    def join_args(self, w):
        path = self.tmp / f"{w.name}.token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(w.token or self.new_token(w.ns, w.sa, w.labels))
        # One link for each address family: the registered address is a link's source.
        control = ([f"{self.control.ip4}:4810"] if w.host.ip4 else []) + ([f"[{self.control.ip6}]:4810"] if self.control.ip6 and w.host.ip6 else [])
        return ["--token-file", str(path), "--control", ",".join(control)]

    def proxy_args(self, w):
        return []

    def close(self):
        super().close()
        if self.weftd is not None:
            alive, code = self.weftd.alive(), self.weftd.stop()
            log = self.weftd.output()
            found = re.search(r"(ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:|MUST\()[^\0]*", log)
            assert not found, f"weftd: {found.group(0)[:4000]}"
            assert not alive or code == 0, f"weftd ended with {code}:\n{log[-4000:]}"

# SPDX-License-Identifier: Apache-2.0
"""make demo: six hosts on this machine (network namespaces), a mesh between them, and the proof of what it does.

Each step says what it shows, does it, and checks it. Exit 1 when one claim does not hold. KEEP=1 leaves everything running and says how
to look around; Ctrl-C (or a crash) takes everything down."""

import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "integ"), str(ROOT / "tests" / "demo")]

import apps  # noqa: E402
from harness import netns  # noqa: E402
from harness.mesh import Mesh  # noqa: E402

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
failed = []

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {selector: {app: orders}, ports: [{name: web, port: 8080, targetPort: 8080}, {name: fast, port: 8081, targetPort: 8081}, {name: rpc, port: 50051, targetPort: 50051}]}
---
apiVersion: v1
kind: Service
metadata: {name: orders-v1, namespace: shop}
spec: {selector: {app: orders, version: v1}, ports: [{name: web, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: orders-v2, namespace: shop}
spec: {selector: {app: orders, version: v2}, ports: [{name: web, port: 8080, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: shop}
spec: {selector: {app: ledger}, ports: [{name: redis, port: 6379, targetPort: 6379}, {name: mail, port: 2525, targetPort: 2525}]}
"""

CANARY = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: orders, port: 8080}]
  rules:
  - backendRefs: [{name: orders-v1, port: 8080, weight: 90}, {name: orders-v2, port: 8080, weight: 10}]
"""


def say(text):
    print(text, flush=True)


def step(number, text):
    say(f"\n{number}. {text}")


def proof(claim, holds, seen=""):
    mark = "√" if holds else "×"
    if COLOUR:
        mark = f"\033[3{2 if holds else 1}m{mark}\033[0m"
    say(f"   {mark} {claim}" + (f"   [{seen}]" if seen else ""))
    if not holds:
        failed.append(claim)


def curl(host, url, hosts_file):
    """Plain curl, with the names that the mesh gives: what an /etc/hosts made by `weft get services -o hosts` would do."""
    resolve = [a for n, ip, port in hosts_file for a in ("--resolve", f"{n}:{port}:{ip}")]
    return host.run(["curl", "-s", "-S", "-m", "5", *resolve, url], check=False)


def fresh_marker():
    return "marker-" + secrets.token_hex(12)


def counts(text):
    return {k: int(v) for k, v in (pair.split("=") for pair in text.split())}


class Load:
    """Calls without a pause from host `web` while something happens."""

    def __init__(self, web, ip):
        self.proc = web.popen([netns.PYTHON, "-u", "-c", apps.LOAD, ip, "0", "/"], stdin=subprocess.PIPE)
        self.proc.wait_output("begun")

    def stop(self):
        self.proc.popen.stdin.write(b"\n")
        self.proc.popen.stdin.close()
        return counts(self.proc.wait_output(r"(v\d|failed)=.*", 10).group(0))


class Demo:
    def __init__(self, net, tmp):
        self.net = net
        self.mesh = Mesh(net, tmp)
        self.hosts = {n: net.host(n) for n in ("web", "orders-1", "orders-2", "orders-3", "ledger")}
        self.web = self.hosts["web"]
        self.sidecars = {}

    def call(self, path):
        return curl(self.web, f"http://orders:8080{path}", [("orders", self.vip, 8080)])

    def control_plane(self):
        """A control plane: weftd init makes the mesh's own certificate authority, then weftd serves."""
        self.mesh.start_control()
        say(f"   weftd on {self.mesh.control.ip4}; hosts: " + ", ".join(f"{n} {h.ip4}" for n, h in self.hosts.items()))
        self.mesh.apply(SERVICES)
        self.vip, self.ledger = self.mesh.vips("orders")[0], self.mesh.vips("ledger")[0]
        say("   " + self.mesh.weft("get", "services", "-n", "shop").stdout.rstrip().replace("\n", "\n   "))

    def applications(self):
        """Applications that know nothing of a mesh, a sidecar beside each: web -> orders (v1 twice, v2 once) -> ledger (redis-server)."""
        m, h = self.mesh, self.hosts
        # No protocol is declared anywhere: what passes is found out.
        self.sidecars["ledger"] = m.workload(h["ledger"], "ledger-1", sa="ledger", labels={"app": "ledger"}, ports="6379,2525")
        for i, version in ((1, "v1"), (2, "v2"), (3, "v1")):
            self.sidecars[f"orders-{i}"] = m.workload(h[f"orders-{i}"], f"orders-{i}", sa="orders", labels={"app": "orders", "version": version},
                                                      ports="8080,8081,50051")
        self.sidecars["web"] = m.workload(self.web, "web-1", sa="web")
        for s in self.sidecars.values():
            s.start(ready=False)
        h["ledger"].popen(["redis-server", "--port", "6379", "--save", "", "--appendonly", "no", "--bind", "*", "--protected-mode", "no"])
        h["ledger"].start_python(apps.SMTP)
        for i, version in ((1, "v1"), (2, "v2"), (3, "v1")):
            host = h[f"orders-{i}"]
            host.start_python(apps.ORDERS, version, self.ledger)
            host.popen(["nghttpd", "--no-tls", "-d", str(self.mesh.tmp), "8081"])
            host.start_python(apps.GRPC_SERVER)
        for s in self.sidecars.values():
            s.wait_ready()
        for i in (1, 2, 3):
            for port in (8080, 8081, 50051):
                h[f"orders-{i}"].wait_port(port)
        h["ledger"].wait_port(2525)
        say("   " + m.weft("status").stdout.rstrip().replace("\n", "\n   "))

    def only_tls(self):
        """curl http://orders:8080/ from host web: plain HTTP in, plain HTTP out, and only TLS on the wire between."""
        marker = fresh_marker()
        wire, lo = self.net.sniff("tcp"), [self.hosts[f"orders-{i}"].sniff("tcp", dev="lo") for i in (1, 2, 3)]
        r = self.call(f"/order/{marker}")
        proof("the application answered, and counted the order in redis behind another sidecar", marker in r.stdout, r.stdout.strip())
        proof("the marker is in the packets on loopback of the host that answered", any([s.contains(marker.encode()) for s in lo]))
        proof(f"the marker is nowhere in the {wire.packets()} packets between the hosts", not wire.contains(marker.encode()))

    def identities(self):
        """Who spoke to whom: identities from certificates, not from addresses."""
        sessions = [s for n, w in self.sidecars.items() if n != "web" for s in w.admin("/connections")["sessions"] if s["direction"] == "inbound"]
        callers = sorted({s["identity"].rsplit("/", 1)[1] for s in sessions if s["identity"]})
        callees = {p["identity"] for p in self.sidecars["web"].admin("/connections")["pool"] if p["hop"] == "mesh"}
        proof("orders and ledger know their callers", "web" in callers, "seen: " + ", ".join(callers))
        proof("web checked whom it called", callees == {self.sidecars["orders-1"].identity}, ", ".join(callees))

    def protocols(self):
        """Every protocol, undeclared: HTTP/2, gRPC, redis, and a mail server that speaks first."""
        r = self.web.run(["curl", "-s", "-S", "-m", "5", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_version} %{http_code}",
                          f"http://{self.vip}:8081/weft.db"], check=False)
        proof("HTTP/2 with prior knowledge", r.stdout.startswith("2 "), "version and status " + r.stdout.strip())
        got = self.web.run_python(apps.GRPC_CLIENT, f"{self.vip}:50051", check=False)
        proof("gRPC: three calls of one channel", got == "call-0 call-1 call-2", got)
        n = self.web.run(["redis-cli", "-h", self.ledger, "GET", "orders"], check=False).stdout.strip()
        proof("redis-cli", n.isdigit(), f"orders counted so far: {n}")
        got = self.web.run_python(apps.SMTP_CLIENT, self.ledger, check=False)
        proof("an SMTP greeting, found out without a declaration", got.startswith("220 mail.example"), got)

    def canary(self):
        """A canary: 90 of 100 calls to v1, 10 to v2, by one HTTPRoute; then back."""
        before = json.loads(self.mesh.weft("status", "-o", "json").stdout)["revision"]
        self.mesh.apply(CANARY)
        self.mesh.weft("wait", "httproute", "canary", "-n", "shop")
        seen = counts(self.web.run_python(apps.CALLS, self.vip, "1000", "/"))
        share = seen.get("v2", 0) / 10
        proof("1,000 calls, counted by what answered", 5 <= share <= 15 and not seen.get("failed"), f"{seen}: {share:.1f} % to v2")
        self.mesh.weft("rollback", str(before))
        self.mesh.weft("wait", "--revision", str(json.loads(self.mesh.weft("status", "-o", "json").stdout)["revision"]))
        seen = counts(self.web.run_python(apps.CALLS, self.vip, "300", "/"))
        proof("weft rollback: both versions get their share of endpoints again", seen.get("v2", 0) >= 60 and not seen.get("failed"), str(seen))

    def endpoint_dies(self):
        """An endpoint dies under traffic: the sidecar and the application of one of three are killed with -9."""
        load = Load(self.web, self.vip)
        victim = self.sidecars["orders-3"]
        os.kill(victim.pids()[0], signal.SIGKILL)
        for p in victim.host.procs:
            p.kill()
        time.sleep(1.5)
        seen = load.stop()
        proof("no call failed", not seen.get("failed") and sum(seen.values()) > 20, str(seen))

    def weftd_dies(self):
        """weftd is killed under traffic, and comes back."""
        load = Load(self.web, self.vip)
        self.mesh.weftd.kill()
        time.sleep(1)
        self.mesh.start_control()
        seen = load.stop()
        proof("no call failed", not seen.get("failed") and sum(seen.values()) > 20, str(seen))

    def sidecar_dies(self):
        """Every sidecar of orders is killed with -9, supervisor and worker: what then?"""
        marker = fresh_marker()
        wire = self.net.sniff("tcp")
        for n in ("orders-1", "orders-2"):
            supervisor, worker = self.sidecars[n].pids()
            os.kill(supervisor, signal.SIGKILL)
            netns.wait_until(lambda w=worker: not os.path.exists(f"/proc/{w}"), 5, "the worker gone too")
        r = self.call(f"/{marker}")
        proof("a call through the mesh fails", marker not in r.stdout, (r.stdout or f"curl exit {r.returncode}").strip())
        stranger, ip = self.net.host("stranger"), self.hosts["orders-1"].ip4
        r = stranger.run(["curl", "-s", "-S", "-m", "3", f"http://{ip}:8080/{marker}"], check=False)
        proof("a connection past the dead sidecar is refused by the kernel", r.returncode != 0, r.stdout.strip())
        proof("no plaintext on the wire", not wire.contains(marker.encode()))

    def detached(self):
        """The mesh is detached from all hosts: the same call is plain HTTP again, and the wire shows it."""
        marker = fresh_marker()
        for s in self.sidecars.values():
            s.capture.stop(1)
        self.mesh.detach()
        wire = self.net.sniff("tcp")
        r = curl(self.web, f"http://orders:8080/{marker}", [("orders", self.hosts["orders-1"].ip4, 8080)])
        proof("the application still answers", marker in r.stdout, r.stdout.strip())
        proof("and now the marker is on the wire: the captures above were not blind", wire.contains(marker.encode()))


def run(net, tmp):
    began = time.monotonic()
    demo = Demo(net, tmp)
    steps = [demo.control_plane, demo.applications, demo.only_tls, demo.identities, demo.protocols, demo.canary, demo.endpoint_dies,
             demo.weftd_dies, demo.sidecar_dies, demo.detached]
    with demo.mesh:
        for i, s in enumerate(steps, 1):
            step(i, s.__doc__)
            s()
        say(f"\n{time.monotonic() - began:.1f} s.")
        if os.environ.get("KEEP"):
            keep(demo)
    return 1 if failed else 0


def on_interrupt(_signo, _frame):
    """The first one ends the demo; further ones do not disturb the cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def keep(demo):
    mesh, web = demo.mesh, demo.sidecars["web"]
    for s in demo.sidecars.values():
        s.start()
    enter = f"nsenter --net=/run/netns/{mesh.control.ns} {mesh.bin('weft')} --config {mesh.config}"
    say(f"""
Left running until Ctrl-C. To try (as root, in another shell):
  nsenter --net=/run/netns/{demo.web.ns} curl http://{demo.vip}:8080/
  {enter} status
  {enter} describe service orders -n shop
  {enter} history
  curl --unix-socket {web.admin_socket()} http://admin/connections
  curl --unix-socket {web.admin_socket()} http://admin/config
  nsenter --net=/run/netns/{demo.web.ns} curl http://127.0.0.1:4820/metrics""")
    while True:
        signal.pause()


def main():
    if os.geteuid() != 0:
        sys.exit("make demo makes network namespaces and loads eBPF programs: run it as root")
    signal.signal(signal.SIGINT, on_interrupt)
    signal.signal(signal.SIGTERM, on_interrupt)
    with tempfile.TemporaryDirectory(prefix="weft-demo-") as tmp, netns.Net() as net:
        os.chmod(tmp, 0o755)
        code = run(net, tmp)
    say("Every claim held." if code == 0 else f"{len(failed)} claim(s) did not hold: " + "; ".join(failed))
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

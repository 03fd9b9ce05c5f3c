# SPDX-License-Identifier: Apache-2.0
"""make demo: two hosts on this machine (network namespaces), a mesh between them, and the proof of what it does.

Each step says what it shows, does it, and checks it. Exit 1 when one claim does not hold. KEEP=1 leaves everything running and says how
to look around; Ctrl-C (or a crash) takes everything down."""

import os
import pathlib
import secrets
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))

from harness import netns  # noqa: E402
from harness.mesh import Mesh  # noqa: E402

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
failed = []

APP = r"""
import http.server, socket, sys
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = ("order book, asked for %s\n" % self.path).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 8080), App).serve_forever()
"""

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec:
  selector: {app: orders}
  ports:
  - {name: http, port: 8080, targetPort: 8080, appProtocol: http}
  - {name: redis, port: 6379, targetPort: 6379, appProtocol: tcp}
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


def run(net, tmp):
    began = time.monotonic()
    mesh = Mesh(net, tmp)
    with mesh:
        web, orders = net.host("web"), net.host("orders")
        step(1, "A control plane: weftd init makes the mesh's own certificate authority, then weftd serves.")
        mesh.start_control()
        say(f"   weftd on {mesh.control.ip4}; hosts: web {web.ip4}, orders {orders.ip4}")

        step(2, "Two applications that know nothing of a mesh: an HTTP server and redis-server on host `orders`; curl on host `web`.")
        orders.start_python(APP)
        orders.popen(["redis-server", "--port", "6379", "--save", "", "--appendonly", "no", "--bind", "*", "--protected-mode", "no"])
        orders.wait_port(8080)
        orders.wait_port(6379)

        step(3, "A sidecar beside each, started through weft-capture, joined with a one-use token; then a Service, applied.")
        server = mesh.workload(orders, "orders-1", sa="orders", labels={"app": "orders"}, ports="8080/http,6379/tcp")
        client = mesh.workload(web, "web-1", sa="web")
        server.start(ready=False)
        client.start(ready=False)
        mesh.apply(SERVICES)
        server.wait_ready()
        client.wait_ready()
        say("   " + mesh.weft("get", "services", "-n", "shop").stdout.rstrip().replace("\n", "\n   "))
        vip = mesh.vips("orders")[0]
        names = [("orders", vip, 8080)]

        step(4, "curl http://orders:8080/ from host `web`: plain HTTP in, plain HTTP out, and only TLS on the wire between.")
        marker = fresh_marker()
        wire, lo = net.sniff("tcp"), orders.sniff("tcp", dev="lo")
        r = curl(web, f"http://orders:8080/{marker}", names)
        proof("the application answered", r.returncode == 0 and marker in r.stdout, r.stdout.strip())
        seen_wire, seen_lo = wire.contains(marker.encode()), lo.contains(marker.encode())
        proof("the marker is in the packets on loopback of host `orders`", seen_lo)
        proof(f"the marker is nowhere in the {wire.packets()} packets between the hosts", not seen_wire)

        step(5, "Who spoke to whom: identities from certificates, not from addresses.")
        server_sessions = server.admin("/connections")["sessions"]
        callers = {s["identity"] for s in server_sessions if s["direction"] == "inbound" and s["identity"]}
        callees = {p["identity"] for p in client.admin("/connections")["pool"] if p["hop"] == "mesh"}
        proof("`orders` knows its caller", callers == {client.identity}, ", ".join(callers))
        proof("`web` checked whom it called", callees == {server.identity}, ", ".join(callees))

        step(6, "Any protocol: redis-cli through the mesh, byte for byte.")
        marker = fresh_marker()
        wire = net.sniff("tcp")
        web.run(["redis-cli", "-h", vip, "SET", "key", marker])
        got = web.run(["redis-cli", "-h", vip, "GET", "key"]).stdout.strip()
        proof("redis-server answered through the mesh", got == marker, got)
        proof("and its bytes were not readable on the wire", not wire.contains(marker.encode()))

        step(7, "The server's sidecar is killed with -9, supervisor and worker: what then?")
        marker = fresh_marker()
        wire = net.sniff("tcp")
        supervisor, worker = server.pids()
        os.kill(supervisor, signal.SIGKILL)
        netns.wait_until(lambda: not os.path.exists(f"/proc/{worker}"), 5, "the worker gone too")
        r = curl(web, f"http://orders:8080/{marker}", names)
        proof("a call through the mesh fails", marker not in r.stdout, (r.stdout or f"curl exit {r.returncode}").strip())
        # A stranger's host without a mesh, straight at the application's port: the kernel refuses in the sidecar's stead.
        stranger = net.host("stranger")
        r2 = stranger.run(["curl", "-s", "-S", "-m", "3", f"http://{orders.ip4}:8080/{marker}"], check=False)
        proof("a connection past the dead sidecar is refused by the kernel", r2.returncode != 0, r2.stdout.strip())
        proof("no plaintext of the mesh on the wire", not wire.contains(marker.encode()))

        step(8, "The mesh is detached from both hosts: the same call is plain HTTP again, and the wire shows it.")
        marker = fresh_marker()
        client.stop()
        mesh.detach()
        wire = net.sniff("tcp")
        r = curl(web, f"http://orders:8080/{marker}", [("orders", orders.ip4, 8080)])
        proof("the application still answers", marker in r.stdout, r.stdout.strip())
        proof("and now the marker is on the wire: the capture above was not blind", wire.contains(marker.encode()))

        took = time.monotonic() - began
        say(f"\n{took:.1f} s.")
        if os.environ.get("KEEP"):
            keep(mesh, server, client, vip)
    return 1 if failed else 0


def on_interrupt(_signo, _frame):
    """The first one ends the demo; further ones do not disturb the cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def keep(mesh, server, client, vip):
    server.start()
    client.start()
    web = client.host.ns
    say(f"""
Left running until Ctrl-C. To try (as root, in another shell):
  nsenter --net=/run/netns/{web} curl http://{vip}:8080/
  nsenter --net=/run/netns/{mesh.control.ns} {mesh.bin('weft')} --config {mesh.config} status
  nsenter --net=/run/netns/{mesh.control.ns} {mesh.bin('weft')} --config {mesh.config} get services -A
  curl --unix-socket {client.admin_socket()} http://admin/connections
  curl --unix-socket {client.admin_socket()} http://admin/config
  nsenter --net=/run/netns/{web} curl http://127.0.0.1:4820/metrics""")
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

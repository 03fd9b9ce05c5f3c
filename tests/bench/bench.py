# SPDX-License-Identifier: Apache-2.0
"""CPU and latency per request, as a ladder in one run: no proxy, a bare one-connection-each mTLS relay, a bare multiplexing mTLS relay
(relay.c: the floors), Weft with capture, identity and metrics on, and Debian's nginx, haproxy and nghttpx as two-hop mTLS chains (peers.py).
What is asked of them stands in parts.py, what is promised of the figures in gates.py.

Client and origin share core 0, both sidecars (or relays) core 1. Peers are run in turn, several rounds, and medians taken: this
machine's absolute times prove nothing, the ratios within one run do. CPU is /proc schedstat over all processes and threads of both hops.
A run in which more than 3 % of the time was stolen is marked invalid. What Weft counted must equal what the clients got.
Result: build/bench.json, build/bench.svg and a table; tables.py makes Markdown of the first. QUICK=1: HTTP/1.1 at 32 connections, within 50 s.
PARTS=h1-16k,bulk-down: these alone. CONNS=32: that number of connections alone, where a part has more."""

import json
import os
import pathlib
import platform
import re
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))
sys.path.insert(0, str(ROOT / "tests" / "bench"))

import gates  # noqa: E402
import parts  # noqa: E402
import peers  # noqa: E402
import picture  # noqa: E402
import tables  # noqa: E402
from harness import netns  # noqa: E402
from harness.mesh import FileMesh  # noqa: E402
from rung import Rung  # noqa: E402
from usage import on_core, pin, steal, tree  # noqa: E402

QUICK = bool(os.environ.get("QUICK"))
WANTED = os.environ.get("PARTS") or ("h1" if QUICK else "")  # make passes what is not given as an empty text
PARTS = [p for p in parts.PARTS if not WANTED or p.name in WANTED.split(",")]
ONLY_CONNS = int(os.environ.get("CONNS") or (32 if QUICK else 0))
ROUNDS = 3
STEAL_MAX_PCT = 3
RELAY = str(ROOT / "build" / "plain" / "bin" / "relay")
BULK = str(ROOT / "tests" / "bench" / "bulk.py")
VIP_PORT = {"h1": 80, "h2c": 81, "grpc": 82, "tcp": 83, "bulk": 84}
ORIGIN_PORT = {"h1": 8080, "h2c": 8081, "grpc": 8081, "tcp": 8080, "bulk": 8090}

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{ listen 8080 backlog=4096; listen [::]:8080; default_type text/plain; set $k "{kb}";
    location / {{ return 200 $k; }} location /16k {{ return 200 "{sixteen}"; }} }} }}
"""


def origins(host, folder):
    """HTTP/1.1 on 8080 (nginx), HTTP/2 with trailers on 8081 (nghttpd), one stream as fast as it goes on 8090."""
    conf, root = pathlib.Path(folder) / "nginx.conf", pathlib.Path(folder) / "root"
    conf.write_text(NGINX.format(dir=folder, kb="x" * 1024, sixteen="$k" * 16))
    root.mkdir()
    (root / "index.html").write_text("x" * 1024)
    (root / "16k").write_text("x" * 16384)
    host.popen(on_core(0, ["nginx", "-c", str(conf), "-p", folder]))
    host.popen(on_core(0, ["nghttpd", "--no-tls", "-d", str(root), "--trailer=grpc-status: 0", "8081"]))
    host.popen(on_core(0, ["/usr/bin/python3", BULK, "serve", "8090"]))
    for port in (8080, 8081, 8090):
        host.wait_port(port)


def hosts(net, tmp, names):
    """Made, and with origins where a server is. The ports of connections that a client has just closed are used again at once (h1-new)."""
    for name in names:
        h = net.host(name)
        h.run(["sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=10240 65000"])
        if name.startswith(("server", "mesh-server")):
            folder = pathlib.Path(tmp) / name
            folder.mkdir()
            origins(h, str(folder))


def relays(net, mode, port, tmp, ca, kind):
    """A pair of bare relays between the hosts `client` and `server`; its pids."""
    a, b = net.hosts["client"], net.hosts["server"]
    certs = ca.leaf("bench", "relay").write(tmp, f"relay-{mode}-{kind}")
    server = b.popen(on_core(1, [RELAY, mode, "server", port + 1, "127.0.0.1", ORIGIN_PORT[kind], *certs]))
    b.wait_port(port + 1)
    client = a.popen(on_core(1, [RELAY, mode, "client", port, b.ip4, port + 1, *certs]))
    a.wait_port(port)
    return [client.pid, server.pid]


class Pair:
    """Two sidecars with so many worker threads each, and the service that one of them reaches through the other."""

    def __init__(self, net, mesh, threads):
        self.threads, self.rungs = threads, []
        end, env = ("" if threads == 1 else f"-{threads}"), {"WEFT_LOG_LEVEL": "warn", "WEFT_THREADS": str(threads)}
        self.server = mesh.workload(net.hosts["mesh-server" + end], "orders" + end, ports="8080,8081/http2", env=env)
        self.client = mesh.workload(net.hosts["mesh-client" + end], "web" + end, env=env)
        ports = {80: (8080, "http"), 81: (8081, "http2"), 82: (8081, "http2"), 83: (8080, "tcp"), 84: (8090, "tcp")}
        self.vip = mesh.service("orders" + end, ports, [self.server])[0]
        self.name = "weft" + end

    def rung(self, kind):
        pids = tree(self.server.capture.pid) + tree(self.client.capture.pid)
        pin(pids, 1)
        rung = Rung(self.name, self.client.host, f"http://{self.vip}:{VIP_PORT[kind]}", pids, self.threads)
        self.rungs += [rung] if kind in ("h1", "h2c", "grpc") else []
        return rung

    def check_count(self):
        """What the sidecars counted for HTTP is what the clients got; a closed loop leaves some unread at its end."""
        out, inn = (w.metric("weft_requests_total", direction=d, status="200") for w, d in ((self.client, "outbound"), (self.server, "inbound")))
        got, unread = sum(r.counted for r in self.rungs), sum(r.unread for r in self.rungs)
        if not (0 <= out - got <= unread and 0 <= inn - got <= unread):
            raise SystemExit(f"bench: {self.name}: clients got {got} answers, the sidecars counted {out} outbound and {inn} inbound")
        return {"clients": got, "outbound": out, "inbound": inn}


def ladder(net, ca, kind, tmp, pair):
    """The rungs of one kind, started."""
    a, b = net.hosts["client"], net.hosts["server"]
    base = 9000 + 100 * parts.KINDS.index(kind)
    out = [Rung("direct", a, f"http://{b.ip4}:{ORIGIN_PORT[kind]}", [])]
    for i, mode in enumerate(("one", "mux")):
        port = base + 10 * i
        out.append(Rung(f"floor-{mode}", a, f"http://127.0.0.1:{port}", relays(net, mode, port, tmp, ca, kind)))
    for i, name in enumerate(peers.PEERS):
        port = base + 50 + 10 * i
        pids = peers.start(net, name, kind, port, tmp, ca, ORIGIN_PORT[kind])
        if pids is not None:
            out.append(Rung(name, a, f"http://127.0.0.1:{port}", [p for pid in pids for p in tree(pid)]))
    return [*out, pair.rung(kind)]


def run_part(part, rungs, tmp):
    """The results of one part: each number of connections, the rungs in turn."""
    conns = [c for c in part.conns if ONLY_CONNS in (0, c) or len(part.conns) == 1]
    for c in conns:
        seconds = 1 if QUICK else 3 if part.ladder and c == 32 else part.seconds
        for rung in rungs:
            rung.warm_up(part, c, tmp)
        for i in range(ROUNDS):
            for rung in rungs if i % 2 == 0 else reversed(rungs):
                rung.round(part, c, seconds, tmp)
    if part.ladder and part.conns[0] in conns:
        for rung in rungs:
            rung.low_rate(part, tmp)
    return [rung.result(part, c) for c in conns for rung in rungs]


def run_all(net, ca, tmp, pairs):
    runs, of_kind = [], {}
    for part in PARTS:
        if part.threads:
            runs += run_part(part, [pair.rung(part.kind) for pair in pairs], tmp)
            continue
        if part.kind not in of_kind:
            of_kind[part.kind] = ladder(net, ca, part.kind, tmp, pairs[0])
        runs += run_part(part, of_kind[part.kind], tmp)
    return runs


def measure(tmp, net):
    """The report, but for how long it took."""
    ends = ["", "-2"] if any(p.threads for p in PARTS) else [""]
    hosts(net, tmp, ["client", "server", *(side + end for end in ends for side in ("mesh-client", "mesh-server"))])
    with FileMesh(net, tmp) as mesh:
        pairs = [Pair(net, mesh, int(end.strip("-") or 1)) for end in ends]
        mesh.start()
        stolen, jiffies = steal()
        runs = run_all(net, mesh.ca, tmp, pairs)
        s2, j2 = steal()
        pct = round(100 * (s2 - stolen) / max(1, j2 - jiffies), 2)
        return {"steal_pct": pct, "valid": pct <= STEAL_MAX_PCT, "machine": machine(), "counted": {p.name: p.check_count() for p in pairs},
                "gates": gates.judge(runs), "runs": runs}


def main():
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as tmp, netns.Net() as net:
        os.chmod(tmp, 0o755)
        report = measure(tmp, net)
    report["seconds"] = round(time.monotonic() - start, 1)
    out = ROOT / "build" / "bench.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    (ROOT / "build" / "bench.svg").write_text(picture.svg(report))
    print(tables.text(report))
    print(f"\n{out.relative_to(ROOT)} and bench.svg written; steal {report['steal_pct']} %, {report['seconds']} s"
          + ("" if report["valid"] else "; INVALID: too much time stolen"))


def machine():
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    return f"{os.cpu_count()} x {model.group(1) if model else platform.machine()}, Linux {platform.release()}"


if __name__ == "__main__":
    main()

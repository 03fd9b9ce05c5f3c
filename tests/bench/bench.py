# SPDX-License-Identifier: Apache-2.0
"""CPU and latency per request, as a ladder in one run: no proxy, a bare one-connection-each mTLS relay, a bare multiplexing mTLS relay
(relay.c: the floors), and Weft with capture, identity and metrics on. HTTP/1.1, keep-alive, 1 KB answers, closed loop (wrk).

Client and origin share core 0, both sidecars (or relays) core 1. Peers are run in turn, several rounds, and medians taken: this
machine's absolute times prove nothing, the ratios within one run do. CPU is /proc schedstat over all processes and threads of both hops.
Result: build/bench.json and a table. QUICK=1: 32 connections only, within 50 s."""

import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))

from harness import netns, pki  # noqa: E402
from harness.mesh import FileMesh  # noqa: E402

BODY = 1024
QUICK = bool(os.environ.get("QUICK"))
CONNS = [32] if QUICK else [1, 32, 256]
ROUNDS, SECONDS = (3, 2) if QUICK else (5, 5)
RELAY = str(ROOT / "build" / "plain" / "bin" / "relay")

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{ listen 8080 backlog=4096; listen [::]:8080; default_type text/plain; location / {{ return 200 "{body}"; }} }} }}
"""


def on_core(core, argv):
    return ["taskset", "-c", str(core), *argv]


def steal():
    """(stolen, all) jiffies so far."""
    v = [int(x) for x in open("/proc/stat").readline().split()[1:]]
    return v[7], sum(v[:8])


def tree(pid):
    """The process and its descendants."""
    out = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for kid in (task / "children").read_text().split():
            out += tree(int(kid))
    return out


def cpu_ns(pids):
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def pss_kb(pids):
    total = 0
    for pid in pids:
        total += int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{pid}/smaps_rollup").read(), re.M).group(1))
    return total


def duration_us(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 1, "ms": 1000, "s": 1000000}[unit]


def wrk(host, url, conns, seconds):
    """(requests, p50_us, p99_us, rps); raises when one failed or was not a 200."""
    out = host.run(on_core(0, ["wrk", "-t1", f"-c{conns}", f"-d{seconds}s", "--latency", url]), timeout=seconds + 20).stdout
    if re.search(r"Socket errors|Non-2xx", out):
        raise SystemExit(f"bench: {url}: {out}")
    return (int(re.search(r"(\d+) requests in", out).group(1)), duration_us(re.search(r"50%\s+(\S+)", out).group(1)),
            duration_us(re.search(r"99%\s+(\S+)", out).group(1)), float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)))


class Peer:
    """One rung of the ladder: where the client goes, and whose CPU and memory count."""

    def __init__(self, name, client, url, pids):
        self.name, self.client, self.url, self.pids = name, client, url, pids
        self.samples = {c: [] for c in CONNS}
        self.idle = pss_kb(pids) if pids else 0

    def round(self, conns):
        before, at = cpu_ns(self.pids), time.monotonic()
        n, p50, p99, rps = wrk(self.client, self.url, conns, SECONDS)
        used = cpu_ns(self.pids) - before
        self.samples[conns].append({"cpu": used / n / 1000, "p50": p50, "p99": p99, "rps": rps, "n": n,
                                    "pss": pss_kb(self.pids) if self.pids else 0, "took": time.monotonic() - at})

    def result(self, conns):
        s = self.samples[conns]
        mid = lambda key: statistics.median(x[key] for x in s)  # noqa: E731
        return {"peer": self.name, "proto": "h1", "conns": conns, "body": BODY, "cpu_us_per_req": round(mid("cpu"), 2),
                "p50_us": mid("p50"), "p99_us": mid("p99"), "rps": round(mid("rps")), "pss_idle_kb": self.idle,
                "pss_load_kb": max(x["pss"] for x in s)}


def origin(host, folder):
    conf = pathlib.Path(folder) / "nginx.conf"
    conf.write_text(NGINX.format(dir=folder, body="x" * BODY))
    host.popen(on_core(0, ["nginx", "-c", str(conf), "-p", folder]))
    host.wait_port(8080)


def relays(net, mode, port, tmp, ca):
    """A pair of bare relays between the hosts `client` and `server`; its pids."""
    a, b = net.hosts["client"], net.hosts["server"]
    certs = ca.leaf("bench", "relay").write(tmp, f"relay-{mode}")
    server = b.popen(on_core(1, [RELAY, mode, "server", port + 1, "127.0.0.1", 8080, *certs]))
    b.wait_port(port + 1)
    client = a.popen(on_core(1, [RELAY, mode, "client", port, b.ip4, port + 1, *certs]))
    a.wait_port(port)
    return [client.pid, server.pid]


def weft(net, tmp, mesh):
    server = mesh.workload(net.hosts["mesh-server"], "orders", ports="8080/http", env={"WEFT_LOG_LEVEL": "warn"})
    client = mesh.workload(net.hosts["mesh-client"], "web", env={"WEFT_LOG_LEVEL": "warn"})
    vip = mesh.service("orders", {80: (8080, "http")}, [server])[0]
    mesh.start()
    pids = tree(server.capture.pid) + tree(client.capture.pid)
    for pid in pids:
        subprocess.run(["taskset", "-acp", "1", str(pid)], check=True, capture_output=True)
    return Peer("weft", client.host, f"http://{vip}/", pids), server, client


def main():
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as tmp, netns.Net() as net:
        os.chmod(tmp, 0o755)
        for name in ("client", "server", "mesh-client", "mesh-server"):
            net.host(name)
        for name in ("server", "mesh-server"):
            folder = pathlib.Path(tmp) / name
            folder.mkdir()
            origin(net.hosts[name], str(folder))
        with FileMesh(net, tmp) as mesh:
            a, b = net.hosts["client"], net.hosts["server"]
            peers = [Peer("direct", a, f"http://{b.ip4}:8080/", [])]
            for mode, port in (("one", 9000), ("mux", 9100)):
                peers.append(Peer(f"floor-{mode}", a, f"http://127.0.0.1:{port}/", relays(net, mode, port, tmp, mesh.ca)))
            ours, server, client = weft(net, tmp, mesh)
            peers.append(ours)
            stolen, jiffies = steal()
            for conns in CONNS:
                for peer in peers:
                    wrk(peer.client, peer.url, conns, 1)
                for i in range(ROUNDS):
                    for peer in peers if i % 2 == 0 else reversed(peers):
                        peer.round(conns)
            s2, j2 = steal()
            counted = [client.metric("weft_requests_total", direction="outbound", status="200"),
                       server.metric("weft_requests_total", direction="inbound", status="200")]
            report = {"steal_pct": round(100 * (s2 - stolen) / max(1, j2 - jiffies), 2), "machine": machine(), "counted": counted,
                      "seconds": round(time.monotonic() - start, 1), "runs": [p.result(c) for c in CONNS for p in peers]}
    out = ROOT / "build" / "bench.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    table(report)
    print(f"\n{out.relative_to(ROOT)} written; steal {report['steal_pct']} %, {report['seconds']} s")


def machine():
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    return f"{os.cpu_count()} x {model.group(1) if model else platform.machine()}, Linux {platform.release()}"


def table(report):
    print(f"{'peer':<10} {'conns':>5} {'CPU us/request':>15} {'x floor-mux':>12} {'p50 us':>8} {'p99 us':>8} {'rps':>8} {'PSS idle':>9} {'load kB':>8}")
    for r in report["runs"]:
        floor = next(x["cpu_us_per_req"] for x in report["runs"] if x["peer"] == "floor-mux" and x["conns"] == r["conns"])
        ratio = f"{r['cpu_us_per_req'] / floor:.2f}" if r["cpu_us_per_req"] else "-"
        print(f"{r['peer']:<10} {r['conns']:>5} {r['cpu_us_per_req']:>15.2f} {ratio:>12} {r['p50_us']:>8.0f} {r['p99_us']:>8.0f} "
              f"{r['rps']:>8} {r['pss_idle_kb']:>9} {r['pss_load_kb']:>8}")


if __name__ == "__main__":
    main()

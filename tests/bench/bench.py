# SPDX-License-Identifier: Apache-2.0
"""CPU and latency per request, as a ladder in one run: no proxy, a bare one-connection-each mTLS relay, a bare multiplexing mTLS relay
(relay.c: the floors), Weft with capture, identity and metrics on, and Debian's nginx, haproxy and nghttpx as two-hop mTLS chains (peers.py).
1 KB answers, keep-alive; closed loop (wrk for HTTP/1.1 and TCP, h2load for HTTP/2 and gRPC) and, for latency, a fixed low rate.

Client and origin share core 0, both sidecars (or relays) core 1. Peers are run in turn, several rounds, and medians taken: this
machine's absolute times prove nothing, the ratios within one run do. CPU is /proc schedstat over all processes and threads of both hops.
A run in which more than 3 % of the time was stolen is marked invalid. What Weft counted must equal what the clients got.
Result: build/bench.json, build/bench.svg and a table. QUICK=1: HTTP/1.1 at 32 connections, within 50 s."""

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

sys.path.insert(0, str(ROOT / "tests" / "bench"))

import peers  # noqa: E402
import picture  # noqa: E402
from harness import netns  # noqa: E402
from harness.mesh import FileMesh  # noqa: E402

BODY = 1024
QUICK = bool(os.environ.get("QUICK"))
PROTOS = os.environ.get("PROTOS", "h1" if QUICK else "h1,h2c,grpc,tcp").split(",")
CONNS = [32] if QUICK else [1, 32, 256]
ROUNDS, SECONDS = (3, 1) if QUICK else (3, 3)
STEAL_MAX_PCT = 3
LOW_RATE = 200  # requests a second, one connection
RELAY = str(ROOT / "build" / "plain" / "bin" / "relay")
VIP_PORT = {"h1": 80, "h2c": 81, "grpc": 82, "tcp": 83}
ORIGIN_PORT = {"h1": 8080, "h2c": 8081, "grpc": 8081, "tcp": 8080}

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
    if re.search(r"Socket errors|Non-2xx|\b0 requests in|nan", out):
        raise SystemExit(f"bench: {url}: {out}")
    return (int(re.search(r"(\d+) requests in", out).group(1)), duration_us(re.search(r"^\s+50%\s+(\S+)", out, re.M).group(1)),
            duration_us(re.search(r"^\s+99%\s+(\S+)", out, re.M).group(1)), float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)))


def h2load(host, url, conns, seconds, tmp, grpc=False, rate=None, h1=False):
    """The same with h2load: at most 8 connections, the rest as streams on them (what HTTP/2 clients do). `rate`: open loop on one connection."""
    clients = 1 if rate else min(conns, 8)
    log, body = f"{tmp}/h2load.log", pathlib.Path(tmp) / "message"
    body.write_bytes(b"\0\0\0\0\x10" + b"m" * 16)
    argv = ["h2load", f"-c{clients}", f"-m{max(1, conns // clients)}", "-t1", f"-D{seconds}", f"--log-file={log}"]
    argv += [f"--rps={rate}"] if rate else []
    argv += ["--h1"] if h1 else []
    argv += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"] if grpc else []
    pathlib.Path(log).unlink(missing_ok=True)
    out = host.run(on_core(0, [*argv, url]), timeout=seconds + 30).stdout
    n = answered(out, h1)
    if n == 0:
        raise SystemExit(f"bench: {url}: {out}")
    took = sorted(int(line.split()[2]) for line in open(log))
    return n, took[len(took) // 2], took[len(took) * 99 // 100], n / seconds


def answered(out, h1):
    """How many requests h2load got a good answer to; 0 when one failed. In HTTP/1.1 it does not see the status of an answer without a reason phrase, as
    haproxy sends them: there every request must have ended, and with as many bytes."""
    m = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", out)
    done, good, failed, errored, late = map(int, m.groups()) if m else (0, 0, 1, 0, 0)
    if re.search(r"[1-9]\d* [345]xx", out) or errored + late > 0:
        return 0
    if h1 and good == 0:
        data = re.search(r"\((\d+)\) data", out)
        return done if data and int(data.group(1)) == done * BODY else 0
    return good if failed == 0 else 0


def measure(peer, proto, conns, seconds, tmp):
    if proto in ("h1", "tcp"):
        return wrk(peer.client, peer.url, conns, seconds)
    return h2load(peer.client, peer.url, conns, seconds, tmp, grpc=proto == "grpc")


class Peer:
    """One rung of the ladder for one protocol: where the client goes, and whose CPU and memory count."""

    def __init__(self, name, proto, client, url, pids):
        self.name, self.proto, self.client, self.url, self.pids = name, proto, client, url, pids
        self.samples = {c: [] for c in CONNS}
        self.idle = pss_kb(self.pids) if pids else 0
        self.low = None
        self.counted = 0

    def round(self, conns, tmp):
        before = cpu_ns(self.pids)
        n, p50, p99, rps = measure(self, self.proto, conns, SECONDS, tmp)
        used = cpu_ns(self.pids) - before
        self.counted += n
        self.samples[conns].append({"cpu": used / n / 1000, "p50": p50, "p99": p99, "rps": rps,
                                    "pss": pss_kb(self.pids) if self.pids else 0})

    def low_rate(self, tmp):
        n, p50, p99, _ = h2load(self.client, self.url, 1, 2, tmp, grpc=self.proto == "grpc", rate=LOW_RATE, h1=self.proto in ("h1", "tcp"))
        self.counted += n
        self.low = {"p50_us": p50, "p99_us": p99}

    def result(self, conns):
        s = self.samples[conns]
        mid = lambda key: statistics.median(x[key] for x in s)  # noqa: E731
        r = {"peer": self.name, "proto": self.proto, "conns": conns, "body": BODY, "cpu_us_per_req": round(mid("cpu"), 2),
             "p50_us": mid("p50"), "p99_us": mid("p99"), "rps": round(mid("rps")), "pss_idle_kb": self.idle,
             "pss_load_kb": max(x["pss"] for x in s)}
        if self.low and conns == CONNS[0]:
            r["low_rate"] = {"rps": LOW_RATE, **self.low}
        return r


def origins(host, folder):
    """HTTP/1.1 on 8080 (nginx), HTTP/2 with trailers on 8081 (nghttpd)."""
    conf, root = pathlib.Path(folder) / "nginx.conf", pathlib.Path(folder) / "root"
    conf.write_text(NGINX.format(dir=folder, body="x" * BODY))
    root.mkdir()
    (root / "index.html").write_text("x" * BODY)
    host.popen(on_core(0, ["nginx", "-c", str(conf), "-p", folder]))
    host.popen(on_core(0, ["nghttpd", "--no-tls", "-d", str(root), "--trailer=grpc-status: 0", "8081"]))
    host.wait_port(8080)
    host.wait_port(8081)


def relays(net, mode, port, tmp, ca, proto):
    """A pair of bare relays between the hosts `client` and `server`; its pids."""
    a, b = net.hosts["client"], net.hosts["server"]
    certs = ca.leaf("bench", "relay").write(tmp, f"relay-{mode}-{proto}")
    server = b.popen(on_core(1, [RELAY, mode, "server", port + 1, "127.0.0.1", ORIGIN_PORT[proto], *certs]))
    b.wait_port(port + 1)
    client = a.popen(on_core(1, [RELAY, mode, "client", port, b.ip4, port + 1, *certs]))
    a.wait_port(port)
    return [client.pid, server.pid]


def weft(net, mesh):
    """Two sidecars, pinned to core 1; (server, client, vip, pids)."""
    quiet = {"WEFT_LOG_LEVEL": "warn"}
    server = mesh.workload(net.hosts["mesh-server"], "orders", ports="8080,8081/http2", env=quiet)
    client = mesh.workload(net.hosts["mesh-client"], "web", env=quiet)
    vip = mesh.service("orders", {80: (8080, "http"), 81: (8081, "http2"), 82: (8081, "http2"), 83: (8080, "tcp")}, [server])[0]
    mesh.start()
    pids = tree(server.capture.pid) + tree(client.capture.pid)
    for pid in pids:
        subprocess.run(["taskset", "-acp", "1", str(pid)], check=True, capture_output=True)
    return server, client, vip, pids


def ladder(net, mesh, proto, number, tmp, ours):
    """The peers of one protocol, started."""
    a, b = net.hosts["client"], net.hosts["server"]
    base = 9000 + 100 * number
    path = "/" if proto != "grpc" else "/index.html"
    out = [Peer("direct", proto, a, f"http://{b.ip4}:{ORIGIN_PORT[proto]}{path}", [])]
    for i, mode in enumerate(("one", "mux")):
        port = base + 10 * i
        out.append(Peer(f"floor-{mode}", proto, a, f"http://127.0.0.1:{port}{path}", relays(net, mode, port, tmp, mesh.ca, proto)))
    for i, name in enumerate(peers.PEERS):
        port = base + 50 + 10 * i
        pids = peers.start(net, name, proto, port, tmp, mesh.ca, on_core)
        if pids is not None:
            out.append(Peer(name, proto, a, f"http://127.0.0.1:{port}{path}", [p for pid in pids for p in tree(pid)]))
    _, client, vip, pids = ours
    out.append(Peer("weft", proto, client.host, f"http://{vip}:{VIP_PORT[proto]}{path}", pids))
    return out


def run_proto(rungs, tmp):
    for conns in CONNS:
        for peer in rungs:
            n = measure(peer, peer.proto, conns, 1, tmp)[0]
            peer.counted += n
        for i in range(ROUNDS):
            for peer in rungs if i % 2 == 0 else reversed(rungs):
                peer.round(conns, tmp)
    if not QUICK:
        for peer in rungs:
            peer.low_rate(tmp)


def check_count(client, server, got):
    """What the sidecars counted for HTTP is what the clients got; a closed loop may leave a few unread at its end."""
    out, inn = (w.metric("weft_requests_total", direction=d, status="200") for w, d in ((client, "outbound"), (server, "inbound")))
    slack = 512 * max(1, len(CONNS)) * (ROUNDS + 2)
    if not (0 <= out - got <= slack and 0 <= inn - got <= slack):
        raise SystemExit(f"bench: clients got {got} answers, the sidecars counted {out} outbound and {inn} inbound")
    return {"clients": got, "outbound": out, "inbound": inn}


def main():
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as tmp, netns.Net() as net:
        os.chmod(tmp, 0o755)
        for name in ("client", "server", "mesh-client", "mesh-server"):
            net.host(name)
        for name in ("server", "mesh-server"):
            folder = pathlib.Path(tmp) / name
            folder.mkdir()
            origins(net.hosts[name], str(folder))
        with FileMesh(net, tmp) as mesh:
            ours = weft(net, mesh)
            stolen, jiffies = steal()
            rungs, runs = [], []
            for number, proto in enumerate(PROTOS):
                mine = ladder(net, mesh, proto, number, tmp, ours)
                run_proto(mine, tmp)
                rungs += mine
                runs += [p.result(c) for c in CONNS for p in mine]
            s2, j2 = steal()
            counted = check_count(ours[1], ours[0], sum(p.counted for p in rungs if p.name == "weft" and p.proto != "tcp"))
            pct = round(100 * (s2 - stolen) / max(1, j2 - jiffies), 2)
            report = {"steal_pct": pct, "valid": pct <= STEAL_MAX_PCT, "machine": machine(), "counted": counted,
                      "seconds": round(time.monotonic() - start, 1), "runs": runs}
    out = ROOT / "build" / "bench.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    (ROOT / "build" / "bench.svg").write_text(picture.svg(report))
    table(report)
    print(f"\n{out.relative_to(ROOT)} and bench.svg written; steal {pct} %, {report['seconds']} s" + ("" if report["valid"] else "; INVALID: too much time stolen"))


def machine():
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    return f"{os.cpu_count()} x {model.group(1) if model else platform.machine()}, Linux {platform.release()}"


def table(report):
    print(f"{'proto':<6}{'peer':<10} {'conns':>5} {'CPU us/request':>15} {'x floor-mux':>12} {'x floor-one':>12} {'p50 us':>8} {'p99 us':>8} {'rps':>8} "
          f"{'PSS idle':>9} {'load kB':>8}")
    for r in report["runs"]:
        floor = {x["peer"]: x["cpu_us_per_req"] for x in report["runs"] if x["proto"] == r["proto"] and x["conns"] == r["conns"]}
        mux, one = (f"{r['cpu_us_per_req'] / floor[f]:.2f}" if r["cpu_us_per_req"] else "-" for f in ("floor-mux", "floor-one"))
        print(f"{r['proto']:<6}{r['peer']:<10} {r['conns']:>5} {r['cpu_us_per_req']:>15.2f} {mux:>12} {one:>12} {r['p50_us']:>8.0f} {r['p99_us']:>8.0f} "
              f"{r['rps']:>8} {r['pss_idle_kb']:>9} {r['pss_load_kb']:>8}")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""weftd and a sidecar at the scale that is promised: 10,000 services x 10 endpoints, 1,000 proxies. Prints a table; ends with 1 when a promise is
missed. Root; about two minutes on two cores.

    scale.py [PROXIES [SERVICES]]

The proxies are simulated (tests/bench/swarm.c), all of them on one core beside weftd's, so "acknowledged" has their own time in it; it is said how much.
weftd and they are scheduled first (SCHED_RR) while something is timed. The sidecar whose memory is measured is a real one."""

import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))

from harness.memory import pss_kb  # noqa: E402
from harness.mesh import Mesh  # noqa: E402
from harness.netns import Net, wait_until  # noqa: E402
from harness.swarm import CIDRS, Api, Latency, Swarm, cpu_ms, current, many_services, memory_mb, metrics, service_doc, undisturbed  # noqa: E402

USED = 20  # services that each proxy follows
ENDPOINTS = 10
BATCH = 1000  # services a file
CHANGES = 10
BURST_S, BURST_RATE = 30, 10
SERVER = """import http.server, socketserver
class S(socketserver.ThreadingMixIn, http.server.HTTPServer): request_queue_size = 64
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.send_header('content-length', '0'); self.end_headers()
    def log_message(self, *a): pass
s = S(('', 8080), H); print('up', flush=True); s.serve_forever()"""


class Table:
    def __init__(self):
        self.missed = []

    def row(self, name, value, unit, most=None, note=""):
        ok = most is None or value <= most
        if not ok:
            self.missed.append(name)
        bound = "" if most is None else f"<= {most:g}"
        print(f"{name:<62}{value:>10.1f} {unit:<5}{bound:>9}  {'' if most is None else 'ok' if ok else 'MISSED'} {note}", flush=True)


def used_services(mesh, host):
    """The services that are used: each with ten endpoints on one host. Their IPv4 addresses."""
    for k in range(ENDPOINTS):
        host.add_address(f"10.99.0.{100 + k}/24")
    host.start_python(SERVER, ready="up")
    docs = []
    for n in range(USED):
        docs.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"used-{n}", "namespace": "shop"},
                     "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]}})
        docs.append({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                     "metadata": {"name": f"used-{n}", "namespace": "shop", "labels": {"kubernetes.io/service-name": f"used-{n}"}},
                     "ports": [{"name": "http", "port": 8080}], "endpoints": [{"addresses": [f"10.99.0.{100 + k}"]} for k in range(ENDPOINTS)]})
    mesh.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": docs}))
    return [mesh.vips(f"used-{n}")[0] for n in range(USED)]


def use(web, vips):
    """A few requests to every used service, none of which fails; what the sidecar weighs afterwards."""
    for _ in range(3):
        web.host.run(["curl", "-sf", "-m", "10", "-o", "/dev/null", *[f"http://{v}/" for v in vips]])
    time.sleep(2)
    return pss_kb(web) / 1024


def load(mesh, services, table):
    pid, cpu, began = mesh.weftd.pid, cpu_ms(mesh.weftd.pid), time.monotonic()
    with undisturbed(pid), Latency(mesh) as waits:
        for n in range(0, services, BATCH):
            mesh.apply(many_services(n, min(BATCH, services - n), ENDPOINTS))
    table.row(f"{services} services x {ENDPOINTS} applied, {BATCH} a file", time.monotonic() - began, "s",
              note=f"{(cpu_ms(pid) - cpu) / services * 1000:.0f} us of weftd's CPU a service")
    table.row("  longest wait for weftd meanwhile", waits.worst_ms, "ms", 1000)


def changes(mesh, swarm, vip_name, table):
    pids = mesh.weftd.pid, swarm.proc.pid
    took, acks, cpu = [], metrics(mesh)["weftd_push_acks_total"], [cpu_ms(p) for p in pids]
    api = Api(mesh)
    with undisturbed(*pids):
        for i in range(CHANGES):
            took += swarm.change(lambda i=i: api.apply(service_doc(vip_name, {80: 8080, 1000 + i: 8080})))
            time.sleep(0.2)
    took.sort()
    acks = metrics(mesh)["weftd_push_acks_total"] - acks
    cpu = [(cpu_ms(p) - c) * 1000 / acks for p, c in zip(pids, cpu)]
    table.row(f"a change acknowledged by {swarm.count} proxies: p50", statistics.median(took), "ms", 15)
    table.row("  p99", took[len(took) * 99 // 100], "ms", 60)
    table.row("  weftd's CPU an acknowledgement", cpu[0], "us", note=f"two a change and proxy; the simulators' {cpu[1]:.0f} us")


def frozen(mesh, swarm, host, vip, vip_name, table):
    """One that reads nothing, among the others."""
    one = Swarm(mesh, host, 1, swarm.count + 1, "app", follow=[vip])
    before = memory_mb(mesh.weftd.pid)[0]
    one.proc.signal(signal.SIGSTOP)
    api = Api(mesh)
    took = []
    with undisturbed(mesh.weftd.pid, swarm.proc.pid):
        for i in range(CHANGES):
            took += swarm.change(lambda i=i: api.apply(service_doc(vip_name, {80: 8080, 2000 + i: 8080})))
    waited = mesh.weft("wait", "--timeout", "1s", check=False)
    names = [line for line in waited.stderr.splitlines() if f"shop/sim-{swarm.count + 1}:" in line]
    took.sort()
    table.row("one of them frozen: p99 of the others", took[len(took) * 99 // 100], "ms", 60)
    table.row("  weftd's memory for it", memory_mb(mesh.weftd.pid)[0] - before, "MB", 2)
    table.row("  proxies that weft wait names besides it", waited.stderr.count(" sent") - len(names) + (not names), "", 0)
    one.proc.signal(signal.SIGCONT)
    one.proc.stop()


def burst(mesh, swarm, vip_name, table):
    pid = mesh.weftd.pid
    before, memory, cpu = metrics(mesh), memory_mb(pid)[0], cpu_ms(pid)
    api, peak, began = Api(mesh), memory, time.monotonic()
    with undisturbed(pid, swarm.proc.pid, os.getpid()):
        for i in range(BURST_S * BURST_RATE):
            api.apply(service_doc(vip_name, {80: 8080, 3000 + i: 8080}))
            peak = max(peak, memory_mb(pid)[0]) if i % 10 == 0 else peak
            time.sleep(max(0, began + (i + 1) / BURST_RATE - time.monotonic()))
    spent = time.monotonic() - began
    ended = time.monotonic()
    wait_until(lambda: mesh.weft("wait", "--timeout", "10s", check=False).returncode == 0, 60, "the last change everywhere")
    after = metrics(mesh)
    sent = after["weftd_push_responses_total"] - before["weftd_push_responses_total"]
    table.row(f"{BURST_RATE} changes a second for {BURST_S} s: took", spent, "s", BURST_S * 1.1,
              note=f"{(cpu_ms(pid) - cpu) / spent / 10:.0f} % of a core, {sent / (2 * swarm.count):.0f} of {BURST_S * BURST_RATE} states sent to each")
    table.row("  the last one everywhere after it", time.monotonic() - ended, "s", 5)
    table.row("  weftd's memory during it", peak - memory, "MB", 16)
    table.row("  proxies disconnected", after["weftd_push_stalled_total"] - before["weftd_push_stalled_total"], "", 0)


def restart(mesh, swarm, table):
    killed = time.monotonic()
    mesh.weftd.kill()
    mesh.start_control()
    ready = time.monotonic()
    with undisturbed(mesh.weftd.pid, swarm.proc.pid), Latency(mesh) as waits:
        m = wait_until(lambda: current(mesh, swarm.count), 60, "everyone current")
    done = time.monotonic()
    table.row(f"weftd killed: {swarm.count} proxies current after it is ready", done - ready, "s", 5,
              note=f"ready {ready - killed:.1f} s after; {cpu_ms(mesh.weftd.pid) / 1000:.1f} s of CPU")
    table.row("  resources sent again", m["weftd_push_resources_total"], "", 0, note=f"{m['weftd_push_bytes_total'] / 1024:.0f} KB of 'nothing there'")
    table.row("  longest wait for weftd meanwhile", waits.worst_ms, "ms", 500)
    lapsed = mesh.weftd.output().count(" lease_expired ") + mesh.weftd.output().count(" lease_guard ")
    table.row("  leases lapsed", lapsed, "", 0)


def main(proxies=1000, services=10000):
    table = Table()
    with Net() as net, tempfile.TemporaryDirectory(prefix="weft-scale-") as tmp, Mesh(net, tmp, cidrs=CIDRS) as mesh:
        mesh.start_control()
        vips = used_services(mesh, net.host("backend"))
        web = mesh.workload(net.host("web"), "web").start()
        small = use(web, vips)
        load(mesh, services, table)
        table.row(f"sidecar with {USED} of {services} services in use: more than with {USED}", use(web, vips) - small, "MB", 1, note=f"{small:.1f} MB")
        web.stop()
        web.start()
        table.row("  the same, started in the large mesh", use(web, vips) - small, "MB", 1)
        web.stop()
        table.row("weftd with these, RSS", memory_mb(mesh.weftd.pid)[0], "MB", note=f"PSS {memory_mb(mesh.weftd.pid)[1]:.1f}")
        mesh.apply(json.dumps(service_doc("changing", {80: 8080})))
        vip, host, began = mesh.vips("changing")[0], net.host("sims"), time.monotonic()
        swarm = Swarm(mesh, host, proxies, 0, "app", follow=[vip, *vips[1:]], apart=True, timeout=240)
        table.row(f"{proxies} proxies joined, registered and configured", time.monotonic() - began, "s")
        table.row("weftd with these and the proxies, RSS", memory_mb(mesh.weftd.pid)[0], "MB", 400, note=f"PSS {memory_mb(mesh.weftd.pid)[1]:.1f}")
        changes(mesh, swarm, "changing", table)
        frozen(mesh, swarm, host, vip, "changing", table)
        burst(mesh, swarm, "changing", table)
        restart(mesh, swarm, table)
        table.row("weftd at the end, RSS", memory_mb(mesh.weftd.pid)[0], "MB", 400)
    print("every promise is kept" if not table.missed else f"missed: {', '.join(n.strip() for n in table.missed)}")
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main(*(int(a) for a in sys.argv[1:])))

# SPDX-License-Identifier: Apache-2.0
"""Many simulated sidecars (tests/bench/swarm.c: the real link code, without a data path) and meshes with many services.

    swarm = Swarm(mesh, host, 100, 0, "app", follow=["240.0.0.1"])
    took_ms = swarm.change(lambda: mesh.service(...))    # how long after the commit each of the hundred had acknowledged it"""

import collections
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import threading
import time

from harness.mesh import program
from harness.netns import wait_until

NETWORK = "10.98.0.0"  # where simulated workloads have their addresses, one each
CIDRS = ("10.0.0.0/8", "fd00:99::/64")  # of a mesh with these
TYPES = 6  # that a simulated sidecar asks for at the beginning of a stream


class Swarm:
    """COUNT sidecars on one host; `label` is their app. apart: each links from an address of its own."""

    def __init__(self, mesh, host, count, first, label, follow=(), apart=False, timeout=30):
        self.mesh, self.count = mesh, count
        token = mesh.tmp / f"swarm-{first}.token"
        token.write_text(mesh.new_token("shop", label, {"app": label}))
        if apart:
            host.run(["ip", "route", "replace", "local", f"{NETWORK}/16", "dev", "lo"])
            if host is not mesh.control:
                mesh.control.run(["ip", "route", "replace", f"{NETWORK}/16", "via", host.ip4])
        self.proc = host.popen([program("swarm", mesh.build), count, first, f"{mesh.control.ip4}:4810", token, label,
                                *([f"from={NETWORK}"] if apart else []), *follow])
        self.proc.wait_output(rf"^ready {count}$", timeout)

    def swaps(self):
        """[(instance, microseconds)]"""
        return [(int(n), int(us)) for n, us in re.findall(r"^swap (\d+) (\d+)$", self.proc.output(), re.M)]

    def linked(self):
        """How many of its links are up, as far as it has said since it was ready."""
        said = re.findall(r"^linked (\d+) \d+$", self.proc.output(), re.M)
        return int(said[-1]) if said else self.count

    def change(self, do, count=None, timeout=10):
        """do() applies one change; waits until `count` of them (default all) have swapped. How many ms after the commit each of these did, sorted."""
        count = count or self.count
        before, revisions = len(self.swaps()), len(revisions_us(self.mesh))
        do()
        wait_until(lambda: len(self.swaps()) >= before + count, timeout, f"all {count} have it")
        committed = revisions_us(self.mesh)[revisions]
        return sorted((us - committed) / 1000 for _, us in self.swaps()[before:])


def revisions_us(mesh):
    """When each revision was committed, from weftd's log."""
    out = []
    for stamp in re.findall(r"^(\S+Z) info weftd revision ", mesh.weftd.output(), re.M):
        t = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
        out.append(int(t.timestamp() * 1e6))
    return out


def metrics(mesh):
    """weftd's own figures: {"weftd_proxies": 3.0, ...}"""
    page = mesh.control.run(["curl", "-s", "-m", "10", "http://127.0.0.1:4814/metrics"]).stdout
    return collections.defaultdict(float, {k: float(v) for k, v in re.findall(r"^(weftd_\S+) (\S+)$", page, re.M)})


def cpu_ms(pid):
    """CPU time of a process so far, all threads; in nanosecond steps, unlike /proc/PID/stat."""
    return sum(int((t / "schedstat").read_text().split()[0]) for t in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1e6


def memory_mb(pid):
    """(RSS, PSS) in MB."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return tuple(int(re.search(rf"^{k}: +(\d+) kB$", text, re.M).group(1)) / 1024 for k in ("Rss", "Pss"))


def many_services(first, count, endpoints):
    """JSON documents of `count` services svc-N of namespace `many`, each with a slice of so many endpoints outside the mesh."""
    docs = []
    for n in range(first, first + count):
        docs.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"svc-{n}", "namespace": "many"},
                     "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]}})
        docs.append({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                     "metadata": {"name": f"svc-{n}", "namespace": "many", "labels": {"kubernetes.io/service-name": f"svc-{n}"}},
                     "ports": [{"name": "http", "port": 8080}],
                     "endpoints": [{"addresses": [f"10.{100 + k}.{n // 250}.{n % 250 + 1}"]} for k in range(endpoints)]})
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": docs})


def service_doc(name, ports, ns="shop"):
    """A Service as `weft apply` and the API take it. ports: {port: targetPort}."""
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns},
            "spec": {"selector": {"app": "none"}, "ports": [{"name": f"p{p}", "port": p, "targetPort": t} for p, t in ports.items()]}}


class Api:
    """weftd's API over one connection that stays open: for changes at a rate at which starting `weft` would cost more than they do."""

    def __init__(self, mesh):
        config = json.loads(mesh.config.read_text())
        pem = mesh.tmp / "api.pem"
        pem.write_text(config["certificate"] + config["key"])
        pem.chmod(0o600)
        context = ssl.create_default_context(cadata=config["root"])
        context.load_cert_chain(pem)
        context.set_alpn_protocols(["http/1.1"])
        self._at = http.client.HTTPSConnection(mesh.control.ip4, 4811, context=context, timeout=60)
        with mesh.control.inside():
            self._at.connect()

    def apply(self, *objects):
        self._at.request("POST", "/v1/apply", json.dumps({"objects": objects}), {"content-type": "application/json"})
        answer = self._at.getresponse()
        body = answer.read()
        assert answer.status == 200, body


def ask_live():
    """How many ms weftd takes for a page, over a connection of its own; call it inside weftd's host."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", 4814), 60) as s:
        s.sendall(b"GET /live HTTP/1.1\r\nHost: weftd\r\nConnection: close\r\n\r\n")
        while s.recv(4096):
            pass
    return (time.monotonic() - began) * 1000


class Latency:
    """How long weftd's loop keeps others waiting: the longest ask_live(), again and again within the block."""

    def __init__(self, mesh):
        self.mesh, self.worst_ms, self.count = mesh, 0.0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_RR, os.sched_param(2))  # its own waiting is no figure
        with self.mesh.control.inside():
            while not self._stop.wait(0.01):
                self.worst_ms = max(self.worst_ms, ask_live())
                self.count += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


@contextlib.contextmanager
def undisturbed(*pids, threads=True):
    """What is measured goes first on its core, whatever else this machine does: a claim about weftd, not about its neighbours. threads=False:
    the first thread of each alone, for work of seconds on another one, which the kernel would stop with all that goes first (sched(7))."""
    def each(policy, priority):
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                for task in os.listdir(f"/proc/{pid}/task") if threads else [pid]:
                    os.sched_setscheduler(int(task), policy, os.sched_param(priority))
    each(os.SCHED_RR, 1)
    try:
        yield
    finally:
        each(os.SCHED_OTHER, 0)


def current(mesh, count):
    """weftd's figures once `count` proxies have a stream and a link (a sidecar one for each family), and have asked for all types and answered all that was sent."""
    m = metrics(mesh)
    return (m["weftd_proxies"] == count and m["weftd_links"] >= count and m["weftd_push_requests_total"] >= TYPES * count and
            m["weftd_push_acks_total"] == m["weftd_push_responses_total"] and m)


def client_hello():
    """The first flight of a TLS client that speaks h2."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()

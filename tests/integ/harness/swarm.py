# SPDX-License-Identifier: Apache-2.0
"""Many simulated sidecars (tests/bench/swarm.c: the real link code, without a data path) and meshes with many services.

    swarm = Swarm(mesh, host, 100, 0, "app", follow=["240.0.0.1"])
    took_ms = swarm.change(lambda: mesh.service(...))    # how long after the commit each of the hundred had acknowledged it"""

import collections
import datetime
import json
import pathlib
import re

from harness.mesh import program
from harness.netns import wait_until

NETWORK = "10.98.0.0"  # where simulated workloads have their addresses, one each


class Swarm:
    """COUNT sidecars on one host; `label` is their app. apart: each links from an address of its own."""

    def __init__(self, mesh, host, count, first, label, follow=(), apart=False, timeout=30):
        self.mesh, self.count = mesh, count
        token = mesh.tmp / f"swarm-{first}.token"
        token.write_text(mesh.new_token("shop", label, {"app": label}))
        if apart:
            host.run(["ip", "route", "replace", "local", f"{NETWORK}/16", "dev", "lo"])
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


def pid_of(proc):
    """The program itself: harness/netns.py starts it through nsenter, which becomes it."""
    return proc.pid


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

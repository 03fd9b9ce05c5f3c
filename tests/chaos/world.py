# SPDX-License-Identifier: Apache-2.0
"""The world that faults happen to: weftd, a Service `orders` of three workloads, and `web`, which calls it over HTTP/1.1 (GET and POST), and holds one
TCP stream whose bytes are checked. What clients got and what applications ran is counted at both ends."""

import collections
import contextlib
import json
import os
import pathlib
import re
import threading
import time

from harness.mesh import Mesh
from harness.netns import wait_until

# Says what it ran; GETs are free of effect and not said. Listens on its port (HTTP) and the next one (echo of bytes).
APP = r"""
import http.server, os, socket, sys, threading
class H(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536
    def do_GET(self):
        n = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(n)
        if self.command == "POST": os.write(1, b"ran %s\n" % self.path.encode())
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    do_POST = do_GET
    def log_message(self, *a): pass
    def handle(self):
        try: super().handle()
        except OSError: pass
class S(http.server.ThreadingHTTPServer):
    address_family, request_queue_size, daemon_threads = socket.AF_INET6, 256, True
def echo():
    s = socket.create_server(("::", int(sys.argv[1]) + 1), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    def one(c):
        try:
            while (data := c.recv(65536)): c.sendall(data)
        except OSError: pass
        c.close()
    while True:
        c, _ = s.accept(); threading.Thread(target=one, args=(c,), daemon=True).start()
threading.Thread(target=echo, daemon=True).start()
S(("::", int(sys.argv[1])), H).serve_forever()
"""

# Calls in a loop from `threads` threads, each with a connection of its own that it keeps, until a line comes on stdin. One line for each failure.
CLIENT = r"""
import http.client, json, sys, threading, time
ip, port, method, threads, timeout, tag = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]), sys.argv[6]
lock = threading.Lock(); stop = False; good = 0; slowest = 0.0; n = 0
def work():
    global good, slowest, n
    c = None
    while not stop:
        with lock: n += 1; path = "/%s-%s-%d" % (method, tag, n)
        began = time.monotonic()
        try:
            c = c or http.client.HTTPConnection(ip, port, timeout=timeout)
            c.request(method, path, body=b"x" * 64 if method == "POST" else None)
            r = c.getresponse(); r.read()
            if r.status != 200: raise AssertionError("%d %s" % (r.status, r.getheader("x-weft-error")))
            with lock: good += 1; print("did", path, flush=False) if method == "POST" else None
        except Exception as e:
            with lock: print("bad %.3f %s %s: %s" % (time.time(), path, type(e).__name__, e), flush=True)
            if c: c.close()
            c = None
            time.sleep(0.02)
        with lock: slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.004)
ts = [threading.Thread(target=work) for _ in range(threads)]
for t in ts: t.start()
print("begun", flush=True)
sys.stdin.readline()
stop = True
for t in ts: t.join()
print("result", json.dumps({"good": good, "slowest": slowest}), flush=True)
"""

# One connection; numbered blocks go out and must come back as they went. A new one when it breaks, which is said.
STREAM = r"""
import hashlib, os, select, socket, sys, time
ip, port = sys.argv[1], int(sys.argv[2])
blocks = breaks = 0; c = None
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        if c is None: c = socket.create_connection((ip, port), 5); c.settimeout(10)
        data = os.urandom(512) * 8; c.sendall(data); got = b""
        while len(got) < len(data):
            more = c.recv(65536)
            if not more: raise OSError("ended")
            got += more
        if got != data: print("wrong bytes", flush=True); break
        blocks += 1
    except OSError as e:
        breaks += 1; print("broke %.3f %s" % (time.time(), e), flush=True)
        if c: c.close()
        c = None; time.sleep(0.05)
    time.sleep(0.005)
print("result", blocks, breaks, flush=True)
"""


class Loop:
    """One of the programs above, until stop()."""

    def __init__(self, host, code, *args):
        import subprocess
        self.proc = host.popen(["/usr/bin/python3", "-u", "-c", code, *[str(a) for a in args]], stdin=subprocess.PIPE)
        self.proc.wait_output("begun", 20)

    def lines(self, word):
        return [line for line in self.proc.output().splitlines() if line.startswith(word + " ")]

    def stop(self):
        if self.proc.alive():
            self.proc.popen.stdin.write(b"\n")
            self.proc.popen.stdin.close()
        return self.proc.wait_output(r"result (.*)", 60).group(1)


class World:
    def __init__(self, net, tmp, lifetime="20s", build=None):
        self.net = net
        self.mesh = Mesh(net, tmp, build)
        self.weftd_args = ("--certificate-lifetime", lifetime)
        self.mesh.start_control(args=self.weftd_args)
        self.orders = [self.mesh.workload(net.host(f"o{i}"), f"orders-{i}", sa="orders", labels={"app": "orders"}, ports="8080/http,8081/tcp")
                       for i in range(3)]
        self.web = self.mesh.workload(net.host("web"), "web-1", sa="web")
        self.apps = {}
        for w in (*self.orders, self.web):
            w.start(ready=False)
        for o in self.orders:
            self.start_app(o)
        self.vip = self.mesh.service("orders", {80: (8080, "http"), 81: (8081, "tcp")}, {"app": "orders"})[0]
        for w in (*self.orders, self.web):
            w.wait_ready()
        wait_until(lambda: len(self.endpoints()) >= 3, 20, "three endpoints")
        self.ran_before = collections.Counter()
        self.loads = {}

    def start_app(self, o):
        old = self.apps.get(o.name)
        if old is not None:
            self.note_ran(old)
        p = o.host.start_python(APP, "8080")
        o.host.wait_port(8080)
        o.host.wait_port(8081)
        self.apps[o.name] = p

    def note_ran(self, app):
        self.ran_before.update(self._ran(app))

    @staticmethod
    def _ran(app):
        return collections.Counter(line.split()[1] for line in app.output().splitlines() if line.startswith("ran "))

    def ran(self):
        """How often each POST was begun by an application, of all there were."""
        total = collections.Counter(self.ran_before)
        for a in self.apps.values():
            total.update(self._ran(a))
        return total

    def endpoints(self):
        with contextlib.suppress(Exception):
            for r in self.web.admin("/config")["resources"]:
                if (r["type"], r["name"]) == ("Endpoints", "shop/orders"):
                    return [e for e in r["endpoints"] if ":" not in e["address"]]
        self.web.host.run(["curl", "-s", "-m", "2", "-o", "/dev/null", f"http://{self.vip}/"], check=False)
        return []

    def begin(self, tag, gets=4, posts=2):
        self.loads = {"GET": Loop(self.web.host, CLIENT, self.vip, 80, "GET", gets, 20, tag),
                      "POST": Loop(self.web.host, CLIENT, self.vip, 80, "POST", posts, 20, tag),
                      "stream": Loop(self.web.host, STREAM, self.vip, 81)}

    def end(self):
        """What came of it: failures of each load, POSTs that ran more than once, POSTs answered well that did not run."""
        get = json.loads(self.loads["GET"].stop())
        post = json.loads(self.loads["POST"].stop())
        blocks, breaks = self.loads["stream"].stop().split()
        assert not self.loads["stream"].lines("wrong"), "the stream's bytes came back changed"
        ran = self.ran()
        did = [line.split()[1] for line in self.loads["POST"].lines("did")]
        return {"get": get, "post": post, "get_bad": self.loads["GET"].lines("bad"), "post_bad": self.loads["POST"].lines("bad"),
                "blocks": int(blocks), "breaks": int(breaks), "broke": self.loads["stream"].lines("broke"), "twice": [p for p, k in ran.items() if k > 1], "lost": [p for p in did if p not in ran]}

    def bad_so_far(self):
        return len(self.loads["GET"].lines("bad"))

    def good_now(self, timeout=10):
        """A fresh request is answered."""
        wait_until(lambda: self.web.host.run(["curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", f"http://{self.vip}/"],
                                             check=False).stdout == "200", timeout, "a good answer")

    def close(self):
        for a in self.apps.values():
            a.signal(18)
        self.mesh.close()


class Changes:
    """Applies a route with changing weights, over and over, `rate` a second, until stop()."""

    ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: orders, namespace: shop}}
spec:
  parentRefs: [{{group: "", kind: Service, name: orders, port: 80}}]
  rules:
  - backendRefs: [{{name: orders, port: 80, weight: {weight}}}]
"""

    def __init__(self, mesh, rate):
        self.mesh, self.rate, self.over, self.applied, self.failed = mesh, rate, threading.Event(), 0, []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        weight = 1
        while not self.over.wait(1 / self.rate):
            weight = weight % 50 + 1
            r = self.mesh.weft("apply", "-f", "-", input=self.ROUTE.format(weight=weight), check=False)
            self.applied += r.returncode == 0
            if r.returncode != 0:
                self.failed.append(r.stderr.strip())

    def stop(self):
        self.over.set()
        self.thread.join(20)


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def pss_kb(pid):
    return int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))


def now():
    return time.strftime("%H:%M:%S")

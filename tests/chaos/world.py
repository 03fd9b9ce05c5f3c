# SPDX-License-Identifier: Apache-2.0
"""The world that faults happen to: weftd, a Service `orders` of three workloads, and `web`, which calls it over HTTP/1.1 (GET and POST), and holds a TCP
stream and a WebSocket whose bytes are checked. What clients got and what applications ran is counted at both ends."""

import collections
import contextlib
import itertools
import json
import pathlib
import threading
import time

from harness.mesh import Mesh
from harness.netns import wait_until

# Says what it ran; GETs are free of effect and not said. Listens on its port (HTTP, and a WebSocket that echoes) and the next one (echo of bytes).
APP = r"""
import base64, hashlib, http.server, os, socket, sys, threading
class H(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536
    def exactly(self, n):
        data = self.rfile.read(n)
        if len(data) < n: raise OSError("ended")
        return data
    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101); self.send_header("Upgrade", "websocket"); self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key).digest()).decode()); self.end_headers(); self.wfile.flush()
        self.close_connection = True
        while True:  # messages of 4096 bytes
            head = self.exactly(8)
            data, whole = self.exactly(4096), head[4:] * 1024
            self.wfile.write(b"\x82\x7e\x10\x00" + (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(4096, "big"))
            self.wfile.flush()
    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket": return self.websocket()
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
            with lock: print("bad %.3f %s after %.3f s, %s: %s" % (time.time(), path, time.monotonic() - began, type(e).__name__, e), flush=True)
            if c: c.close()
            c = None
            time.sleep(0.02)
        with lock: slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.004)
ts = [threading.Thread(target=work) for _ in range(threads)]
print("begun", flush=True)  # before the others print: it is written in pieces
for t in ts: t.start()
sys.stdin.readline()
stop = True
for t in ts: t.join()
print("result", json.dumps({"good": good, "slowest": slowest}), flush=True)
"""

# One connection, or one WebSocket; blocks go out and must come back as they went. A new one when it breaks, which is said.
STREAM = r"""
import os, select, socket, sys, time
ip, port, websocket = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "websocket"
blocks = breaks = 0; c = None
def exactly(n):
    got = b""
    while len(got) < n:
        more = c.recv(n - len(got))
        if not more: raise OSError("ended")
        got += more
    return got
def shake_hands():
    c.sendall(b"GET /stream HTTP/1.1\r\nHost: orders\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
              b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"): head += exactly(1)
    if not head.startswith(b"HTTP/1.1 101 "): raise OSError("answered %r" % head[:200])
    if b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" not in head: print("wrong accept", flush=True)
def turn(data):
    if not websocket:
        c.sendall(data); return exactly(len(data))
    key = os.urandom(4); whole = key * 1024
    c.sendall(b"\x82\xfe\x10\x00" + key + (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(4096, "big"))
    if exactly(4) != b"\x82\x7e\x10\x00": return None
    return exactly(4096)
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        if c is None:
            c = socket.create_connection((ip, port), 5); c.settimeout(10)
            if websocket: shake_hands()
        data = os.urandom(4096)
        if turn(data) != data: print("wrong bytes", flush=True); break
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
        result = self.proc.wait_output(r"result (.*)\n", 60).group(1)  # the whole line: print writes it in pieces
        self.proc.wait(10)  # what is held is counted next, processes too
        return result


class Delay:
    """Within the block every frame to and from `host` is under way for so many milliseconds more: delay.py stands between it and the switch."""

    def __init__(self, net, host, least, most):
        self.wire, self.least, self.most = net.wire, least, most
        self.port = f"p{host.ip4.rpartition('.')[2]}"

    def _ip(self, *args):
        self.wire.run(["ip", *args])

    def __enter__(self):
        self._ip("link", "add", "late0", "type", "veth", "peer", "name", "late1")
        self._ip("link", "set", "late1", "master", "br0", "up")
        self._ip("link", "set", "late0", "promisc", "on", "up")
        self._ip("link", "set", self.port, "promisc", "on", "nomaster")
        self.proc = self.wire.popen(["/usr/bin/python3", "-u", str(pathlib.Path(__file__).with_name("delay.py")), "late0", self.port,
                                     str(self.least), str(self.most)])
        self.proc.wait_output("relaying")

    def __exit__(self, *_):
        self.proc.close()
        self._ip("link", "del", "late0")
        self._ip("link", "set", self.port, "promisc", "off", "master", "br0")


class World:
    def __init__(self, net, tmp, lifetime_s=20, build=None):
        self.net, self.lifetime_s = net, lifetime_s
        self.mesh = Mesh(net, tmp, build)
        self.weftd_args = ("--certificate-lifetime", f"{lifetime_s:g}s")
        self.mesh.start_control(args=self.weftd_args)
        self.orders = [self.mesh.workload(net.host(f"o{i}"), f"orders-{i}", sa="orders", labels={"app": "orders"}, ports="8080/http,8081/tcp")
                       for i in range(3)]
        self.web = self.mesh.workload(net.host("web"), "web-1", sa="web")
        self.bystander = net.host("bystander")
        self.apps = {}
        for w in (*self.orders, self.web):
            w.start(ready=False)
        for o in self.orders:
            self.start_app(o)
        self.vip = self.mesh.service("orders", {80: (8080, "http"), 81: (8081, "tcp")}, {"app": "orders"})[0]
        for w in (*self.orders, self.web):
            w.wait_ready()
        wait_until(lambda: len(self.endpoints()) >= 3, 20, "three endpoints")
        self.ran_before, self.issued_before = collections.Counter(), collections.Counter()
        self.loads = {}

    def start_app(self, o):
        old = self.apps.get(o.name)
        if old is not None:
            self.note_ran(old)
        p = o.host.start_python(APP, "8080")
        o.host.wait_port(8080)
        o.host.wait_port(8081)
        self.apps[o.name] = p

    def bystander_exec(self):
        """weft-capture, about to bring a workload in that is none of the mesh's yet; its command serves nobody."""
        m = self.mesh
        return self.bystander.popen([m.bin("weft-capture"), "exec", "--name", "bystander", "--namespace", "shop", *m.capture_args(), "--", "sleep", "60"])

    def detach_bystander(self):
        """Whatever it came to."""
        m = self.mesh
        self.bystander.run([m.bin("weft-capture"), "detach", "--pin-dir", m.pin_dir, "--cgroup", m.id], check=False)

    def second_exec(self, w):
        """weft-capture, asked to bring in a workload that has its sidecar."""
        m = self.mesh
        return w.host.popen([m.bin("weft-capture"), "exec", "--name", w.name, "--namespace", w.ns, *m.capture_args(), "--", "true"])

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
                      "stream": Loop(self.web.host, STREAM, self.vip, 81, "bytes"),
                      "websocket": Loop(self.web.host, STREAM, self.vip, 80, "websocket")}

    def end(self):
        """What came of it: failures of each load, POSTs that ran more than once, POSTs answered well that did not run."""
        get = json.loads(self.loads["GET"].stop())
        post = json.loads(self.loads["POST"].stop())
        streams = {name: [int(n) for n in self.loads[name].stop().split()] for name in ("stream", "websocket")}
        for name in streams:
            assert not self.loads[name].lines("wrong"), f"the bytes of the {name} came back changed"
        ran = self.ran()
        did = [line.split()[1] for line in self.loads["POST"].lines("did")]
        return {"get": get, "post": post, "get_bad": self.loads["GET"].lines("bad"), "post_bad": self.loads["POST"].lines("bad"),
                "blocks": {name: n[0] for name, n in streams.items()}, "breaks": {name: n[1] for name, n in streams.items()},
                "broke": [f"{name}: {line}" for name in streams for line in self.loads[name].lines("broke")],
                "twice": [p for p, k in ran.items() if k > 1], "lost": [p for p in did if p not in ran]}

    def bad_so_far(self):
        return len(self.loads["GET"].lines("bad"))

    def issued(self):
        """How many certificates each workload has been given."""
        return {w.name: self.issued_before[w.name] + w.log().count(" identity_issued ") for w in (*self.orders, self.web)}

    def note_issued(self, w):
        """Before it is started again: with that begins another log."""
        self.issued_before[w.name] += w.log().count(" identity_issued ")

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

    HANDS = 4  # a `weft apply` takes long on a machine that is busy: some at a time

    def __init__(self, mesh, rate):
        self.mesh, self.every, self.over, self.applied, self.failed = mesh, self.HANDS / rate, threading.Event(), 0, []
        self.lock, self.weights = threading.Lock(), itertools.cycle(range(1, 51))
        began = time.monotonic()
        self.threads = [threading.Thread(target=self._run, args=(began + i / rate,), daemon=True) for i in range(self.HANDS)]
        for t in self.threads:
            t.start()

    def _run(self, at):
        while not self.over.wait(max(0, at - time.monotonic())):
            at = max(at + self.every, time.monotonic() - 1)  # late ones are made up for, for a second
            with self.lock:
                weight = next(self.weights)
            r = self.mesh.weft("apply", "-f", "-", input=self.ROUTE.format(weight=weight), check=False)
            with self.lock:
                self.applied += r.returncode == 0
                if r.returncode != 0:
                    self.failed.append(r.stderr.strip())

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(70)


def now():
    return time.strftime("%H:%M:%S")

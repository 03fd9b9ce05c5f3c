# SPDX-License-Identifier: Apache-2.0
"""Endpoints that die, hang, vanish or turn out to be somebody else, under calls: what a client notices, and what is never done twice."""

import collections
import json
import os
import re
import signal
import time

import pytest
from harness.mesh import FileMesh
from harness.netns import wait_until

APP = r"""
import http.server, os, socket, sys
name = sys.argv[2]
class H(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536  # an answer is one write: there all of it or nothing
    def do_GET(self):
        n = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(n)
        if self.command == "POST": os.write(1, b"ran %s\n" % self.path.encode())
        self.send_response(200); self.send_header("Content-Length", str(len(name))); self.end_headers(); self.wfile.write(name.encode())
    do_POST = do_GET
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 256
    daemon_threads = True
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); super().server_bind()
S(("::", int(sys.argv[1])), H).serve_forever()
"""

# Takes the first bytes of a request and is gone: by FIN, or (unread bytes) by RST.
FIRST_BYTE = r"""
import socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
while True:
    c, _ = s.accept()
    data = c.recv(512)
    if data: print("ran", data.split()[1].decode(), flush=True)
    c.close()
"""

# Answers as if it kept the connection, and closes it. argv[3]: seconds between the two.
FICKLE = r"""
import socket, sys, time
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
while True:
    c, _ = s.accept()
    data = b""
    while b"\r\n\r\n" not in data or (data.startswith(b"POST") and not data.endswith(b"x" * 10)):
        more = c.recv(65536)
        if not more: break
        data += more
    if data:
        print("ran", data.split()[1].decode(), flush=True)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        time.sleep(float(sys.argv[3]))
    c.close()
"""

# Speaks first: its name.
GREETER = r"""
import socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
while True:
    c, _ = s.accept()
    c.sendall(sys.argv[2].encode() + b"\n"); c.close()
"""

# Calls from several threads, each with a connection of its own that it keeps. Prints "begun" after some, then makes `total` more.
CLIENT = r"""
import collections, http.client, json, sys, threading, time
ip, port, total, threads, method, timeout, size, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], \
    float(sys.argv[6]), int(sys.argv[7]), int(sys.argv[8])
lock = threading.Lock(); numbers = iter(range(first + total)); by = collections.Counter(); bad = collections.Counter(); slowest = 0
def one(n, c):
    c.request(method, "/%s-%d" % (method, n), body=b"x" * size if method == "POST" else None)
    r = c.getresponse(); body = r.read()
    assert r.status == 200, "%d %s" % (r.status, r.getheader("x-weft-error"))
    return body.decode()
def work():
    global slowest
    c = None
    while True:
        with lock:
            n = next(numbers, None)
        if n is None: return
        if n == first: print("begun", flush=True)
        began = time.monotonic()
        try:
            c = c or http.client.HTTPConnection(ip, port, timeout=timeout)
            who = one(n, c)
            with lock: by[who] += 1
        except Exception as e:
            with lock: bad["%s: %s" % (type(e).__name__, e)] += 1
            c = None
        with lock: slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.002)
ts = [threading.Thread(target=work) for _ in range(threads)]
for t in ts: t.start()
for t in ts: t.join()
print("result", json.dumps({"by": by, "bad": bad, "slowest": slowest}), flush=True)
"""

THREADS = 4
IN_TURN = {"WEFT_BALANCER": "round-robin"}  # every endpoint is asked for sure, however slow this machine makes it look


class Three:
    """orders on three hosts and web; calls go from web to the VIP."""

    def __init__(self, mesh, net, app=APP, ports=None, args=(), web_env=None):
        self.mesh, self.app, self.args = mesh, app, args
        self.orders = [mesh.workload(net.host(f"o{i}"), f"orders-{i}", sa="orders", ports="8080/http,9090/tcp") for i in range(3)]
        self.web = mesh.workload(net.host("web"), "web", env=web_env)
        self.vip = mesh.service("orders", ports or {80: (8080, "http")}, self.orders)[0]
        self.apps = [self.run(o) for o in self.orders]
        mesh.start()

    def run(self, o, port=8080):
        p = o.host.start_python(self.app, str(port), o.name, *self.args)
        o.host.wait_port(port)
        return p

    def calls(self, total=1000, threads=THREADS, method="GET", timeout=8.0, size=10, first=0):
        return self.web.host.start_python(CLIENT, self.vip, "80", str(total), str(threads), method, str(timeout), str(size), str(first))

    def result(self, client, timeout=60):
        r = json.loads(client.wait_output(r"result (.*)\n", timeout).group(1))
        return sum(r["by"].values()), r["by"], r["bad"], r["slowest"]

    def ran(self):
        """How often each request was begun by an application."""
        return collections.Counter(line.split()[1] for a in self.apps for line in a.output().splitlines() if line.startswith("ran "))

    def endpoint(self, o):
        """What web knows of this endpoint."""
        for e in self.web.admin("/endpoints")["endpoints"]:
            if e["address"] == f"{o.host.ip4}:8080" and e["identity"] == o.identity:
                return e
        return None


@pytest.fixture
def mesh(net, tmp_path):
    with FileMesh(net, tmp_path) as m:
        yield m


def hole(host):
    """Nothing gets into this host any more, and nobody is told."""
    for line in ("add table inet hole", "add chain inet hole input { type filter hook input priority -300; }",
                 "add rule inet hole input iifname eth0 drop"):
        host.run(["nft", *line.split(" ")])


def test_a_killed_application_costs_no_idempotent_request(mesh, net):
    t = Three(mesh, net, web_env=IN_TURN)
    client = t.calls(first=200)
    client.wait_output("begun", 20)
    t.apps[1].kill()
    good, by, bad, _ = t.result(client)
    assert good == 1200 and not bad, (bad, t.web.log()[-2000:])
    assert min(by[o.name] for o in (t.orders[0], t.orders[2])) > 200, by
    # It was found out by its failures, not by its health, and gets nothing for a while: counted, logged, shown.
    assert t.web.metric("weft_ejections_total", service="shop/orders") >= 1
    assert t.web.metric("weft_retries_total", result="sent") >= 5
    assert "endpoint_ejected" in t.web.log()
    e = t.endpoint(t.orders[1])
    assert e["ejections"] >= 1 and e["failed"] >= 5, e
    assert t.endpoint(t.orders[0])["ewmaMs"] > 0


def test_an_ejected_endpoint_that_is_well_again_is_used_again(mesh, net):
    t = Three(mesh, net, web_env=IN_TURN)
    t.apps[1].kill()
    good, _, bad, _ = t.result(t.calls(300))
    assert good == 300 and not bad, bad
    wait_until(lambda: t.endpoint(t.orders[1])["ejected"], 5, "the ejection")
    t.apps[1] = t.run(t.orders[1])
    wait_until(lambda: not t.endpoint(t.orders[1])["ejected"], 12, "the return after 10 s")
    _, by, bad, _ = t.result(t.calls(300))
    assert not bad and by[t.orders[1].name] > 30, (by, bad)


def test_a_killed_application_costs_nothing_while_another_one_is_still_ejected(mesh, net):
    """Only one of three may be ejected. The one that fails now is asked no more than to see whether it still does."""
    t = Three(mesh, net, web_env=IN_TURN)
    t.apps[1].kill()
    t.result(t.calls(300))
    wait_until(lambda: t.endpoint(t.orders[1])["ejected"], 5, "the ejection")
    t.apps[1] = t.run(t.orders[1])
    before = t.endpoint(t.orders[0])["failed"]
    t.apps[0].kill()
    good, _, bad, _ = t.result(t.calls(1000))
    assert good == 1000 and not bad, (bad, t.web.admin("/endpoints"))
    assert t.endpoint(t.orders[0])["failed"] - before < 20, t.endpoint(t.orders[0])


def test_a_killed_sidecar_costs_no_idempotent_request(mesh, net):
    t = Three(mesh, net)
    client = t.calls(first=200)
    client.wait_output("begun", 20)
    supervisor, worker = t.orders[1].pids()
    os.kill(supervisor, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    good, _, bad, slowest = t.result(client)
    assert good == 1200 and not bad, bad
    assert slowest < 6, slowest


@pytest.mark.parametrize("balancer", ["p2c", "round-robin"])
def test_a_frozen_application_costs_no_get(mesh, net, balancer):
    """Nobody can tell a frozen application from a slow one, and no time-out is set. But an endpoint that answers nothing at all is not waited for
    alone: another one is asked as well."""
    t = Three(mesh, net, web_env={"WEFT_BALANCER": balancer})
    client = t.calls(first=200)
    client.wait_output("begun", 20)
    t.apps[1].signal(signal.SIGSTOP)
    good, _, bad, slowest = t.result(client)
    t.apps[1].signal(signal.SIGCONT)
    assert good == 1200 and not bad, bad
    assert slowest < 6, slowest
    assert t.web.metric("weft_retries_total", reason="silent", result="sent") >= 1


def test_a_frozen_sidecar_costs_no_get(mesh, net):
    t = Three(mesh, net)
    client = t.calls(first=200)
    client.wait_output("begun", 20)
    supervisor, worker = t.orders[1].pids()
    os.kill(worker, signal.SIGSTOP)
    good, _, bad, slowest = t.result(client)
    os.kill(worker, signal.SIGCONT)
    assert good == 1200 and not bad and slowest < 6, (bad, slowest)


def test_a_silent_endpoint_that_is_asked_in_turn_is_taken_out(mesh, net):
    t = Three(mesh, net, web_env={**IN_TURN, "WEFT_HEDGE_AFTER": "300ms"})
    assert t.result(t.calls(60))[0] == 60
    t.apps[1].signal(signal.SIGSTOP)
    good, by, bad, _ = t.result(t.calls(600))
    t.apps[1].signal(signal.SIGCONT)
    assert good == 600 and not bad and by.get(t.orders[1].name, 0) == 0, (by, bad)
    assert t.web.metric("weft_ejections_total", service="shop/orders", reason="silent") >= 1
    assert t.endpoint(t.orders[1])["ejected"]


def test_a_post_to_a_frozen_application_goes_nowhere_else(mesh, net):
    t = Three(mesh, net, web_env={**IN_TURN, "WEFT_HEDGE_AFTER": "200ms"})
    assert t.result(t.calls(60))[0] == 60
    t.apps[1].signal(signal.SIGSTOP)
    good, _, bad, _ = t.result(t.calls(20, method="POST", timeout=1.5))
    t.apps[1].signal(signal.SIGCONT)
    assert good + sum(bad.values()) == 20 and bad, bad
    assert t.web.metric("weft_retries_total", reason="silent") == 0
    wait_until(lambda: len(t.ran()) == 20, 5, "what lay in its sockets")
    assert set(t.ran().values()) == {1}


# Answers at once, but for /slow-N: that takes so many tenths of a second. Says what it ran.
SLOW = r"""
import http.server, os, socket, sys, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 65536
    def do_GET(self):
        os.write(1, b"ran %s\n" % self.path.encode())
        if self.path.startswith("/slow-"): time.sleep(int(self.path.split("-")[1]) / 10)
        name = sys.argv[2].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(name))); self.end_headers(); self.wfile.write(name)
    do_DELETE = do_POST = do_GET
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 256
    daemon_threads = True
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); super().server_bind()
S(("::", int(sys.argv[1])), H).serve_forever()
"""


def get(t, path):
    return t.web.host.run(["curl", "-s", "-m", "20", "-w", " %{http_code}", f"http://{t.vip}{path}"]).stdout


def test_a_slow_answer_of_an_endpoint_that_answers_others_is_waited_for_alone(mesh, net):
    t = Three(mesh, net, SLOW, web_env={**IN_TURN, "WEFT_HEDGE_AFTER": "300ms"})
    assert t.result(t.calls(60))[0] == 60
    slow = t.web.host.popen(["curl", "-s", "-m", "20", f"http://{t.vip}/slow-20"])
    wait_until(lambda: t.ran()["/slow-20"] == 1, 5, "the slow request at its endpoint")
    client = t.calls(10000, threads=2)  # keeps all three answering
    assert slow.wait(15) == 0
    client.stop()
    assert t.ran()["/slow-20"] == 1 and t.web.metric("weft_retries_total", reason="silent") == 0


def test_a_lone_slow_answer_is_asked_for_twice_at_most_and_the_first_one_counts(mesh, net):
    t = Three(mesh, net, SLOW, web_env={**IN_TURN, "WEFT_HEDGE_AFTER": "300ms"})
    assert t.result(t.calls(60))[0] == 60
    began = time.monotonic()
    assert get(t, "/slow-15").endswith(" 200")
    assert 1.4 < time.monotonic() - began < 5
    wait_until(lambda: t.ran()["/slow-15"] == 2, 5, "the second attempt")
    # Where that is usual nothing is asked twice.
    before = t.web.metric("weft_retries_total", reason="silent", result="sent")
    for _ in range(3):
        get(t, "/slow-15")
    again = t.web.metric("weft_retries_total", reason="silent", result="sent") - before
    assert again <= 2, again  # by then each endpoint is known to take that long


def test_nothing_is_asked_twice_where_it_is_turned_off(mesh, net):
    t = Three(mesh, net, SLOW, web_env={**IN_TURN, "WEFT_HEDGE_AFTER": "0"})
    assert t.result(t.calls(60))[0] == 60
    assert get(t, "/slow-40").endswith(" 200")
    assert t.ran()["/slow-40"] == 1 and t.web.metric("weft_retries_total", reason="silent") == 0


def test_both_attempts_lost_is_an_error_and_not_a_hang(mesh, net):
    t = Three(mesh, net, SLOW, web_env={**IN_TURN, "WEFT_HEDGE_AFTER": "300ms"})
    assert t.result(t.calls(60))[0] == 60
    client = t.web.host.popen(["curl", "-s", "-m", "20", "-w", " %{http_code}", f"http://{t.vip}/slow-200"])
    wait_until(lambda: t.ran()["/slow-200"] == 2, 5, "both attempts")
    for a in t.apps:
        a.kill()
    client.wait_output(" 50[23]$", 5)


NO_HEDGE = {**IN_TURN, "WEFT_HEDGE_AFTER": "0"}


def runs_at(t, path, seen=()):
    """The place of the application that has begun this request and is not among those `seen`."""
    def found():
        return [i for i, a in enumerate(t.apps) if i not in seen and f"ran {path}\n" in a.output()]
    return wait_until(found, 5, f"{path} at another endpoint than {seen}")[0]


def gone(o):
    """Its sidecar, from one moment to the next: what is open to it ends."""
    for pid in o.pids():
        os.kill(pid, signal.SIGKILL)


def test_idempotent_requests_that_lose_two_kept_connections_are_served_by_the_third_endpoint(mesh, net):
    """That a kept connection ends says nothing of its endpoint: one such end is not counted, and what goes out then goes on a new connection, which
    those who lost theirs together share."""
    t = Three(mesh, net, SLOW, web_env=NO_HEDGE)
    assert t.result(t.calls(60))[0] == 60  # connections to all three, kept
    old = time.monotonic() + 1.1  # younger ones would be as good as new
    opened = t.orders[2].log().count(" session_open ")
    clients = [t.web.host.popen(["curl", "-s", "-m", "20", "-X", "DELETE", "-w", " %{http_code}", f"http://{t.vip}/slow-20-{i}"]) for i in range(12)]

    def at(*which):
        """The requests that these applications have begun."""
        return [set(re.findall(r"^ran (/slow-\S+)$", t.apps[i].output(), re.M)) for i in which]
    wait_until(lambda: sum(map(len, at(0, 1, 2))) == 12, 5, "all at their first endpoint")
    first, = at(0)
    gone(t.orders[0])
    wait_until(lambda: first <= set().union(*at(1, 2)) and time.monotonic() > old, 5, "the lost ones at their second")
    twice = first & at(1)[0]
    gone(t.orders[1])
    for c in clients:
        c.wait_output(f"^{t.orders[2].name} 200$", 10)
    assert first and twice and t.web.metric("weft_retries_total", result="fresh") >= len(twice)
    assert t.orders[2].log().count(" session_open ") == opened + 1, "one connection that was new"


def test_an_idempotent_request_that_loses_three_connections_is_lost(mesh, net):
    t = Three(mesh, net, SLOW, web_env=NO_HEDGE)
    assert t.result(t.calls(60))[0] == 60
    client = t.web.host.popen(["curl", "-s", "-m", "20", "-w", " %{http_code}", f"http://{t.vip}/slow-100"])
    seen = []
    for _ in t.orders:
        seen.append(runs_at(t, "/slow-100", seen))
        gone(t.orders[seen[-1]])
    client.wait_output(" 502$", 5)
    assert t.ran()["/slow-100"] == 3


def test_a_post_that_loses_its_kept_connection_runs_once(mesh, net):
    t = Three(mesh, net, SLOW, web_env=NO_HEDGE)
    assert t.result(t.calls(60))[0] == 60
    client = t.web.host.popen(["curl", "-s", "-m", "20", "-d", "x", "-w", " %{http_code}", f"http://{t.vip}/slow-100"])
    gone(t.orders[runs_at(t, "/slow-100")])
    client.wait_output(" 502$", 5)
    assert t.ran()["/slow-100"] == 1


def test_a_sidecar_that_restarts_under_many_requests_of_one_connection_is_not_taken_out(mesh, net):
    """They are lost together, by one event."""
    t = Three(mesh, net, SLOW, web_env=NO_HEDGE)
    assert t.result(t.calls(60))[0] == 60
    o = t.orders[1]
    before = t.endpoint(o)
    clients = [t.web.host.popen(["curl", "-s", "-m", "20", "-d", "x", "-w", " %{http_code}", f"http://{t.vip}/slow-20-{i}"]) for i in range(18)]
    wait_until(lambda: sum(len(re.findall("^ran /slow-", a.output(), re.M)) for a in t.apps) == 18, 5, "all at their applications")
    lost = len(re.findall("^ran /slow-", t.apps[1].output(), re.M))
    os.kill(o.worker(), signal.SIGKILL)
    wait_until(lambda: sum(c.output().endswith(" 502") for c in clients) == lost, 5, "those that are lost")
    e = t.endpoint(o)
    assert lost >= 5 and e["failed"] - before["failed"] == lost
    assert (e["failures"], e["ejections"], e["ejected"]) == (1, 0, False), e
    for c in clients:
        c.kill()


def test_a_get_whose_second_attempt_beside_a_silent_one_is_lost_too_is_served_by_the_third(mesh, net):
    """The silent endpoint's sidecar goes, then that of the one which was asked as well."""
    t = Three(mesh, net, SLOW, web_env={**IN_TURN, "WEFT_HEDGE_AFTER": "300ms"})
    assert t.result(t.calls(60))[0] == 60
    client = t.web.host.popen(["curl", "-s", "-m", "20", "-w", " %{http_code}", f"http://{t.vip}/slow-15"])
    first = runs_at(t, "/slow-15")
    second = runs_at(t, "/slow-15", [first])
    gone(t.orders[first])
    gone(t.orders[second])
    third = ({0, 1, 2} - {first, second}).pop()
    client.wait_output(f"^{t.orders[third].name} 200$", 10)
    assert t.ran()["/slow-15"] == 3


def test_a_black_holed_endpoint_costs_time_once_and_no_request(mesh, net):
    t = Three(mesh, net)
    hole(t.orders[1].host)
    good, by, bad, slowest = t.result(t.calls())
    assert good == 1000 and not bad, bad
    assert slowest < 6 and t.orders[1].name not in by, (slowest, by)


def test_a_black_hole_under_open_connections_costs_no_get(mesh, net):
    t = Three(mesh, net)
    client = t.calls(first=200)
    client.wait_output("begun", 20)
    hole(t.orders[1].host)
    good, _, bad, slowest = t.result(client)
    assert good == 1200 and not bad and slowest < 6, (bad, slowest)


def test_an_endpoint_that_came_back_as_somebody_else_gets_nothing_and_costs_nothing(mesh, net):
    t = Three(mesh, net)
    o = t.orders[1]
    o.stop()
    mesh.write(o, mesh.ca.leaf("shop", "mallory"))
    o.start()
    good, by, bad, slowest = t.result(t.calls(1000))
    assert good == 1000 and not bad and o.name not in by and slowest < 2, (bad, by, slowest)
    assert "mallory" in t.web.log()
    assert t.web.metric("weft_retries_total", reason="upstream_untrusted", result="sent") >= 1


@pytest.mark.parametrize("size", [10, 60000])
def test_a_post_whose_application_got_its_first_byte_and_died_ran_exactly_once(mesh, net, size):
    t = Three(mesh, net, FIRST_BYTE)
    good, _, bad, _ = t.result(t.calls(1000, method="POST", size=size))
    assert good == 0 and sum(bad.values()) == 1000, (good, bad)
    assert any("upstream_reset" in b for b in bad), bad
    wait_until(lambda: len(t.ran()) == 1000, 5, "all requests at the origins")
    assert set(t.ran().values()) == {1}
    assert t.web.metric("weft_retries_total", result="sent") == 0


def test_a_post_that_never_reached_an_application_runs_elsewhere(mesh, net):
    t = Three(mesh, net)
    t.apps[1].kill()
    good, by, bad, _ = t.result(t.calls(300, method="POST"))
    assert good == 300 and not bad, bad
    assert len(t.ran()) == 300 and set(t.ran().values()) == {1}
    assert t.web.metric("weft_retries_total", reason="connect_fail", result="sent") >= 1


@pytest.mark.parametrize("pause", ["0", "0.002"])
def test_a_kept_connection_that_its_server_closes_costs_no_get_and_repeats_no_post(mesh, net, pause):
    t = Three(mesh, net, FICKLE, args=(pause,))
    good, _, bad, _ = t.result(t.calls(300, threads=2))
    assert good == 300 and not bad, bad
    good, _, bad, _ = t.result(t.calls(300, threads=2, method="POST"))
    posts = {n: k for n, k in t.ran().items() if n.startswith("/POST")}
    assert len(posts) >= good and set(posts.values()) == {1}, posts
    # A connection of which the end is already here is not used. One that ends just then is what a client without a mesh meets, too.
    assert pause != "0" or sum(bad.values()) <= 15, bad


@pytest.mark.parametrize("how", ["killed", "holed"])
def test_a_tcp_connection_goes_to_another_endpoint_while_it_has_not_said_anything(mesh, net, how):
    t = Three(mesh, net, GREETER, ports={80: (8080, "tcp")}, web_env=IN_TURN)
    code = r"""
import socket, sys
for i in range(60):
    c = socket.create_connection((sys.argv[1], 80), 8)
    data = b""
    while (more := c.recv(100)): data += more
    print(data.decode().strip() or "nothing")
"""
    first = collections.Counter(t.web.host.run_python(code, t.vip).splitlines())
    assert set(first) == {o.name for o in t.orders} and sum(first.values()) == 60, first
    if how == "killed":
        t.apps[1].kill()  # its sidecar accepts and cannot go on
    else:
        hole(t.orders[1].host)  # nothing accepts
    second = collections.Counter(t.web.host.run_python(code, t.vip).splitlines())
    assert set(second) == {t.orders[0].name, t.orders[2].name} and sum(second.values()) == 60, second


def test_connections_are_replaced_by_age_without_a_failed_request(mesh, net):
    t = Three(mesh, net, web_env={"WEFT_CONNECTION_AGE": "400ms"})
    before = sum(o.metric("weft_connections_total", direction="inbound") for o in t.orders)
    client = t.calls(1000, threads=2)
    began = time.monotonic()
    good, _, bad, _ = t.result(client)
    took = time.monotonic() - began
    assert good == 1000 and not bad, bad
    opened = sum(o.metric("weft_connections_total", direction="inbound") for o in t.orders) - before
    assert opened >= 3 * max(1, int(took / 0.44) - 1), (opened, took)

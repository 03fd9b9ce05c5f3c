# SPDX-License-Identifier: Apache-2.0
"""A shared connection whose peer has gone silent gets no more requests: what is lost are those that were sent before anybody could know."""

import json
import os
import re
import signal
import time

import pytest
from harness.mesh import FileMesh
from harness.netns import wait_until
from test_failures import APP, IN_TURN, SLOW, hole

FIRST_MOMENT = 1.2  # s: what is sent in the time before the doubt (0.5 s), and as much for a machine that is slow

# POSTs and GETs in turn, so many a second whether answered or not, each on a connection of its own. Prints "begun" after 30 answers and goes on for
# 3 s. All GETs are waited for, and the POSTs but those of the first moment; 8 s at most.
OPEN_LOOP = r"""
import asyncio, json, sys, time
ip, rate, name = sys.argv[1], float(sys.argv[2]), sys.argv[3]
out = []
async def one(n):
    method = "POST" if n % 2 else "GET"
    o = {"n": n, "method": method, "at": time.monotonic(), "status": None}
    out.append(o)
    r, w = await asyncio.open_connection(ip, 80)
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    w.write(f"{method} /{name}-{n} HTTP/1.1\r\nHost: x\r\n{length}Connection: close\r\n\r\n".encode())
    status = int((await r.readline()).split()[1])
    await r.read()
    o.update(status=status, took=time.monotonic() - o["at"])
    w.close()
async def main():
    tasks, begun = [], None
    while begun is None or time.monotonic() < begun + 3:
        tasks.append(asyncio.create_task(one(len(tasks))))
        await asyncio.sleep(1 / rate)
        if begun is None and sum(o["status"] is not None for o in out) >= 30:
            print("begun", flush=True)
            begun = time.monotonic()
    await asyncio.wait([t for t, o in zip(tasks, out) if o["at"] > begun + 1.2 or o["method"] == "GET"], timeout=8)
    print("result", json.dumps(out), flush=True)
asyncio.run(main())
"""


@pytest.fixture
def mesh(net, tmp_path):
    with FileMesh(net, tmp_path) as m:
        yield m


def lost_of(client, began):
    """The requests that were not answered with 200: their method, status, and when they began."""
    calls = json.loads(client.wait_output(r"result (.*)\n", 30).group(1))
    assert sum(c["method"] == "POST" and c["at"] - began > FIRST_MOMENT for c in calls) > 15, "nothing was shown"
    return [(c["method"], c["status"], round(c["at"] - began, 2)) for c in calls if c["status"] != 200]


def test_what_is_sent_after_the_first_moment_of_silence_is_not_lost(mesh, net):
    """Two services, one with an endpoint whose host is cut off, one with an endpoint whose sidecar is frozen. They are asked in turn: nothing else
    would keep requests from the silent one."""
    well, holed, frozen = (mesh.workload(net.host(n), n, ports="8080/http") for n in ("well", "holed", "frozen"))
    web = mesh.workload(net.host("web"), "web", env=IN_TURN)
    vips = [mesh.service(o.name, {80: (8080, "http")}, [well, o])[0] for o in (holed, frozen)]
    apps = []
    for o in (well, holed, frozen):
        apps.append(o.host.start_python(APP, "8080", o.name))
        o.host.wait_port(8080)
    mesh.start()
    worker = frozen.worker()
    clients = [web.host.start_python(OPEN_LOOP, vip, "30", f"to-{i}") for i, vip in enumerate(vips)]
    for c in clients:
        c.wait_output("begun", 20)
    hole(holed.host)
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    try:
        lost = {name: lost_of(c, began) for name, c in zip(("holed", "frozen"), clients)}
    finally:
        os.kill(worker, signal.SIGCONT)
    for name, calls in lost.items():
        assert [c for c in calls if c[0] == "GET" or c[2] > FIRST_MOMENT] == [], (name, lost)
    assert web.metric("weft_upstream_connections") <= 6, "a storm of dials"
    for vip in vips:
        assert web.host.run(["curl", "-s", "-m", "5", f"http://{vip}/"]).stdout in ("well", "frozen")
    ran = re.findall(r"^ran (\S+)$", "".join(a.output() for a in apps), re.M)
    assert len(ran) == len(set(ran)), "a POST ran twice"


def test_a_slow_application_keeps_its_connection_and_delays_nobody(mesh, net):
    """Its sidecar answers PING."""
    o = mesh.workload(net.host("o"), "orders", ports="8080/http")
    web = mesh.workload(net.host("web"), "web")
    vip = mesh.service("orders", {80: (8080, "http")}, [o])[0]
    app = o.host.start_python(SLOW, "8080", o.name)
    o.host.wait_port(8080)
    mesh.start()

    def post(path):
        return ["curl", "-s", "-m", "20", "-d", "", "-w", " %{http_code}", f"http://{vip}{path}"]
    assert web.host.run(post("/first")).stdout == "orders 200"
    opened = o.log().count(" session_open ")
    slow = web.host.popen(post("/slow-20"))
    wait_until(lambda: "ran /slow-20\n" in app.output(), 5, "the slow request at its application")
    since = time.monotonic()
    for i, wait in enumerate((0.7, 1.5)):  # each after the doubt, which PING has settled before
        wait_until(lambda: time.monotonic() > since + wait, 5, "silence")
        began = time.monotonic()
        assert web.host.run(post(f"/quick-{i}")).stdout == "orders 200"
        assert time.monotonic() - began < 0.45, "held for longer than a PING takes"
    slow.wait_output("^orders 200$", 10)
    assert o.log().count(" session_open ") == opened, "one connection is enough"

# SPDX-License-Identifier: Apache-2.0
"""weftd with many proxies: simulated ones (tests/bench/swarm.c: the real link code, without a data path)."""

import json
import signal
import statistics
import time

import pytest
from harness.mesh import Mesh
from harness.netns import wait_until
from harness.swarm import Swarm


@pytest.fixture
def mesh(net, tmp_path):
    with Mesh(net, tmp_path) as m:
        yield m


def endpoints(mesh):
    """Instances with a living lease, as operators see them."""
    got = json.loads(mesh.weft("get", "workloads", "-n", "shop", "-o", "json").stdout)["items"]
    return {w["name"] for w in got if w["leaseMs"]}


def test_a_restart_of_weftd_drops_none_of_fifty_endpoints(mesh, net):
    mesh.start_control()
    sims = net.host("sims")
    swarm = Swarm(mesh, sims, 50, 0, "app")
    assert len(endpoints(mesh)) == 50
    for _ in range(2):
        mesh.weftd.kill()
        mesh.start_control()
        assert len(endpoints(mesh)) == 50
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert len(endpoints(mesh)) == 50
        time.sleep(0.2)
    assert swarm.proc.alive()


def test_a_frozen_workload_leaves_after_its_lease_and_half_of_the_mesh_at_once_does_not(mesh, net):
    mesh.start_control(args=["--lease", "3s"])
    sims = net.host("sims")
    Swarm(mesh, sims, 20, 0, "app")
    one, many = Swarm(mesh, sims, 1, 100, "app"), Swarm(mesh, sims, 19, 200, "app")
    assert len(endpoints(mesh)) == 40
    one.proc.signal(signal.SIGSTOP)
    wait_until(lambda: "sim-100" not in endpoints(mesh), 10, "the frozen one gone")
    assert len(endpoints(mesh)) == 39
    many.proc.signal(signal.SIGSTOP)
    mesh.weftd.wait_output(r"error weftd lease_guard", 15)
    assert len(endpoints(mesh)) == 39
    many.proc.signal(signal.SIGCONT)
    one.proc.signal(signal.SIGCONT)
    wait_until(lambda: len(endpoints(mesh)) == 40, 15, "all of them back")


@pytest.mark.plain(reason="a figure of time")
def test_a_change_reaches_a_hundred_proxies_within_the_promised_time(mesh, net):
    mesh.start_control()
    sims = net.host("sims")
    vip = mesh.service("target", {80: (8080, "http")}, {"app": "none"})[0]
    swarm = Swarm(mesh, sims, 100, 0, "app", follow=[vip])
    took = []
    for i in range(10):
        took += swarm.change(lambda i=i: mesh.service("target", {80: (8080, "http"), 1000 + i: (8080, "tcp")}, {"app": "none"}))
    took.sort()
    p50, p99 = statistics.median(took), took[len(took) * 99 // 100]
    print(f"1,000 arrivals at 100 proxies: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    assert p50 <= 15 and p99 <= 60, (p50, p99)

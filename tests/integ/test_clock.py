# SPDX-License-Identifier: Apache-2.0
"""Clocks that jump and machines that sleep, each program alone (clock_shim.c). Timers do not notice; certificates are compared with the clock in force, and
what a wrong clock refuses is served again soon after it was put right. The system call filter is on: plain build."""

import pathlib
import struct
import subprocess
import time

import pytest
from harness.mesh import FileMesh, Mesh
from harness.netns import wait_until
from test_hop import HTTP
from test_mesh import Load, endpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOUR = 3600

pytestmark = pytest.mark.plain("a preloaded library under the sanitizers")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    out = tmp_path_factory.mktemp("clock") / "clock_shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-o", str(out), str(ROOT / "tests/integ/clock_shim.c"), "-ldl"], check=True)
    for d in (out.parent, out.parent.parent, out.parent.parent.parent):
        d.chmod(0o755)
    return out


class Clock:
    """The offsets of one program's clocks, in seconds."""

    def __init__(self, shim, path):
        self.shim, self.path = shim, path
        path.write_bytes(struct.pack("=qq", 0, 0))
        path.chmod(0o644)

    def env(self):
        return {"LD_PRELOAD": str(self.shim), "CLOCK_SHIM": str(self.path)}

    def set(self, wall, boot=0):
        with open(self.path, "r+b") as f:
            f.write(struct.pack("=qq", wall, boot))


def get(web, vip):
    return web.host.run(["curl", "-s", "-m", "8", "-w", " %{http_code} %header{x-weft-error}", f"http://{vip}/a"], check=False).stdout.split("\n")[-1].strip()


@pytest.fixture
def pair(net, tmp_path, shim):
    with FileMesh(net, tmp_path) as m:
        clocks = {name: Clock(shim, tmp_path / f"{name}.clock") for name in ("orders", "web")}
        orders = m.workload(net.host("a"), "orders", ports="8080/http", env=clocks["orders"].env())
        # Connections of the hop are replaced all the time, so that certificates are looked at all the time.
        web = m.workload(net.host("b"), "web", env={**clocks["web"].env(), "WEFT_CONNECTION_AGE": "200ms"})
        orders.host.start_python(HTTP, "8080")
        orders.host.wait_port(8080)
        vip = m.service("orders", {80: (8080, "http")}, [orders])[0]
        m.start()
        yield orders, web, vip, clocks


@pytest.mark.parametrize("who", ["orders", "web"])
def test_a_clock_that_jumps_an_hour_within_the_certificates_time_costs_nothing(pair, who):
    _, web, vip, clocks = pair
    load = Load(web.host, vip)
    for jump in (HOUR // 2, 0, HOUR // 2):  # test certificates live an hour
        clocks[who].set(jump)
        time.sleep(0.8)
    clocks[who].set(0)
    good, bad, first = load.stop()
    assert good > 20 and bad == 0, (good, bad, first)


@pytest.mark.parametrize("who", ["orders", "web"])
@pytest.mark.parametrize("jump", [-26 * HOUR, 26 * HOUR])
def test_what_a_wrong_clock_refuses_is_refused_in_words_and_served_once_it_is_right(pair, who, jump):
    orders, web, vip, clocks = pair
    assert get(web, vip).startswith("200")
    clocks[who].set(jump)
    wait_until(lambda: not get(web, vip).startswith("200"), 10, "the refusal")
    log = (orders if who == "orders" else web).log()
    assert ("clocks differ" in log) and ("not valid before" in log if jump < 0 else "has expired" in log), log[-1500:]
    clocks[who].set(0)
    began = time.monotonic()
    wait_until(lambda: get(web, vip).startswith("200"), 10, "service again")
    assert time.monotonic() - began < 5
    assert orders.capture.alive() and web.capture.alive()


@pytest.fixture
def control(net, tmp_path, shim):
    """weftd, orders and web, each with a clock of its own."""
    with Mesh(net, tmp_path) as m:
        clocks = {name: Clock(shim, tmp_path / f"{name}.clock") for name in ("weftd", "orders", "web")}
        plain = m.env
        m.env = lambda: {**plain(), **clocks["weftd"].env()}
        m.start_control(args=("--lease", "3s"))
        m.env = plain
        orders = m.workload(net.host("orders"), "orders-1", sa="orders", labels={"app": "orders"}, ports="8080/http", env=clocks["orders"].env())
        web = m.workload(net.host("web"), "web-1", sa="web", env=clocks["web"].env())
        orders.host.start_python(HTTP, "8080")
        orders.host.wait_port(8080)
        orders.start(ready=False)
        web.start(ready=False)
        vips = m.service("orders", {80: (8080, "http")}, {"app": "orders"})
        orders.wait_ready()
        web.wait_ready()
        yield m, orders, web, vips[0], clocks


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_weftds_clock_drops_no_endpoint_and_no_request(control, jump):
    m, orders, web, vip, clocks = control
    assert get(web, vip).startswith("200")
    load = Load(web.host, vip)
    clocks["weftd"].set(jump)
    end = time.monotonic() + 7  # more than two leases
    while time.monotonic() < end:
        assert endpoints(web, "shop/orders"), m.weftd.output()[-1500:]
        time.sleep(0.1)
    clocks["weftd"].set(0)
    time.sleep(1)
    assert endpoints(web, "shop/orders")
    good, bad, first = load.stop()
    assert good > 50 and bad == 0, (good, bad, first)


def test_a_machine_that_slept_past_its_renewal_renews_within_seconds(control):
    m, orders, web, vip, clocks = control
    before = orders.metric("weft_identity_expiry_seconds")
    for name in ("weftd", "orders", "web"):  # the whole world is 20 hours older
        clocks[name].set(20 * HOUR, 20 * HOUR)
    wait_until(lambda: orders.metric("weft_identity_expiry_seconds") >= before + 19 * HOUR, 15, "a new certificate")
    assert get(web, vip).startswith("200")

# SPDX-License-Identifier: Apache-2.0
"""Every fault is a row: what is done, how it is undone, and what a client may notice of it. `get_bad`, `post_bad`: failures that are allowed while it
lasts (0: none; ANY: in flight at that moment); nothing may ever run twice, and a stream's bytes may never change."""

import contextlib
import os
import signal
import time
from typing import Callable, NamedTuple

from harness.netns import wait_until

ANY = 10**9


class Fault(NamedTuple):
    name: str
    run: Callable  # (world, random) -> None: does it, lasts as long as it likes, undoes it
    get_bad: int = 0
    post_bad: int = ANY  # a POST that was in flight may have run: it is not repeated


def _some(world, rnd):
    return rnd.choice(world.orders)


def app_killed(world, rnd):
    o = _some(world, rnd)
    world.apps[o.name].kill()
    time.sleep(rnd.uniform(0.2, 2))
    world.start_app(o)


def app_frozen(world, rnd):
    o = _some(world, rnd)
    world.apps[o.name].signal(signal.SIGSTOP)
    time.sleep(rnd.uniform(0.5, 4))
    world.apps[o.name].signal(signal.SIGCONT)


def black_hole(world, rnd):
    o = _some(world, rnd)
    for line in ("add table inet hole", "add chain inet hole input { type filter hook input priority -300; }",
                 "add rule inet hole input iifname eth0 drop"):
        o.host.run(["nft", *line.split(" ")])
    time.sleep(rnd.uniform(0.5, 5))
    o.host.run(["nft", "delete", "table", "inet", "hole"])


def packet_loss(world, rnd):
    percent = rnd.choice([1, 3, 5])
    hosts = [*world.orders, world.web]
    for w in hosts:
        for line in ("add table inet loss", "add chain inet loss input { type filter hook input priority -300; }",
                     f"add rule inet loss input iifname eth0 numgen random mod 100 < {percent} drop"):
            w.host.run(["nft", *line.split(" ")])
    time.sleep(rnd.uniform(1, 4))
    for w in hosts:
        w.host.run(["nft", "delete", "table", "inet", "loss"])


def worker_killed(world, rnd):
    o = _some(world, rnd)
    old = o.worker()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: o.pids()[1] not in (None, old), 10, "another worker")
    o.wait_ready(20)


def worker_frozen(world, rnd):
    pid = _some(world, rnd).worker()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(rnd.uniform(0.5, 4))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def sidecar_killed(world, rnd):
    """Supervisor and worker: the application is cut off, nothing gets around the sidecar."""
    o = _some(world, rnd)
    supervisor, worker = o.pids()
    os.kill(supervisor, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, TypeError):
        os.kill(worker, signal.SIGKILL)
    o.capture.popen.wait(5)
    time.sleep(rnd.uniform(0, 1))
    o.start(ready=False)
    o.wait_ready(30)


def own_worker_killed(world, rnd):
    """The caller's own sidecar: what it had in flight is lost, and nothing else."""
    old = world.web.worker()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: world.web.pids()[1] not in (None, old), 10, "another worker")
    world.web.wait_ready(20)


def weftd_killed(world, rnd):
    world.mesh.weftd.kill()
    time.sleep(rnd.uniform(0, 2))
    world.mesh.start_control(args=world.weftd_args)


def weftd_frozen(world, rnd):
    world.mesh.weftd.signal(signal.SIGSTOP)
    time.sleep(rnd.uniform(0.5, 3))
    world.mesh.weftd.signal(signal.SIGCONT)


def nothing(world, rnd):
    time.sleep(rnd.uniform(0.5, 1.5))


FAULTS = [
    Fault("nothing", nothing, post_bad=0),
    Fault("app_killed", app_killed),
    Fault("app_frozen", app_frozen, post_bad=0),
    Fault("black_hole", black_hole),
    Fault("packet_loss", packet_loss, post_bad=0),
    Fault("worker_killed", worker_killed),
    Fault("worker_frozen", worker_frozen, post_bad=0),
    Fault("sidecar_killed", sidecar_killed),
    Fault("own_worker_killed", own_worker_killed, get_bad=ANY),
    Fault("weftd_killed", weftd_killed, post_bad=0),
    Fault("weftd_frozen", weftd_frozen, post_bad=0),
]

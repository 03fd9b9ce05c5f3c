# SPDX-License-Identifier: Apache-2.0
"""Every fault is a row: what is done, how it is undone, and what a client may notice of it. `get_bad`, `post_bad`, `breaks` of streams: failures that are
allowed while it lasts (0: none; ANY: in flight at that moment); nothing may ever run twice, and a stream's bytes may never change."""

import contextlib
import datetime
import os
import pathlib
import re
import signal
import time
from typing import Callable, NamedTuple

from harness.netns import wait_until
from harness.upgrade import children, serving, upgrade_log, upgraded
from world import Delay

ANY = 10**9
PROXY_UID = 4800
BACKOFF_MS = 1000  # of a supervisor whose worker dies again and again


class Fault(NamedTuple):
    name: str
    run: Callable  # (world, random) -> None: does it, lasts as long as it likes, undoes it
    get_bad: int = 0
    post_bad: int = ANY  # a POST that was in flight may have run: it is not repeated
    breaks: int = ANY  # a stream lives where it lives


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


def delay(world, rnd):
    """A longer way to one host."""
    least = rnd.uniform(5, 40)
    with Delay(world.net, _some(world, rnd).host, least, least * rnd.uniform(1, 3)):
        time.sleep(rnd.uniform(1, 4))


def _serving_pid(w):
    """Of the worker that serves: former ones, of an upgrade, may be there beside it."""
    return serving(w)["worker"]["pid"]


def _another_worker(w, old):
    """Waits until one serves that is not `old`."""
    def another():
        with contextlib.suppress(AssertionError):  # nobody answers there yet
            return _serving_pid(w) != old
    wait_until(another, 20, f"another worker of {w.name}")
    w.wait_ready(20)


def _kill_worker(w):
    """How long the round takes says how busy this machine is, with starting curl above all. How long no worker was there, the supervisor's log says."""
    old = _serving_pid(w)
    os.kill(old, signal.SIGKILL)
    _another_worker(w, old)
    died, started = [r for r in w.log().splitlines() if re.search(r" (worker_died signal=|worker_started )", r)][-2:]
    pause = int(re.search(r"again_in_ms=(\d+)", died).group(1))
    gone = (_time(started) - _time(died)).total_seconds()
    assert pause <= BACKOFF_MS and gone <= pause / 1000 + 1, f"no worker of {w.name} for {gone} s: {died}, {started}"


def _time(line):
    return datetime.datetime.strptime(line.split(" ", 1)[0], "%Y-%m-%dT%H:%M:%S.%fZ")


def worker_killed(world, rnd):
    _kill_worker(_some(world, rnd))


def hot_upgrade(world, rnd):
    """The worker is swapped; what is open stays open where it is."""
    w = rnd.choice([*world.orders, world.web])
    before = children(w.capture.pid)
    if rnd.random() < 0.5:
        w.capture.signal(signal.SIGUSR2)
    else:
        assert "upgraded" in w.admin("/upgrade", "POST")
    upgraded(w, before)
    time.sleep(0.3)


def _limit_processes(host, pid, most):
    """The soft limit, "" being the hard one. As the user that it runs as: root may lack the right to change another's."""
    r = pathlib.Path(f"/proc/{pid}/limits").read_text()
    hard = re.search(r"^Max processes +\S+ +(\S+)", r, re.M).group(1)
    host.run(["setpriv", f"--reuid={PROXY_UID}", f"--regid={PROXY_UID}", "--clear-groups", "prlimit", "--pid", str(pid), f"--nproc={most or hard}:{hard}"])


def fork_failure(world, rnd):
    """No process more for the supervisor: an upgrade fails and says so; a worker that dies then is started again when there is one."""
    o = _some(world, rnd)
    supervisor, old = o.capture.pid, _serving_pid(o)
    failed, died = (o.log().count(f" {event} ") for event in ("upgrade_failed", "worker_died"))
    _limit_processes(o.host, supervisor, "0")
    try:
        o.capture.signal(signal.SIGUSR2)
        assert "fork: " in upgrade_log(o, "upgrade_failed", failed + 1)
        os.kill(old, signal.SIGKILL)
        assert "fork: " in upgrade_log(o, "worker_died", died + 2)  # the first one is its death
        time.sleep(rnd.uniform(0, 1.5))
    finally:
        _limit_processes(o.host, supervisor, "")
    _another_worker(o, old)


def capture_killed(world, rnd):
    """weft-capture dies at any step of bringing another workload of this machine in, and is asked in vain to bring one in twice: the programs and
    maps that all share serve on."""
    for _ in range(4):
        p = world.bystander_exec()
        time.sleep(rnd.uniform(0, 0.15))
        p.kill()
        p.close()
    world.detach_bystander()
    o = _some(world, rnd)
    second = world.second_exec(o)
    assert second.wait(10) != 0, f"a second sidecar beside {o.name}"
    second.close()


def worker_frozen(world, rnd):
    pid = _serving_pid(_some(world, rnd))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(rnd.uniform(0.5, 4))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def sidecar_killed(world, rnd):
    """Supervisor and worker: the application is cut off, nothing gets around the sidecar."""
    o = _some(world, rnd)
    pids = [o.capture.pid, *children(o.capture.pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    o.capture.popen.wait(5)
    world.note_issued(o)
    time.sleep(rnd.uniform(0, 1))
    o.start(ready=False)
    o.wait_ready(30)


def own_worker_killed(world, rnd):
    """The caller's own sidecar: what it had in flight is lost, and nothing else."""
    _kill_worker(world.web)


def weftd_killed(world, rnd):
    """For less than what is left of a certificate when it is renewed: two fifths of its life, less the start."""
    world.mesh.weftd.kill()
    time.sleep(rnd.uniform(0, min(2, world.lifetime_s / 10)))
    world.mesh.start_control(args=world.weftd_args)


def weftd_frozen(world, rnd):
    world.mesh.weftd.signal(signal.SIGSTOP)
    time.sleep(rnd.uniform(0.1, min(3, world.lifetime_s / 8)))
    world.mesh.weftd.signal(signal.SIGCONT)


def nothing(world, rnd):
    time.sleep(rnd.uniform(0.5, 1.5))


FAULTS = [
    Fault("nothing", nothing, post_bad=0, breaks=0),
    Fault("app_killed", app_killed),
    Fault("app_frozen", app_frozen, post_bad=0, breaks=0),
    Fault("black_hole", black_hole),
    Fault("packet_loss", packet_loss, post_bad=0, breaks=0),
    Fault("delay", delay, post_bad=0, breaks=0),
    Fault("worker_killed", worker_killed),
    Fault("worker_frozen", worker_frozen, post_bad=0, breaks=0),
    Fault("hot_upgrade", hot_upgrade, post_bad=0, breaks=0),
    Fault("fork_failure", fork_failure),
    Fault("sidecar_killed", sidecar_killed),
    Fault("capture_killed", capture_killed, post_bad=0, breaks=0),
    Fault("own_worker_killed", own_worker_killed, get_bad=ANY),
    Fault("weftd_killed", weftd_killed, post_bad=0, breaks=0),
    Fault("weftd_frozen", weftd_frozen, post_bad=0, breaks=0),
]

# SPDX-License-Identifier: Apache-2.0
"""What a mesh holds when nobody calls: descriptors, memory, processes, network namespaces, pins and entries of the capture's maps. What was held before
a run of faults is held after it and nothing more."""

import json
import os
import pathlib
import re
import subprocess

from harness.netns import wait_until
from harness.upgrade import children, serving

MAPS = ("workloads", "tokens", "ports", "cidrs", "direct", "pending")
SPARE_FDS = 8
POOLED = 32  # connections in the upstream pools of a sidecar: six callers at a time, and some that applications or hops have not closed yet
SPARE_KB = {"weftd": 2512}  # with the page cache of its store, which SQLite fills up to 2,000 KiB


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def pss_kb(pid):
    return int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))


def _pooled(w):
    return int(w.metric("weft_upstream_connections"))


def _worker_fds(w, pid):
    """But for pooled connections, which may be idle for a minute: these have their own bound."""
    return fds(pid) - _pooled(w)


def _map_entries(pin_dir):
    """{name: entries}; a map that is no hash cannot be counted."""
    out = {}
    for name in MAPS:
        r = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", f"{pin_dir}/{name}"], capture_output=True, text=True, check=True)
        out[name] = len(json.loads(r.stdout))
    return out


def held(world):
    """{what: how much}. Waits until former workers have ended."""
    sidecars = (*world.orders, world.web)
    for w in sidecars:
        wait_until(lambda w=w: len(children(w.capture.pid)) == 1, 20, f"one worker of {w.name}")
    exact = {"namespaces": len([n for n in os.listdir("/run/netns") if n.startswith(world.net.id)]),
             "pins": sorted(str(p.relative_to(world.mesh.pin_dir)) for p in pathlib.Path(world.mesh.pin_dir).rglob("*")),
             "processes": {h.name: len(h.pids()) for h in world.net.hosts.values()},
             "map entries": _map_entries(world.mesh.pin_dir)}
    weftd, pids = world.mesh.weftd.popen.pid, {w.name: serving(w)["worker"]["pid"] for w in sidecars}
    return {"exact": exact,
            "pooled": {w.name: _pooled(w) for w in sidecars},
            "fds": {"weftd": fds(weftd)} | {w.name: _worker_fds(w, pids[w.name]) for w in sidecars}
            | {f"{w.name}'s supervisor": fds(w.capture.pid) for w in sidecars},
            "kB": {n: pss_kb(p) for n, p in (pids | {"weftd": weftd}).items()}}


def leaked(world, before):
    """Raises AssertionError when more is held than `before`; else says what is. What is about to close has 20 s."""
    seen = {}

    def as_before():
        seen.update(held(world))
        few = all(n <= POOLED for n in seen["pooled"].values())
        return few and seen["exact"] == before["exact"] and all(n <= before["fds"][k] + SPARE_FDS for k, n in seen["fds"].items())
    try:
        wait_until(as_before, 20, "what is held as before")
    except AssertionError as e:
        raise AssertionError(f"{e}\nbefore: {before}\nafter: {seen}") from None
    grown = {k: (before["kB"][k], n) for k, n in seen["kB"].items() if n > before["kB"][k] * 1.3 + SPARE_KB.get(k, 512)}
    assert not grown or "asan" in os.environ.get("WEFT_BUILD", ""), f"memory in kB, before and after: {grown}"
    return f"held after as before: {before['exact']['map entries']}; descriptors {before['fds']} -> {seen['fds']}; pooled {before['pooled']} -> {seen['pooled']}; kB {before['kB']} -> {seen['kB']}"

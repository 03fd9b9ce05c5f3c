# SPDX-License-Identifier: Apache-2.0
"""Memory of sidecars while something runs.

    with Watch(web, orders) as w:       # samples the PSS of supervisor and worker of each
        ...
    assert w.growth_kb() < 2048         # the largest growth of one of them, first sample to highest"""

import os
import threading


def _sum_kb(workload, row):
    total = 0
    for pid in filter(None, workload.pids()):
        with open(f"/proc/{pid}/smaps_rollup") as f:
            total += next(int(line.split()[1]) for line in f if line.startswith(f"{row}:"))
    return total


def pss_kb(workload):
    """Proportional set size of a sidecar, supervisor and worker, in KiB."""
    return _sum_kb(workload, "Pss")


def private_kb(workload):
    """Private dirty pages of a sidecar, supervisor and worker, in KiB: what it alone costs the machine."""
    return _sum_kb(workload, "Private_Dirty")


def worker_kb(workload):
    """Private pages of the worker alone: what its limit is about (/proc/PID/statm, resident less shared)."""
    with open(f"/proc/{workload.pids()[1]}/statm") as f:
        _, resident, shared, *_ = map(int, f.read().split())
    return (resident - shared) * (os.sysconf("SC_PAGESIZE") >> 10)


class Watch:
    def __init__(self, *workloads, every=0.1):
        self.workloads, self.every = workloads, every
        self.first, self.high = {}, {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def sample(self):
        for w in self.workloads:
            now = pss_kb(w)
            self.first.setdefault(w.name, now)
            self.high[w.name] = max(now, self.high.get(w.name, 0))

    def _run(self):
        while not self._stop.wait(self.every):
            self.sample()

    def __enter__(self):
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def growth_kb(self):
        return max(self.high[n] - self.first[n] for n in self.first)

# SPDX-License-Identifier: Apache-2.0
"""What processes use: their CPU (schedstat of all threads), their memory (PSS), and what the hypervisor took; and the core that they run on."""

import pathlib
import re
import subprocess


def on_core(core, argv):
    return ["taskset", "-c", str(core), *argv]


def pin(pids, core):
    for pid in pids:
        subprocess.run(["taskset", "-acp", str(core), str(pid)], check=True, capture_output=True)


def steal():
    """(stolen, all) jiffies so far."""
    v = [int(x) for x in open("/proc/stat").readline().split()[1:]]
    return v[7], sum(v[:8])


def tree(pid):
    """The process and its descendants."""
    out = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for kid in (task / "children").read_text().split():
            out += tree(int(kid))
    return out


def cpu_ns(pids):
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def pss_kb(pids):
    total = 0
    for pid in pids:
        total += int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{pid}/smaps_rollup").read(), re.M).group(1))
    return total

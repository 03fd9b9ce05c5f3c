# SPDX-License-Identifier: Apache-2.0
"""weft-capture under test, apart from any other on this machine: own pins, cgroup and folders.

    cap = Capture(path_of_weft_capture)
    proxy = cap.mesh(host, "orders")                      # dummy proxy in relay mode; waits until it serves
    cap.start(host, "orders", ["sleep", "9"], "--ports", "80")   # any other program as the proxy; does not wait
    cap.status()["workloads"]; cap.counters("default-orders"); cap.detach(host); cap.close()
"""

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

from . import netns

DUMMY = (pathlib.Path(__file__).parent / "dummy_proxy.py").read_text()
_numbers = itertools.count(1)


class Capture:
    def __init__(self, binary):
        self.binary = binary
        self.id = f"wft-{os.getpid()}-{next(_numbers)}"
        self.dir = tempfile.mkdtemp(prefix="wft-cap-")
        os.chmod(self.dir, 0o755)
        self.pins = f"/sys/fs/bpf/{self.id}"
        self.env = {
            "WEFT_PIN_DIR": self.pins,
            "WEFT_CGROUP": self.id,
            "WEFT_RUN_DIR": f"{self.dir}/run",
            "WEFT_STATE_DIR": f"{self.dir}/state",
        }

    def cgroup(self, instance):
        """The cgroup2 folder of an instance's proxy."""
        return f"{netns.cgroup2_root()}/{self.id}/{instance}"

    def argv(self, name, command, *options, binary=None):
        return [binary or self.binary, "exec", "--name", name, *options, "--", *command]

    def start(self, host, name, command, *options, binary=None, prefix=()):
        """`weft-capture exec` with any proxy command; does not wait. `prefix`: a program to run it under."""
        return host.popen([*prefix, *self.argv(name, command, *options, binary=binary)], env=self.env)

    def mesh(self, host, name, *options, mode="relay", binary=None):
        """`weft-capture exec` with the dummy proxy; returns its Proc once it serves."""
        p = self.start(host, name, [netns.PYTHON, "-u", "-c", DUMMY, mode], *options, binary=binary)
        p.wait_output("^serving")
        return p

    def run(self, host, *args, check=True):
        """Any weft-capture command inside a host (None: outside); CompletedProcess."""
        env = {**os.environ, **self.env}
        if host:
            return host.run([self.binary, *args], check=check, env=env)
        r = subprocess.run([self.binary, *args], env=env, capture_output=True, text=True)
        if check and r.returncode:
            raise AssertionError(f"{args}: exit {r.returncode}\n{r.stdout}{r.stderr}")
        return r

    def status(self):
        return json.loads(self.run(None, "status", "-o", "json").stdout)

    def workload(self, instance):
        """Its part of the status, or None."""
        return next((w for w in self.status()["workloads"] if w["instance"] == instance), None)

    def counters(self, instance):
        return self.workload(instance)["counters"]

    def detach(self, host):
        return self.run(host, "detach")

    def close(self):
        self.run(None, "detach", "--all")
        netns.wait_until(lambda: self.run(None, "detach", "--all") and not os.path.exists(self.cgroup("")), 5, "cgroups gone")
        shutil.rmtree(self.dir, ignore_errors=True)

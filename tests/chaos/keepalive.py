#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server that keeps connections and closes them at odd moments, without a word: N GETs through the mesh, of which none may fail, and N / 10 POSTs,
of which none may run twice. keepalive.py [N], default 100,000. A part of `make soak`; the short form is in test_failures.py."""

import collections
import json
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))

from harness.mesh import FileMesh  # noqa: E402
from harness.netns import Net  # noqa: E402
from test_failures import FICKLE, Three  # noqa: E402


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100000
    with tempfile.TemporaryDirectory(prefix="weft-keepalive-") as tmp, Net() as net:
        os.chmod(tmp, 0o755)
        with FileMesh(net, tmp) as mesh:
            t = Three(mesh, net, FICKLE, args=("0.001",))
            good, _, bad, _ = t.result(t.calls(n, threads=6), timeout=n / 50)
            assert good == n and not bad, (good, bad)
            good, _, bad, _ = t.result(t.calls(n // 10, threads=6, method="POST"), timeout=n / 50)
            posts = collections.Counter({p: k for p, k in t.ran().items() if p.startswith("/POST")})
            twice = [p for p, k in posts.items() if k > 1]
            assert not twice and len(posts) >= good, (twice[:5], len(posts), good)
            print(f"{n} GETs, none failed; {n // 10} POSTs: {good} answered, {sum(bad.values())} lost with their connection, none ran twice:", json.dumps(bad))


if __name__ == "__main__":
    main()

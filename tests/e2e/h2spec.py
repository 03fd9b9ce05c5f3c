# SPDX-License-Identifier: Apache-2.0
"""h2spec (strict) through two sidecars to nghttpd: what a sidecar answers to broken HTTP/2, and that it passes the rest on. Root.

    h2spec.py PATH-OF-H2SPEC [arguments of h2spec]        prints its output; exit 1 when a case fails
"""

import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))

from harness.mesh import FileMesh  # noqa: E402
from harness.netns import Net  # noqa: E402

PORT = 7000


def main(h2spec, *args):
    with Net() as net, tempfile.TemporaryDirectory() as tmp, FileMesh(net, tmp) as mesh:
        calc = mesh.workload(net.host("calc"), "calc")
        web = mesh.workload(net.host("web"), "web")
        vip = mesh.service("calc", {PORT: (PORT, "http2")}, [calc])[0]
        # Bodies must be longer than the windows that h2spec plays with.
        (pathlib.Path(tmp) / "index.html").write_text("x" * 20000)
        calc.host.popen(["nghttpd", "--no-tls", "--htdocs", tmp, str(PORT)])
        calc.host.wait_port(PORT)
        mesh.start()
        r = subprocess.run(web.host.command([h2spec, "--strict", "--timeout", "3", "-h", vip, "-p", str(PORT), *args]), check=False)
        died = [w.name for w in (calc, web) if "worker_died" in w.log()]
        if died:
            print(f"a worker died: {died}")
        return 1 if died else r.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

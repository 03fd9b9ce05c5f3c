# SPDX-License-Identifier: Apache-2.0
"""grpc-go at both ends of the mesh, on an undeclared port: conversations of 640 MB in all over one channel, none of which fails. Root.

    grpc_go.py PROGRAM        the built tests/e2e/grpc_go
"""

import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))

from harness.mesh import FileMesh  # noqa: E402
from harness.netns import Net  # noqa: E402

PORT = 50051


def main(program):
    program = str(pathlib.Path(program).resolve())
    with Net() as net, tempfile.TemporaryDirectory() as tmp, FileMesh(net, tmp) as mesh:
        calc = mesh.workload(net.host("calc"), "calc")
        web = mesh.workload(net.host("web"), "web")
        vip = mesh.service("calc", {PORT: (PORT, None)}, [calc])[0]
        calc.host.popen([program, "server", str(PORT)]).wait_output("serving")
        mesh.start()
        r = web.host.run([program, "client", f"{vip}:{PORT}"], check=False, timeout=120)
        print(r.stdout.strip())
        flood = [w.name for w in (calc, web) if "reason=flood" in w.log() or "worker_died" in w.log()]
        if flood:
            print(f"connections ended for a flood, or a worker died: {flood}")
        return 0 if "result 0 " in r.stdout and not flood else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

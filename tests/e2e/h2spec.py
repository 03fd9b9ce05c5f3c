# SPDX-License-Identifier: Apache-2.0
"""h2spec (strict) against each HTTP/2 that a sidecar serves, with nghttpd behind it: what is answered to broken HTTP/2, and that the
rest passes. h2spec speaks no client certificate: on the hop a relay of the tests' own stands between. Root.

    h2spec.py PATH-OF-H2SPEC [arguments of h2spec]        prints the failures and one line for each way; exit 1 when a case fails
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))

from harness.mesh import FileMesh  # noqa: E402
from harness.netns import Net  # noqa: E402
from harness.relay import TlsRelay  # noqa: E402

PORT = 7000


def run(what, host, h2spec, address, port, args):
    """One line about one way; its failures above it. True when all passed."""
    r = subprocess.run(host.command([h2spec, "--strict", "--timeout", "3", "-h", address, "-p", str(port), *args]), check=False,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    failures = r.stdout.find("\nFailures:")
    if failures >= 0 or r.returncode:
        print(r.stdout[max(failures, 0):])
    m = re.search(r"^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed$", r.stdout, re.M)
    print(f"{what}: {m.group(0) if m else 'no summary'}", flush=True)
    return r.returncode == 0 and m is not None and m.group(3) == m.group(4) == "0" and int(m.group(1)) > 0


def main(h2spec, *args):
    with Net() as net, tempfile.TemporaryDirectory() as tmp, FileMesh(net, tmp) as mesh:
        calc = mesh.workload(net.host("calc"), "calc")
        web = mesh.workload(net.host("web"), "web")
        outside = net.host("outside")
        vip = mesh.service("calc", {PORT: (PORT, "http2")}, [calc])[0]
        # Bodies must be longer than the windows that h2spec plays with.
        (pathlib.Path(tmp) / "index.html").write_text("x" * 20000)
        calc.host.popen(["nghttpd", "--no-tls", "--htdocs", tmp, str(PORT)])
        calc.host.wait_port(PORT)
        mesh.start()
        ok = run("outbound, from an application (h2c)", web.host, h2spec, vip, PORT, args)
        ok &= run("inbound, from outside the mesh (h2c)", outside, h2spec, calc.host.ip4, PORT, args)
        with TlsRelay(outside, mesh.ca.leaf("shop", "peer"), tmp, calc.host.ip4, PORT) as port:
            ok &= run("inbound, from a sidecar (mutual TLS)", outside, h2spec, "127.0.0.1", port, args)
        secured = calc.metric("weft_connections_closed_total", direction="inbound", secured="yes")
        if secured < 140:
            print(f"only {secured:.0f} connections came over mutual TLS")
        died = [w.name for w in (calc, web) if "worker_died" in w.log()]
        if died:
            print(f"a worker died: {died}")
        return 0 if ok and not died and (args or secured >= 140) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

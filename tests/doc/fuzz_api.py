#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A weftd of its own under schemathesis, by docs/openapi.json: fuzz_api.py FOLDER-OF-PROGRAMS. Ends with schemathesis' exit code.

Random calls must be answered as described, and never with a 500. weftd is on loopback, with a bearer token."""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def bearer(programs, folder, port):
    """A token by the administrator's certificate, as `weft` would ask."""
    admin = json.loads((folder / "admin.json").read_text())
    for name in ("certificate", "key"):
        (folder / name).write_text(admin[name])
    out = subprocess.run(["curl", "-s", "-k", "--cert", folder / "certificate", "--key", folder / "key", "-d", '{"name": "fuzz"}',
                          f"https://127.0.0.1:{port}/v1/bearers"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["token"]


def main(programs):
    with tempfile.TemporaryDirectory() as tmp:
        folder, ports = pathlib.Path(tmp), [free_port() for _ in range(3)]
        subprocess.run([programs / "weftd", "init", "--trust-domain", "mesh.test", "--mesh-cidr", "10.1.0.0/16", "--store", folder / "weft.db",
                        "--admin-config", folder / "admin.json", "--server", "127.0.0.1:4810", "--url", f"https://127.0.0.1:{ports[1]}"],
                       check=True, capture_output=True)
        log = open(folder / "log", "w+")
        weftd = subprocess.Popen([programs / "weftd", "run", "--store", folder / "weft.db", "--listen", f"127.0.0.1:{ports[0]}", "--listen-api",
                                  f"127.0.0.1:{ports[1]}", "--listen-admin", f"127.0.0.1:{ports[2]}"], stderr=log)
        try:
            until = time.monotonic() + 10
            while " ready " not in (folder / "log").read_text():
                assert weftd.poll() is None and time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.05)
            code = subprocess.run(
                ["schemathesis", "run", ROOT / "docs/openapi.json", "--url", f"https://127.0.0.1:{ports[1]}", "--tls-verify", "false",
                 "--header", f"Authorization: Bearer {bearer(programs, folder, ports[1])}", "--phases", "examples,coverage,fuzzing",
                 "--max-examples", "30", "--request-timeout", "40", "--seed", "1",
                 "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"],
                cwd=tmp).returncode
            assert weftd.poll() is None, "weftd ended:\n" + (folder / "log").read_text()[-3000:]
            return code
        finally:
            weftd.terminate()
            weftd.wait(10)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))

# SPDX-License-Identifier: Apache-2.0
"""An application that tells each client how it sees the connection and then echoes, and its clients' side."""

import socket

ECHO = """
import socket, sys, threading
fam, addr, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
s = socket.socket(fam); s.setsockopt(1, 2, 1); s.bind((addr, port)); s.listen(100); print("ready", flush=True)
def serve(c, a):
    c.sendall(("%s %d|%s %d|%s %d\\n" % (a[:2] + c.getpeername()[:2] + c.getsockname()[:2])).encode())
    while d := c.recv(65536): c.sendall(d)
    c.close()
while True: threading.Thread(target=serve, args=s.accept(), daemon=True).start()
"""
MARKER = b"marker-that-must-not-be-seen-4711"


def serve(host, address="::", port=8080, family=None):
    """An application that tells each client what accept(), getpeername() and getsockname() said, then echoes."""
    family = family or (socket.AF_INET6 if ":" in address else socket.AF_INET)
    return host.start_python(ECHO, int(family), address, port, ready="ready")


def line(s):
    data = b""
    while not data.endswith(b"\n"):
        got = s.recv(1)
        assert got, f"closed after {data!r}"
        data += got
    return data.decode().strip()


def talk(s, marker=MARKER):
    """The application's three names, after an echo of the marker."""
    names = [tuple(n.split()) for n in line(s).split("|")]
    s.sendall(marker)
    got = b""
    while len(got) < len(marker):
        more = s.recv(len(marker) - len(got))
        assert more, "closed before the echo"
        got += more
    assert got == marker
    return names


def address(host, family):
    return {"v4": host.ip4, "v6": host.ip6, "mapped": f"::ffff:{host.ip4}"}[family]


def refused(host, addr, port):
    """Whether a connection gets nothing: refused, reset, or closed before a byte."""
    try:
        with host.connect(addr, port, timeout=3) as s:
            return s.recv(1) == b""
    except (ConnectionRefusedError, ConnectionResetError):
        return True

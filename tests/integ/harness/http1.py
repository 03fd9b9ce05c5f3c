# SPDX-License-Identifier: Apache-2.0
"""HTTP/1 at both ends of a way, byte by byte: sockets that record what they receive, and a reader of messages that normalises nothing.

    with Origin(host, 8080, lambda c: c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") if c.read() else None) as o:
        c = Peer(client.connect(vip, 80))
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        m = c.read()                       # Message: line, fields (as spelt, in order), body, trailers
        o.seen[0].received                 # all bytes that the first connection brought

The behaviour runs once per connection, in a thread; when it returns, the connection is closed."""

import contextlib
import socket
import struct
import threading
import time

from harness.netns import wait_until


class Message:
    """One message as it was on the wire. body: without its framing; a `str` of the framing in `framing`."""

    def __init__(self, line, fields, framing, body, trailers):
        self.line, self.fields, self.framing, self.body, self.trailers = line, fields, framing, body, trailers

    def get(self, name):
        """The values of a field, whatever its case."""
        return [v for n, v in self.fields if n.lower() == name.lower()]

    @property
    def status(self):
        return int(self.line.split(b" ")[1])

    def __repr__(self):
        return f"{self.line} {self.fields} {self.framing} {self.body[:80]}({len(self.body)}) {self.trailers}"


class Peer:
    """One end of a connection. `received`: everything that has been read so far; `at_end`: the other end has said FIN."""

    def __init__(self, sock, timeout=15.0, keep=True):
        self.sock, self.at_end, self.buffer, self.received, self.keep = sock, False, b"", bytearray(), keep
        sock.settimeout(timeout)

    def send(self, *pieces, pause=0.0):
        """Each piece leaves as a segment of its own when there is a pause."""
        for i, p in enumerate(pieces):
            if i and pause:
                time.sleep(pause)
            self.sock.sendall(p)
        return self

    def _more(self):
        if self.at_end:
            return False
        data = self.sock.recv(262144)
        if not data:
            self.at_end = True
            return False
        if self.keep:
            self.received += data
        self.buffer += data
        return True

    def until(self, mark):
        """The bytes up to and including `mark`; None at the end of the connection."""
        while mark not in self.buffer:
            if not self._more():
                return None
        i = self.buffer.index(mark) + len(mark)
        out, self.buffer = self.buffer[:i], self.buffer[i:]
        return out

    def exactly(self, n, sink=None):
        """n bytes; with a sink (a hash) they are counted there and not kept."""
        parts = []
        while n > 0:
            if not self.buffer and not self._more():
                raise EOFError(f"{n} bytes are missing")
            piece, self.buffer = self.buffer[:n], self.buffer[n:]
            n -= len(piece)
            if sink is None:
                parts.append(piece)
            else:
                sink.update(piece)
        return b"".join(parts)

    def some(self):
        """What there is, or what comes next; b"" at the end."""
        if not self.buffer:
            self._more()
        out, self.buffer = self.buffer, b""
        return out

    def rest(self):
        while self._more():
            pass
        out, self.buffer = self.buffer, b""
        return out

    def head(self):
        """(line, [(name, value)]) or None at the end."""
        text = self.until(b"\r\n\r\n")
        if text is None:
            return None
        if text.startswith(b"\r\n"):
            text = text[2:]  # RFC 9112 2.2: one empty line before a request
        line, *rows = text[:-4].split(b"\r\n")
        return line, [tuple(r.split(b": ", 1)) if b": " in r else (r, b"") for r in rows]

    def body(self, framing, length, sink=None):
        """(body, trailers) behind a head."""
        if framing == "chunked":
            parts = []
            while True:
                row = self.until(b"\r\n")
                if row is None:
                    raise EOFError("the size of a chunk is missing")
                n = int(row.split(b";")[0], 16)
                if n == 0:
                    break
                parts.append(self.exactly(n, sink))
                assert self.exactly(2) == b"\r\n"
            trailers = []
            while (row := self.until(b"\r\n")) != b"\r\n":
                if row is None:
                    raise EOFError("the end of the trailers is missing")
                name, _, value = row[:-2].partition(b":")
                trailers.append((name, value[1:] if value.startswith(b" ") else value))
            return b"".join(parts), trailers
        if framing == "length":
            return self.exactly(length, sink), []
        return (self.rest() if framing == "close" else b""), []

    def read(self, answer_to=None, sink=None):
        """The next message, or None at the end. `answer_to`: the request's method, when this is an answer."""
        h = self.head()
        if h is None:
            return None
        line, fields = h
        low = {n.lower(): v for n, v in fields}
        length = int(low.get(b"content-length", b"0"))
        if b"chunked" in low.get(b"transfer-encoding", b"").lower():
            framing = "chunked"
        elif b"content-length" in low:
            framing = "length"
        else:
            framing = "close" if line.startswith(b"HTTP/") else "none"
        if line.startswith(b"HTTP/"):
            status = int(line.split(b" ")[1])
            if answer_to == "HEAD" or status < 200 or status in (204, 304):
                framing = "none"
        return Message(line, fields, framing, *self.body(framing, length, sink))

    def fin(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Origin:
    """A listener in a host; `behave(peer)` serves each connection and gives up when it can neither read nor write for `timeout` seconds.
    `seen`: the Peers, in the order of accept()."""

    def __init__(self, host, port, behave, keep=True, timeout=15.0):
        self.behave, self.seen, self.errors, self.keep, self.timeout = behave, [], [], keep, timeout
        with host.inside():
            self.sock = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self):
        while True:
            try:
                s, self.last_client = self.sock.accept()
            except OSError:
                return
            p = Peer(s, self.timeout, keep=self.keep)
            self.seen.append(p)
            t = threading.Thread(target=self._serve, args=(p,), daemon=True)
            self.threads.append(t)
            t.start()

    def _serve(self, p):
        try:
            self.behave(p)
        except Exception as e:  # noqa: BLE001 - the test looks at it
            self.errors.append(e)
        finally:
            p.close()

    def received(self):
        """All bytes of all connections."""
        return b"".join(bytes(p.received) for p in self.seen)

    def wait_connections(self, n, timeout=5.0):
        wait_until(lambda: len(self.seen) >= n, timeout, f"{n} connections")

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for p in self.seen:
            with contextlib.suppress(OSError):
                p.sock.shutdown(socket.SHUT_RDWR)
        for t in self.threads:
            t.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

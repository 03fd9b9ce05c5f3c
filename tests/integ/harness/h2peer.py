# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 without TLS at both ends of a way, by python3-h2: a client and an origin that share no code with Weft.

    with H2Origin(host, 8080, lambda c, sid: c.respond(sid, 200, body=c.body[sid])) as o:
        c = H2Peer(client.connect(vip, 80))
        sid = c.request(body=b"hello")
        c.until(lambda: sid in c.ended)

An origin's `answer(connection, sid)` runs once a request is complete (`when="head"`: once its head is there), one after the other on each
connection, in a thread."""

import collections
import contextlib
import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.settings


class H2Peer:
    """One end of a connection. What came is gathered by stream; `auto`: credit is given back at once."""

    def __init__(self, sock, client=True, auto=True, settings=None, timeout=15.0, when="end", lenient=False):
        self.sock, self.client, self.auto, self.when = sock, client, auto, when
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(client_side=client, header_encoding="utf-8", validate_outbound_headers=not lenient,
                                           normalize_outbound_headers=not lenient, validate_inbound_headers=not lenient)
        self.c = h2.connection.H2Connection(config)
        if settings:
            self.c.local_settings = h2.settings.Settings(client=client, initial_values={**dict(self.c.local_settings), **settings})
        self.heads, self.first, self.body, self.trailers = {}, collections.defaultdict(list), collections.defaultdict(bytearray), {}
        self.ended, self.resets, self.goaway, self.settings = set(), {}, None, None
        self.acked = 0  # SETTINGS of ours that the other end has confirmed
        self.asked = collections.deque()
        self.pending = {}  # what respond(wait=False) could not send yet
        self.at_end = False
        self.c.initiate_connection()
        self.flush()

    def flush(self):
        data = self.c.data_to_send()
        if data:
            self.sock.sendall(data)

    def turn(self):
        """One read and what it brings. Raises EOFError at the end."""
        data = self.sock.recv(262144)
        if not data:
            self.at_end = True
            raise EOFError("the connection ended")
        for e in self.c.receive_data(data):
            self._take(e)
        self._push()
        self.flush()

    def _push(self):
        for sid in list(self.pending):
            n = min(self.c.local_flow_control_window(sid), self.c.max_outbound_frame_size)
            while n > 0 and self.pending[sid]:
                self.c.send_data(sid, self.pending[sid][:n])
                self.pending[sid] = self.pending[sid][n:]
                n = min(self.c.local_flow_control_window(sid), self.c.max_outbound_frame_size)
            if not self.pending[sid]:
                del self.pending[sid]
                self.c.end_stream(sid)

    def _take(self, e):
        sid = getattr(e, "stream_id", None)
        if isinstance(e, (h2.events.RequestReceived, h2.events.ResponseReceived)):
            self.heads[sid] = e.headers
            if self.when == "head":
                self.asked.append(sid)
        elif isinstance(e, h2.events.InformationalResponseReceived):
            self.first[sid].append(dict(e.headers))
        elif isinstance(e, h2.events.DataReceived):
            self.body[sid] += e.data
            if self.auto and e.flow_controlled_length:
                self.c.acknowledge_received_data(e.flow_controlled_length, sid)
        elif isinstance(e, h2.events.TrailersReceived):
            self.trailers[sid] = list(map(tuple, e.headers))
        elif isinstance(e, h2.events.StreamEnded):
            self.ended.add(sid)
            if self.when == "end":
                self.asked.append(sid)
        elif isinstance(e, h2.events.StreamReset):
            self.resets[sid] = int(e.error_code)
            self.pending.pop(sid, None)
        elif isinstance(e, h2.events.ConnectionTerminated):
            self.goaway = e
        elif isinstance(e, h2.events.RemoteSettingsChanged):
            self.settings = {**(self.settings or {}), **{int(k): v.new_value for k, v in e.changed_settings.items()}}
        elif isinstance(e, h2.events.SettingsAcknowledged):
            self.acked += 1

    def until(self, done):
        while not done():
            self.turn()
        return self

    def head(self, sid):
        return dict(self.heads[sid])

    def get(self, sid, name):
        """The values of a field."""
        return [v for n, v in self.heads[sid] if n == name]

    # --- a client ---

    def request(self, method="GET", path="/", fields=(), body=None, trailers=None, end=True, authority="calc", pseudo=()):
        sid = self.c.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path), *pseudo, *fields]
        if pseudo or method == "CONNECT":
            # python3-h2 knows no extended CONNECT: the pseudo-field is its own, validation is off.
            self.c.config.validate_outbound_headers = False
        self.c.send_headers(sid, head, end_stream=end and body is None and trailers is None)
        self.flush()
        if body is not None:
            self.send(sid, body, end=end and trailers is None)
        if trailers:
            self.c.send_headers(sid, trailers, end_stream=True)
            self.flush()
        return sid

    def answer(self, sid):
        """Waits for the end of a stream; (status, body)."""
        self.until(lambda: sid in self.ended or sid in self.resets)
        assert sid in self.ended, f"stream {sid} was reset with {self.resets[sid]}"
        return int(self.head(sid)[":status"]), bytes(self.body[sid])

    # --- both ---

    def send(self, sid, data, end=False):
        """All of it, within the other end's credit."""
        data = memoryview(data)
        while data:
            n = min(self.c.local_flow_control_window(sid), self.c.max_outbound_frame_size, len(data))
            if n <= 0:
                self.turn()
                continue
            self.c.send_data(sid, bytes(data[:n]))
            data = data[n:]
            self.flush()
        if end:
            self.c.end_stream(sid)
            self.flush()

    def respond(self, sid, status=200, fields=(), body=b"", trailers=None, end=True, wait=True):
        """wait=False: the body goes as the credit comes, other requests are answered meanwhile."""
        self.c.send_headers(sid, [(":status", str(status)), *fields], end_stream=end and not body and trailers is None)
        self.flush()
        if not wait:
            self.pending[sid] = body
            self._push()
            self.flush()
            return
        if body:
            self.send(sid, body, end=end and trailers is None)
        if trailers:
            self.c.send_headers(sid, trailers, end_stream=True)
            self.flush()

    def reset(self, sid, code):
        self.c.reset_stream(sid, code)
        self.flush()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class H2Origin:
    """A listener in a host; `answer(connection, sid)` for each request. `seen`: the connections, in the order of accept()."""

    def __init__(self, host, port, answer, when="end", settings=None, auto=True):
        self.answer, self.when, self.settings, self.auto = answer, when, settings, auto
        self.seen, self.errors = [], []
        with host.inside():
            self.sock = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self):
        while True:
            try:
                s, _ = self.sock.accept()
            except OSError:
                return
            t = threading.Thread(target=self._serve, args=(s,), daemon=True)
            self.threads.append(t)
            t.start()

    def _serve(self, s):
        try:
            c = H2Peer(s, client=False, auto=self.auto, settings=self.settings, when=self.when, timeout=60)
            self.seen.append(c)
            while True:
                while c.asked:
                    self.answer(c, c.asked.popleft())
                c.turn()
        except (EOFError, OSError):
            pass
        except Exception as e:  # noqa: BLE001 - the test looks at it
            self.errors.append(e)
        finally:
            s.close()

    def streams(self):
        """[(connection, stream id)] of all requests."""
        return [(c, sid) for c in self.seen for sid in c.heads]

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for c in self.seen:
            with contextlib.suppress(OSError):
                c.sock.shutdown(socket.SHUT_RDWR)
        for t in self.threads:
            t.join(10)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        if kind is None:
            assert not self.errors, self.errors

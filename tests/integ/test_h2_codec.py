# SPDX-License-Identifier: Apache-2.0
"""codec_h2 as a server against peers that share no code with it: python3-h2 (its own frames and HPACK), and curl and h2load
for what they see. An echo server of a hundred lines (h2_echo.c) stands for the owner."""
import os
import pathlib
import shutil
import socket
import subprocess

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBS = ["-lssl", "-lcrypto", "-lnghttp2", "-lev", "-lprotobuf-c", "-ljansson", "-lpthread"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    out = tmp_path_factory.mktemp("h2") / "h2_echo"
    subprocess.run(["make", "-s", "build/plain/libweft.a"], cwd=ROOT, check=True)
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-I.", "-Ibuild/gen", "-o", out,
                    "tests/integ/h2_echo.c", "build/plain/libweft.a", *LIBS], cwd=ROOT, check=True)
    return out


@pytest.fixture
def server(program):
    p = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    p.port = int(p.stdout.readline().split()[1])
    yield p
    p.stdin.close()
    assert p.wait(10) == 0


class Peer:
    """A client of python3-h2 with credit given only when asked."""

    def __init__(self, port, auto=True):
        self.s = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.auto = auto
        self.body, self.heads, self.trailers, self.ended, self.resets = {}, {}, {}, set(), {}
        self.goaway = self.settings = None
        self.c.initiate_connection()
        self.flush()

    def flush(self):
        data = self.c.data_to_send()
        if data:
            self.s.sendall(data)

    def turn(self):
        data = self.s.recv(65536)
        if not data:
            raise EOFError
        for e in self.c.receive_data(data):
            if isinstance(e, h2.events.ResponseReceived):
                self.heads[e.stream_id] = dict(e.headers)
            elif isinstance(e, h2.events.DataReceived):
                self.body[e.stream_id] = self.body.get(e.stream_id, b"") + e.data
                if self.auto:
                    self.c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
            elif isinstance(e, h2.events.TrailersReceived):
                self.trailers[e.stream_id] = dict(e.headers)
            elif isinstance(e, h2.events.StreamEnded):
                self.ended.add(e.stream_id)
            elif isinstance(e, h2.events.StreamReset):
                self.resets[e.stream_id] = e.error_code
            elif isinstance(e, h2.events.ConnectionTerminated):
                self.goaway = e.error_code
            elif isinstance(e, h2.events.RemoteSettingsChanged) and self.settings is None:
                self.settings = {k: v.new_value for k, v in e.changed_settings.items()}
        self.flush()

    def until(self, done):
        while not done():
            self.turn()

    def request(self, end=True, path="/", extra=()):
        sid = self.c.get_next_available_stream_id()
        self.c.send_headers(sid, [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path), *extra],
                            end_stream=end)
        self.flush()
        return sid

    def send(self, sid, data):
        """All of it, within the server's credit."""
        while data:
            n = min(self.c.local_flow_control_window(sid), self.c.max_outbound_frame_size, len(data))
            if n == 0:
                self.turn()
                continue
            self.c.send_data(sid, data[:n])
            data = data[n:]
            self.flush()
        self.c.end_stream(sid)
        self.flush()


def test_settings_are_the_promised_ones(server):
    p = Peer(server.port)
    p.until(lambda: p.settings is not None)
    s = {int(k): v for k, v in p.settings.items()}
    assert s[3] == 100 and s[4] == 65536 and s[6] == 65536 and s[8] == 1


def test_bodies_come_back_with_trailers(server):
    p = Peer(server.port)
    data = os.urandom(3_000_000)
    sid = p.request(end=False)
    p.send(sid, data)
    p.until(lambda: sid in p.ended)
    assert p.heads[sid][":status"] == "200"
    assert p.body[sid] == data
    assert p.trailers[sid] == {"x-bytes": str(len(data))}


def test_fifty_streams_interleaved(server):
    p = Peer(server.port)
    p.until(lambda: p.c.outbound_flow_control_window > 65535)  # the connection's credit beyond the first 64 KiB
    sids = [p.request(end=False) for _ in range(50)]
    for part in range(4):
        for sid in sids:
            p.c.send_data(sid, bytes([sid % 251]) * 1000, end_stream=part == 3)
    p.flush()
    p.until(lambda: p.ended >= set(sids))
    assert all(p.body[sid] == bytes([sid % 251]) * 4000 for sid in sids)


def test_no_byte_beyond_the_credit(server):
    """Without a WINDOW_UPDATE of ours exactly the first window comes (h2 itself would raise on one byte more)."""
    p = Peer(server.port, auto=False)
    sid = p.request(end=False)
    with pytest.raises(socket.timeout):
        p.s.settimeout(2)
        p.send(sid, b"x" * 1_000_000)
    assert len(p.body[sid]) == 65535
    p.s.settimeout(10)


def test_drain_of_the_peer_closes_in_order(server):
    p = Peer(server.port)
    sid = p.request()
    p.until(lambda: sid in p.ended)
    p.c.close_connection()
    p.flush()
    assert server.stdout.readline() == "closed ok\n"


def test_a_host_beside_another_authority_is_reset(server):
    p = Peer(server.port)
    p.c.config.validate_outbound_headers = False
    sid = p.request(extra=[("host", "b")])
    p.until(lambda: sid in p.resets)
    assert p.resets[sid] == 1
    good = p.request()
    p.until(lambda: good in p.ended)


def test_rapid_reset_is_cut_off(server):
    p = Peer(server.port)
    with pytest.raises((EOFError, OSError, h2.exceptions.ProtocolError)):
        for _ in range(2000):
            sid = p.request(end=False)
            p.c.reset_stream(sid, 8)
            p.flush()
        while True:
            p.turn()
    assert server.stdout.readline() == "closed flood_reset\n"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl_sends_ten_megabytes(server, tmp_path):
    data = os.urandom(10_000_000)
    (tmp_path / "in").write_bytes(data)
    subprocess.run(["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "--data-binary", f"@{tmp_path}/in", "-o",
                    tmp_path / "out", f"http://127.0.0.1:{server.port}/"], check=True, timeout=60)
    assert (tmp_path / "out").read_bytes() == data


@pytest.mark.skipif(not shutil.which("h2load"), reason="no h2load")
def test_h2load_sees_no_failure(server):
    out = subprocess.run(["h2load", "-n", "5000", "-c", "4", "-m", "50", f"http://127.0.0.1:{server.port}/"], check=True,
                         timeout=60, capture_output=True, text=True).stdout
    assert "5000 succeeded, 0 failed, 0 errored" in out

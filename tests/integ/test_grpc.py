# SPDX-License-Identifier: Apache-2.0
"""lib/grpc as a server against grpcio: unary, streams both ways, statuses, deadlines."""
import pathlib
import subprocess
import threading

import pytest

grpc = pytest.importorskip("grpc")
ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBS = ["-lssl", "-lcrypto", "-lnghttp2", "-lev", "-lprotobuf-c", "-ljansson", "-lpthread"]


def same(b):
    return b


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    out = tmp_path_factory.mktemp("grpc") / "grpc_echo"
    subprocess.run(["make", "-s", "build/plain/libweft.a"], cwd=ROOT, check=True)
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-I.", "-Ibuild/gen", "-o", out,
                    "tests/integ/grpc_echo.c", "build/plain/libweft.a", *LIBS], cwd=ROOT, check=True)
    p = subprocess.Popen([out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    p.port = int(p.stdout.readline().split()[1])
    yield p
    p.stdin.close()
    assert p.wait(10) == 0


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.enable_http_proxy", 0)]) as c:
        yield c


@pytest.mark.parametrize("size", [0, 1, 16379, 16384, 65536, 4_000_000])
def test_unary(channel, size):
    assert channel.unary_unary("/t.T/Echo", same, same)(b"x" * size, timeout=20) == b"x" * size


def test_stream_both_ways(channel):
    sent = [b"a" * i for i in range(2000)]
    assert list(channel.stream_stream("/t.T/Echo", same, same)(iter(sent), timeout=20)) == sent


def test_unknown_method(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.T/None", same, same)(b"", timeout=10)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert e.value.details() == "there is no such method"


def test_more_than_four_megabytes(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.T/Echo", same, same)(b"x" * (4 << 20 | 1), timeout=20)
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_compressed_messages_are_refused(channel):
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.T/Echo", same, same)(b"x" * 10000, timeout=20, compression=grpc.Compression.Gzip)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_deadline_and_cancel_reach_the_server(server, channel):
    stop = threading.Event()

    def never_ending():
        yield b"1"
        stop.wait(20)

    with pytest.raises(grpc.RpcError) as e:
        list(channel.stream_stream("/t.T/Echo", same, same)(never_ending(), timeout=0.3))
    stop.set()
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    while (line := server.stdout.readline()) not in ("end 1\n", "end 4\n"):
        assert line

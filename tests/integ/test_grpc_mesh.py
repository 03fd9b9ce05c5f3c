# SPDX-License-Identifier: Apache-2.0
"""gRPC through the mesh, with grpcio at both ends and on ports that nobody declared: calls, streams, deadlines, cancellations, errors,
and how one channel's calls spread over two endpoints."""

import json
import os
import re
import textwrap

import pytest
from conftest import missing
from harness.mesh import FileMesh
from harness.netns import Net, wait_until

pytest.importorskip("grpc")

# One generic service whose messages are bytes. Lines on stdout say what the server saw.
SERVER = r"""
import concurrent.futures, sys, threading, time
import grpc
name, port = sys.argv[1], sys.argv[2]
def say(*a): print(*a, flush=True)

def who(request, ctx): return name.encode()
def echo(request, ctx): return request
def meta(request, ctx):
    got = sorted((k, v) for k, v in ctx.invocation_metadata() if k.startswith("t-"))
    ctx.send_initial_metadata([("t-first", "1"), ("t-first-bin", b"\x00\xff\x01")])
    ctx.set_trailing_metadata([("t-last", "2"), ("t-last-bin", bytes(range(256)))])
    all = sorted(k for k, v in ctx.invocation_metadata())
    return repr((got, all)).encode()
def fail(request, ctx):
    ctx.set_trailing_metadata([("t-why", "because")])
    ctx.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: \u00e4\u00f6\u00fc 100%")
def wait(request, ctx):
    tag = request.decode()
    over = threading.Event()
    began = time.monotonic()
    ctx.add_callback(over.set)
    left = ctx.time_remaining()
    say("waiting", tag, "left", "none" if left is None or left > 1e6 else round(left, 1))
    over.wait(60)
    say("over", tag, "active", ctx.is_active(), "left", "none" if left is None or left > 1e6 else ctx.time_remaining() < 0.2)
    return b""
def count(request, ctx):
    for i in range(int(request)):
        yield b"%d" % i
def big(request, ctx):
    n, size = map(int, request.split())
    for i in range(n):
        yield bytes([i % 251]) * size
def sum_(requests, ctx):
    n = total = 0
    for r in requests:
        n += 1; total += len(r)
    return b"%d %d" % (n, total)
def chat(requests, ctx):
    for r in requests:
        yield name.encode() + b":" + r
def early(requests, ctx):
    "Answers and ends after the first message, whatever follows."
    yield next(iter(requests))
    ctx.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
def endless(requests, ctx):
    for r in requests:
        yield r
        say("had", r.decode())

same = dict(request_deserializer=None, response_serializer=None)
u, s = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
c, b = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
handlers = {"Who": u(who), "Echo": u(echo), "Meta": u(meta), "Fail": u(fail), "Wait": u(wait), "Count": s(count), "Big": s(big), "Sum": c(sum_),
            "Chat": b(chat), "Early": b(early), "Endless": b(endless)}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=[
    ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("t.T", handlers)])
server.add_insecure_port("[::]:" + port)
server.start()
say("serving")
server.wait_for_termination()
"""

CLIENT = r"""
import collections, json, sys, threading, time
import grpc
target = sys.argv[1]
ch = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                                            ("grpc.enable_http_proxy", 0)])
def uu(m): return ch.unary_unary("/t.T/" + m)
def us(m): return ch.unary_stream("/t.T/" + m)
def su(m): return ch.stream_unary("/t.T/" + m)
def ss(m): return ch.stream_stream("/t.T/" + m)
def error(f):
    try:
        f()
    except grpc.RpcError as e:
        return [e.code().name, e.details(), dict((k, v) for k, v in (e.trailing_metadata() or ()) if isinstance(v, str)),
                dict((k, v) for k, v in (e.initial_metadata() or ()) if isinstance(v, str))]
    return None
def result(x): print("result", json.dumps(x), flush=True)
"""


class Shop:
    """Two servers behind one Service on an undeclared port, one client host."""

    def __init__(self, net, tmp):
        self.net = net
        self.mesh = m = FileMesh(net, tmp)
        self.workloads = [m.workload(net.host(n), n, sa="calc") for n in ("calc-1", "calc-2")]
        # The claims are about calls and connections, not about which endpoint is the quicker one.
        self.web = m.workload(net.host("web"), "web", env={"WEFT_BALANCER": "round-robin"})
        self.vip = m.service("calc", {50051: (50051, None)}, self.workloads)[0]
        self.one = m.service("one", {50051: (50051, None)}, self.workloads[:1])[0]
        self.dead = m.service("dead", {50051: (50051, None)}, [])[0]
        self.closed = m.service("closed", {50052: (50052, None)}, self.workloads[:1])[0]
        self.servers = [self.serve(w) for w in self.workloads]
        m.start()

    def serve(self, w):
        return w.host.start_python(SERVER, w.name, "50051", ready="serving")

    def call(self, code, vip=None, port=50051, timeout=60):
        """Runs client code in the client's host and returns what it gave to result()."""
        p = self.start(code, vip, port)
        try:
            return self.result(p, timeout)
        finally:
            p.close()

    def start(self, code, vip=None, port=50051):
        return self.web.host.start_python(CLIENT + textwrap.dedent(code), f"{vip or self.vip}:{port}")

    def result(self, p, timeout=60):
        return json.loads(p.wait_output(r"^result (.*)$", timeout).group(1))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with Net() as net:
        s = Shop(net, tmp_path_factory.mktemp("grpc"))
        with s.mesh:
            yield s


def test_calls_of_one_channel_split_over_both_endpoints(shop):
    got = shop.call("""
        result(collections.Counter(uu("Who")(b"", timeout=10).decode() for _ in range(200)))
    """)
    assert sum(got.values()) == 200 and min(got["calc-1"], got["calc-2"]) >= 60, got


def test_bidi_calls_of_one_channel_split_over_both_endpoints_and_each_stays_where_it_began(shop):
    got = shop.call("""
        calls = [ss("Chat")(iter([b"a", b"b", b"c"]), timeout=20) for _ in range(40)]
        whole = [[m.decode().split(":") for m in c] for c in calls]
        assert all([m[1] for m in w] == ["a", "b", "c"] for w in whole)
        assert all(len({m[0] for m in w}) == 1 for w in whole)
        result(collections.Counter(w[0][0] for w in whole))
    """)
    assert sum(got.values()) == 40 and min(got["calc-1"], got["calc-2"]) >= 12, got


def test_a_conversation_goes_message_by_message(shop):
    got = shop.call("""
        import queue
        q = queue.Queue()
        call = ss("Chat")(iter(q.get, None), timeout=20)
        times = []
        for i in range(50):
            began = time.monotonic()
            q.put(b"%d" % i)
            assert next(call).endswith(b":%d" % i)
            times.append(time.monotonic() - began)
        q.put(None)
        assert list(call) == [] and call.code() == grpc.StatusCode.OK
        result(sorted(times)[25])
    """)
    assert got < 0.05, f"half of the messages took longer than {got} s"


def test_server_and_client_streams_are_whole(shop):
    assert shop.call("""
        assert [int(m) for m in us("Count")(b"3000", timeout=30)] == list(range(3000))
        assert su("Sum")(iter([b"x" * i for i in range(1000)]), timeout=30) == b"1000 %d" % sum(range(1000))
        assert list(us("Count")(b"0", timeout=30)) == [] and su("Sum")(iter([]), timeout=30) == b"0 0"
        result("ok")
    """) == "ok"


def test_messages_of_four_megabytes_both_ways_and_streams_of_forty(shop):
    assert shop.call("""
        import os
        for size in (0, 1, 16379, 65536, 1 << 20, 4 << 20):
            data = os.urandom(size)
            assert uu("Echo")(data, timeout=30) == data, size
        assert [m == bytes([i % 251]) * (1 << 20) for i, m in enumerate(us("Big")(b"40 %d" % (1 << 20), timeout=60))] == [True] * 40
        assert su("Sum")((b"y" * (1 << 20) for _ in range(40)), timeout=60) == b"40 %d" % (40 << 20)
        result("ok")
    """, timeout=120) == "ok"


def test_metadata_arrives_binary_too_and_what_only_sidecars_say_does_not(shop):
    got = shop.call("""
        r, call = uu("Meta").with_call(b"", timeout=10, metadata=[("t-a", "1"), ("t-a", "2"), ("t-b-bin", bytes(range(256))), ("x-weft-version", "1.0"),
                                                                  ("x-weft-target", "none")])
        first = dict(call.initial_metadata()); last = dict(call.trailing_metadata())
        assert (first["t-first"], first["t-first-bin"]) == ("1", b"\\x00\\xff\\x01"), first
        assert (last["t-last"], last["t-last-bin"]) == ("2", bytes(range(256))), last
        assert not [k for k in (*first, *last) if k.startswith("x-weft")], (first, last)
        result(r.decode())
    """)
    fields, names = eval(got, {"_Metadatum": lambda key, value: (key, value)})
    assert sorted(map(tuple, fields)) == sorted([("t-a", "1"), ("t-a", "2"), ("t-b-bin", bytes(range(256)))])
    assert not [n for n in names if n.startswith("x-weft")] and "x-forwarded-for" in names


def test_an_error_without_a_message_keeps_status_text_and_trailers(shop):
    got = shop.call("""
        result([error(lambda: uu("Fail")(b"", timeout=10)), error(lambda: uu("None")(b"", timeout=10))])
    """)
    assert got[0][:2] == ["FAILED_PRECONDITION", "not now: äöü 100%"] and got[0][2]["t-why"] == "because"
    assert got[1][0] == "UNIMPLEMENTED"
    assert "x-weft-error" not in {**got[0][2], **got[0][3], **got[1][2], **got[1][3]}


def test_an_early_error_ends_a_stream_that_still_sends(shop):
    got = shop.call("""
        def endless():
            while True: yield b"x" * 1000
        def go():
            for m in ss("Early")(endless(), timeout=20): assert m == b"x" * 1000
        result([error(go)[:2] for _ in range(10)])
    """)
    assert got == [["RESOURCE_EXHAUSTED", "enough"]] * 10


def seen(shop, regex, timeout=5.0):
    """The line of either server."""
    return wait_until(lambda: next((m for s in shop.servers if (m := re.search(regex, s.output(), re.M))), None), timeout, f"a server that says {regex}")


def test_an_exceeded_deadline_is_one_and_ends_the_call_at_the_server(shop):
    got = shop.call("""
        began = time.monotonic()
        e = error(lambda: uu("Wait")(b"deadline", timeout=0.7))
        result([e[0], time.monotonic() - began])
    """)
    assert got[0] == "DEADLINE_EXCEEDED" and 0.6 < got[1] < 2
    assert 0 < float(seen(shop, r"^waiting deadline left (\S+)").group(1)) <= 0.7
    seen(shop, r"^over deadline active False")


def test_a_cancelled_call_is_cancelled_at_the_server(shop):
    p = shop.start("""
        call = uu("Wait").future(b"cancel")
        sys.stdin.readline()
        print("cancelling", flush=True)
        call.cancel()
        result(call.code().name)
        time.sleep(20)
    """.replace("sys.stdin.readline()", "time.sleep(0.7)"))
    seen(shop, r"^waiting cancel left none")
    assert shop.result(p) == "CANCELLED"
    seen(shop, r"^over cancel active False left none", timeout=3)
    p.close()


def test_a_cancelled_bidi_call_stops_the_server(shop):
    assert shop.call("""
        stop = threading.Event()
        def ask():
            yield b"bidi-1"
            stop.wait(20)
        call = ss("Endless")(ask())
        assert next(call) == b"bidi-1"
        call.cancel()
        result(error(lambda: next(call))[0])
        stop.set()
    """) == "CANCELLED"


def test_a_client_that_dies_ends_its_calls_at_the_server(shop):
    p = shop.start("""
        call = uu("Wait").future(b"dies")
        time.sleep(30)
    """)
    seen(shop, r"^waiting dies")
    p.kill()
    seen(shop, r"^over dies active False")


def test_five_hundred_calls_cancelled_at_once_disturb_nobody(shop):
    """They share one connection between the sidecars with others' calls; a stranger's connection would be cut for this (h2_guard.h)."""
    other = shop.start("""
        end = time.monotonic() + 6
        bad = collections.Counter(); good = 0
        print("begun", flush=True)
        while time.monotonic() < end:
            e = error(lambda: uu("Echo")(b"x", timeout=5))
            if e is None: good += 1
            else: bad[str(e[:2])] += 1
        result([good, bad])
    """)
    other.wait_output("begun")
    got = shop.call("""
        done = 0
        for turn in range(20):
            calls = [uu("Wait").future(b"many") for _ in range(50)]
            end = time.monotonic() + 0.05
            while time.monotonic() < end: time.sleep(0.01)
            for c in calls: c.cancel()
            done += sum(c.code() == grpc.StatusCode.CANCELLED for c in calls)
        result([done, uu("Echo")(b"still", timeout=10).decode()])
    """)
    assert got == [1000, "still"]
    good, bad = shop.result(other)
    assert good > 100 and bad == {}, (good, bad)


def test_a_service_without_endpoints_is_unavailable_and_says_who_said_so(shop):
    code, text, trailing, initial = shop.call("""result(error(lambda: uu("Echo")(b"", timeout=10)))""", vip=shop.dead)
    assert code == "UNAVAILABLE" and "no_healthy" in text
    assert {**initial, **trailing}["x-weft-error"].startswith("outbound;no_healthy;")


def test_a_port_where_nothing_listens_is_unavailable_and_says_who_said_so(shop):
    code, text, trailing, initial = shop.call("""result(error(lambda: uu("Echo")(b"", timeout=10)))""", vip=shop.closed, port=50052)
    assert code == "UNAVAILABLE" and "connect_fail" in text
    assert "connect_fail" in {**initial, **trailing}["x-weft-error"]


def test_a_server_killed_in_the_midst_of_a_stream_is_unavailable_and_others_go_on(shop):
    p = shop.start("""
        stop = threading.Event()
        def ask():
            yield b"killed-1"
            stop.wait(30)
        call = ss("Endless")(ask())
        assert next(call) == b"killed-1"
        waiting = uu("Wait").future(b"killed-2")
        print("streaming", flush=True)
        def read():
            for n, m in enumerate(us("Big")(b"100000 %d" % (4 << 20))):
                assert m == bytes([n % 251]) * (4 << 20)
                if n == 2: print("reading", flush=True)
        c = error(read); a = error(lambda: next(call)); b = error(lambda: waiting.result())
        stop.set()
        result([a, b, c[:2]])
    """, vip=shop.one)
    p.wait_output("reading")
    wait_until(lambda: "waiting killed-2" in shop.servers[0].output(), 5, "both calls at the server")
    shop.servers[0].kill()
    a, b, c = shop.result(p, 10)
    assert c[0] == "UNAVAILABLE", "a message that is cut in its midst"
    assert a[0] == "UNAVAILABLE" and b[0] == "UNAVAILABLE", (a, b)
    assert "upstream_reset" in {**a[2], **a[3]}["x-weft-error"] and "upstream_reset" in {**b[2], **b[3]}["x-weft-error"], (a, b)
    p.close()
    # The other endpoint serves what the dead one would have got.
    assert shop.call("""result([uu("Who")(b"", timeout=5).decode() for _ in range(10)])""") == ["calc-2"] * 10
    shop.servers[0] = shop.serve(shop.workloads[0])

# SPDX-License-Identifier: Apache-2.0
"""A request is tried again exactly when it provably never reached an application, and never otherwise."""

import contextlib
import threading

import pytest
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh

PORT = 8080


@pytest.fixture
def mesh(net, tmp_path):
    """web calls a service of two endpoints, one and two."""
    with FileMesh(net, tmp_path) as m:
        m.one = m.workload(net.host("a"), "one", sa="orders", ports=f"{PORT}/http")
        m.two = m.workload(net.host("b"), "two", sa="orders", ports=f"{PORT}/http")
        m.web = m.workload(net.host("c"), "web")
        m.vip = m.service("orders", {80: (PORT, "http")}, [m.one, m.two])[0]
        m.start()
        yield m


class Counting:
    """An application that notes each request it got, by path, and answers unless told otherwise."""

    def __init__(self, host, answer=True):
        self.paths, self.answer, self.lock = [], answer, threading.Lock()
        self.origin = Origin(host, PORT, self.behave)

    def behave(self, p):
        with contextlib.suppress(OSError, EOFError):
            while m := p.read():
                with self.lock:
                    self.paths.append(m.line.split(b" ")[1])
                if not self.answer:
                    return
                p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(m.body) + m.body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.origin.close()


def post(mesh, path, body=b"x"):
    with Peer(mesh.web.host.connect(mesh.vip, 80), 20) as c:
        c.send(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return c.read()


@pytest.mark.parametrize("size", [1, 40000])
def test_an_endpoint_whose_application_is_down_costs_no_request(mesh, size):
    """The sidecar there says that the application got nothing; the POST goes to the other, once, with its whole body."""
    body = b"b" * size
    with Counting(mesh.two.host) as app:
        for i in range(20):
            m = post(mesh, b"/%d" % i, body)
            assert (m.status, m.body) == (200, body)
        assert sorted(app.paths) == sorted(b"/%d" % i for i in range(20))


def test_an_endpoint_whose_sidecar_is_gone_costs_no_request(mesh):
    with Counting(mesh.two.host) as app:
        mesh.one.capture.kill()
        for i in range(6):
            assert post(mesh, b"/%d" % i).status == 200
        assert sorted(app.paths) == sorted(b"/%d" % i for i in range(6))


def test_what_an_application_may_have_seen_is_not_sent_again(mesh):
    with Counting(mesh.one.host, answer=False) as one, Counting(mesh.two.host, answer=False) as two:
        for i in range(10):
            assert post(mesh, b"/%d" % i).status == 502
        assert sorted(one.paths + two.paths) == sorted(b"/%d" % i for i in range(10)), "each arrived exactly once"


def test_both_endpoints_are_used_in_turn(mesh):
    with Counting(mesh.one.host) as one, Counting(mesh.two.host) as two:
        for i in range(20):
            assert post(mesh, b"/%d" % i).status == 200
        assert len(one.paths) == len(two.paths) == 10


def test_with_no_endpoint_left_the_answer_says_why(mesh):
    m = post(mesh, b"/")
    assert m.status == 503 and m.get(b"x-weft-error")[0].startswith(b"inbound;connect_fail;")
    assert not m.get(b"x-weft-unprocessed")

# SPDX-License-Identifier: Apache-2.0
"""A request is tried again exactly when it provably never reached an application, and never otherwise."""

import contextlib
import threading
import time

import pytest
from harness.http1 import Origin, Peer
from harness.mesh import FileMesh
from harness.netns import wait_until

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


def test_both_endpoints_are_used(mesh):
    with Counting(mesh.one.host) as one, Counting(mesh.two.host) as two:
        for i in range(20):
            assert post(mesh, b"/%d" % i).status == 200
        assert len(one.paths) + len(two.paths) == 20 and one.paths and two.paths


def test_with_no_endpoint_left_the_answer_says_why(mesh):
    m = post(mesh, b"/")
    assert m.status == 503 and m.get(b"x-weft-error")[0].startswith(b"inbound;connect_fail;")
    assert not m.get(b"x-weft-unprocessed")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_application_that_closes_after_each_answer_without_saying_so_loses_no_request(mesh, method):
    """Known after the first such close: from then on each request has a connection of its own."""

    def once(p):
        if p.read():
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    q = method + b" / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx" if method == b"POST" else b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    failed = []

    def run(n):
        with Peer(mesh.web.host.connect(mesh.vip, 80)) as c:
            for _ in range(n):
                m = c.send(q).read()
                if m.status != 200:
                    failed.append(m)

    with Origin(mesh.one.host, PORT, once), Origin(mesh.two.host, PORT, once):
        run(10)
        learnt = len(failed)
        assert not learnt or method == b"POST"
        threads = [threading.Thread(target=run, args=(150,)) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert len(failed) == learnt, failed[-1]


def test_an_application_that_closed_connections_once_is_not_left_with_one_for_each_request_since(mesh):
    """While it is not known whether it keeps connections again, each request has one of its own, and few of them are kept to find out."""
    closed = []

    def first_ones_close(p):
        if not closed:
            closed.append(p.read())
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        while p.read():
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def get(c):
        assert c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").read().status == 200

    mesh.two.capture.kill()
    with Origin(mesh.one.host, PORT, first_ones_close), Peer(mesh.web.host.connect(mesh.vip, 80)) as c:
        get(c)
        wait_until(lambda: mesh.one.metric("weft_upstream_connections") == 0, 5, "the end of the first")
        most, until = 0, time.monotonic() + 0.6  # it is known again after 200 ms
        while time.monotonic() < until:
            for _ in range(20):
                get(c)
            most = max(most, mesh.one.metric("weft_upstream_connections"))
        assert most <= 6, most
        assert mesh.one.metric("weft_upstream_connections") <= 6


def test_a_kept_connection_that_the_application_closes_in_the_same_moment_costs_no_get(mesh):
    """A keep-alive limit of 250 ms, hit exactly: too long to be taken for an application that never keeps."""

    def keeps(p):
        p.sock.settimeout(0.25)
        with contextlib.suppress(TimeoutError, OSError):
            while p.read():
                p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    bad = []

    def run(n):
        with Peer(mesh.web.host.connect(mesh.vip, 80)) as c:
            for i in range(12):
                m = c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").read()
                if m.status != 200:
                    bad.append(m)
                time.sleep(0.249 + (i % 4) * 0.0003 + n * 0.0001)

    with Origin(mesh.one.host, PORT, keeps), Origin(mesh.two.host, PORT, keeps):
        threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not bad, (len(bad), bad[0])

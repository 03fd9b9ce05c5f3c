# SPDX-License-Identifier: Apache-2.0
"""Who is not who they should be gets nothing: not a byte of a request when it serves, not a byte to the application when it calls. The
certificates come from harness/pki.py, made by a library that is not ours; the false peers are OpenSSL through Python, and a real
sidecar that was started with somebody else's credential."""

import contextlib
import os
import re
import socket
import ssl
import threading

import pytest
from conftest import missing
from harness import pki
from harness.http1 import Origin, Peer
from harness.mesh import TRUST_DOMAIN, FileMesh
from harness.netns import Net, wait_until

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FALSE, FALSE_TCP = 8443, 9443


class FalseSidecar:
    """A TLS server on two ports of an unmeshed host that shows whatever credential it is given. `decrypted`: what callers sent."""

    def __init__(self, host, folder):
        self.folder, self.context, self.decrypted, self.calls = folder, None, b"", 0
        self.socks = []
        for port in (FALSE, FALSE_TCP):
            with host.inside():
                self.socks.append(socket.create_server(("", port)))
            threading.Thread(target=self._accept, args=(self.socks[-1],), daemon=True).start()

    def show(self, credential):
        self.context = server_context(credential, self.folder)
        self.decrypted, self.calls = b"", 0

    def _accept(self, sock):
        while True:
            try:
                s, _ = sock.accept()
            except OSError:
                return
            s.settimeout(3)
            with contextlib.suppress(OSError), self.context.wrap_socket(s, server_side=True) as t:
                self.decrypted += t.recv(65536)
            self.calls += 1
            s.close()

    def close(self):
        for s in self.socks:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


def context(side, credential, folder):
    c = ssl.SSLContext(side)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    c.set_ciphers("DEFAULT@SECLEVEL=0")
    if credential:
        crt, key, _ = credential.write(folder, "false")
        c.load_cert_chain(crt, key)
    return c


def server_context(credential, folder):
    c = context(ssl.PROTOCOL_TLS_SERVER, credential, folder)
    c.set_alpn_protocols(["weft1-h2", "weft1-tcp"])
    return c


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """web calls "stolen", whose endpoint should be orders and is a false sidecar; orders is real."""
    if os.geteuid() != 0:
        missing("network namespaces need root")
    tmp = tmp_path_factory.mktemp("identity")
    with Net() as net, FileMesh(net, tmp) as m:
        m.orders = m.workload(net.host("a"), "orders", ports="8080/http,9000/tcp")
        m.web = m.workload(net.host("b"), "web")
        m.stranger = net.host("c")
        m.service("orders", {8080: (8080, "http")}, [m.orders])
        m.stolen = m.service("stolen", {80: (FALSE, "http"), 90: (FALSE_TCP, "tcp")}, [(m.stranger.ip4, m.orders.identity)])[0]
        m.start()
        m.false = FalseSidecar(m.stranger, tmp)
        yield m
        m.false.close()


def refusals(log):
    return [row for row in log.splitlines() if "peer_refused" in row]


def new_refusals(workload, before):
    """What its log says beyond the first `before` refusals; at least one."""
    return wait_until(lambda: refusals(workload.log())[before:], 3, f"a refusal in the log of {workload.name}")


def ask(mesh, address, port=80):
    with Peer(mesh.web.host.connect(address, port), 10) as c:
        c.send(REQUEST)
        return c.read()


def test_a_peer_that_is_who_it_should_be_gets_the_request(mesh):
    """The proof that the tests below could fail: the same false sidecar, with the right certificate, is spoken to."""
    mesh.false.show(mesh.ca.leaf("shop", "orders"))
    ask(mesh, mesh.stolen)
    assert mesh.false.decrypted.startswith(b"PRI * HTTP/2.0\r\n")
    mesh.false.show(mesh.ca.leaf("shop", "orders"))
    with Peer(mesh.web.host.connect(mesh.stolen, 90), 10) as c:
        c.send(b"secret")
        wait_until(lambda: mesh.false.decrypted == b"secret", 5, "the bytes")


def test_another_service_of_the_mesh_at_the_endpoint_gets_nothing_and_both_are_named(mesh):
    mesh.false.show(mesh.ca.leaf("shop", "payments"))
    before = len(refusals(mesh.web.log()))
    m = ask(mesh, mesh.stolen)
    assert m.status == 502
    assert m.get(b"x-weft-error")[0].startswith(b"outbound;upstream_untrusted;")
    wait_until(lambda: mesh.false.calls, 5, "the false sidecar's handshake")
    assert mesh.false.decrypted == b""
    row = new_refusals(mesh.web, before)[0]
    assert pki.spiffe_id(TRUST_DOMAIN, "shop", "orders") in row and pki.spiffe_id(TRUST_DOMAIN, "shop", "payments") in row
    assert f"{mesh.stranger.ip4}:{FALSE}" in row


def test_opaque_bytes_do_not_go_to_another_service_either(mesh):
    mesh.false.show(mesh.ca.leaf("shop", "payments"))
    before = len(refusals(mesh.web.log()))
    with pytest.raises(ConnectionResetError), Peer(mesh.web.host.connect(mesh.stolen, 90), 10) as c:
        c.send(b"secret")
        c.sock.recv(10)
    wait_until(lambda: mesh.false.calls, 5, "the false sidecar's handshake")
    assert mesh.false.decrypted == b""
    row = new_refusals(mesh.web, before)[0]
    assert "/sa/orders" in row and "/sa/payments" in row


@pytest.mark.parametrize("name", pki.EVIL)
def test_an_evil_certificate_at_the_endpoint_is_refused_by_name_and_gets_nothing(mesh, name):
    bad = pki.evil(name, mesh.ca, "shop", "orders")
    mesh.false.show(bad)
    before = len(refusals(mesh.web.log()))
    m = ask(mesh, mesh.stolen)
    assert m.status in (502, 503)
    wait_until(lambda: mesh.false.calls, 5, "the false sidecar's handshake")
    assert mesh.false.decrypted == b""
    cause = m.get(b"x-weft-error")[0].split(b";")[1]
    if bad.says:
        assert cause == b"upstream_untrusted"
        assert all(bad.says in row for row in new_refusals(mesh.web, before))
    else:
        assert cause in (b"upstream_untrusted", b"tls_failed")


def call(mesh, credential, folder, alpn="weft1-h2", version=None):
    """A TLS client from outside that offers the hop and sends at once; True when the other side took its certificate."""
    c = context(ssl.PROTOCOL_TLS_CLIENT, credential, folder)
    c.set_alpn_protocols([alpn])
    if version:
        c.maximum_version = version
    s = mesh.stranger.connect(mesh.orders.host.ip4, 8080 if alpn == "weft1-h2" else 9000)
    try:
        with c.wrap_socket(s) as t:
            t.settimeout(3)
            t.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" if alpn == "weft1-h2" else b"secret")
            return len(t.recv(100)) > 0
    except OSError:
        return False


def echo(p):
    with contextlib.suppress(OSError):
        while data := p.some():
            p.send(data)


@pytest.mark.parametrize("alpn", ["weft1-h2", "weft1-tcp"])
@pytest.mark.parametrize("name", ["good", *pki.EVIL])
def test_an_evil_certificate_of_a_caller_is_refused_by_name_and_nothing_reaches_the_application(mesh, tmp_path, name, alpn):
    good = name == "good"
    credential = mesh.ca.leaf("shop", "client") if good else pki.evil(name, mesh.ca, "shop", "client")
    before = len(refusals(mesh.orders.log()))
    with Origin(mesh.orders.host, 8080, echo) as http, Origin(mesh.orders.host, 9000, echo) as tcp:
        assert call(mesh, credential, tmp_path, alpn) == good
        if good:
            return
        assert http.received() + tcp.received() == b"" and not http.seen and not tcp.seen
    row = new_refusals(mesh.orders, before)[0]
    assert credential.says in row and mesh.stranger.ip4 in row


def test_a_caller_without_a_certificate_or_with_an_older_tls_is_refused(mesh, tmp_path):
    good = mesh.ca.leaf("shop", "client")
    with Origin(mesh.orders.host, 8080, echo) as http, Origin(mesh.orders.host, 9000, echo) as tcp:
        for alpn in ("weft1-h2", "weft1-tcp"):
            assert call(mesh, good, tmp_path, alpn)
            assert not call(mesh, None, tmp_path, alpn)
            assert not call(mesh, good, tmp_path, alpn, ssl.TLSVersion.TLSv1_2)
        assert not http.seen and tcp.received() == b"secret"


def test_a_certificate_without_its_key_is_no_credential(mesh, tmp_path):
    """weft-proxy itself refuses to start with it, and says why."""
    a, b = mesh.ca.leaf("shop", "web"), mesh.ca.leaf("shop", "web")
    thief = mesh.workload(mesh.net.host("d"), "thief")
    try:
        mesh.write(thief, pki.Credential(a.cert, b.key, a.roots, a.identity))
        thief.start(ready=False)
        assert thief.capture.wait(10) != 0
        assert re.search(r"fatal.*key", thief.log())
    finally:
        del mesh.workloads["thief"]


def test_a_real_sidecar_with_the_credential_of_another_service_serves_nobody(net, tmp_path):
    with FileMesh(net, tmp_path) as m:
        orders = m.workload(net.host("a"), "orders", ports="8080/http")
        web = m.workload(net.host("b"), "web")
        vip = m.service("orders", {80: (8080, "http")}, [orders])[0]
        m.credentials["orders"] = m.ca.leaf("shop", "payments")
        m.start()
        m.web = web
        with Origin(orders.host, 8080, lambda p: (p.read(), p.send(OK))) as o:
            answer = ask(m, vip)
            assert answer.status == 502 and answer.get(b"x-weft-error")[0].startswith(b"outbound;upstream_untrusted;")
            assert not o.seen
        row = new_refusals(web, 0)[0]
        assert "/sa/orders" in row and "/sa/payments" in row

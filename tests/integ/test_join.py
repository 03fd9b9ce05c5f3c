# SPDX-License-Identifier: Apache-2.0
"""Who gets in, end to end over weftd: what is not in order gets no certificate and no registration, the reason is on /ready and says
what to do, and a false weftd never sees the join token."""

import base64
import json
import re
import secrets
import time

import pytest
from cryptography.hazmat.primitives import serialization
from harness import pki
from harness.mesh import TRUST_DOMAIN, Mesh
from harness.netns import wait_until
from harness.xds import XdsProxy


@pytest.fixture
def mesh(net, tmp_path, program):
    for name in ("weftd", "weft", "weft-proxy", "weft-capture"):
        program(name)
    with Mesh(net, tmp_path) as m:
        m.start_control()
        yield m


def names(mesh):
    """Workloads of the namespace that are registered; one that has joined and no more has no address."""
    return sorted(w["name"] for w in mesh.get("workloads")["items"] if w["addresses"])


def issued(mesh):
    return len(re.findall(r" issued ", mesh.weftd.output()))


def read(token):
    text = token.partition(".")[2]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def write(fields):
    return "weft1." + base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def flipped(hexdigits):
    """One bit of a text of hex digits is another."""
    n = int(hexdigits, 16) ^ 1 << secrets.randbelow(4 * len(hexdigits))
    return f"{n:0{len(hexdigits)}x}"


def not_ready(w, *words):
    """/ready is 503 and names all of the words; its text."""
    def said():
        assert w.capture.alive(), w.log()
        status, text = w.status("/ready")
        return text if status == 503 and all(x in text for x in words) else None
    try:
        return wait_until(said, 10, f"/ready says {words}")
    except AssertionError as e:
        raise AssertionError(f"{e}: it says {w.status('/ready')}\n{w.log()[-3000:]}") from None


def another_machine(mesh):
    """The same mesh as a machine that shares nothing with the first sees it: pins, cgroup and folders are its own."""
    m = Mesh.__new__(Mesh)
    m.__dict__.update(mesh.__dict__, id=mesh.id + "b", pin_dir=mesh.pin_dir + "b", workloads={}, tmp=mesh.tmp / "machine-b")
    m.run_dir, m.state_dir = m.tmp / "run", m.tmp / "state"
    for d in (m.tmp, m.run_dir, m.state_dir):
        d.mkdir(mode=0o755)
    return m


def joins(mesh, w, token):
    """w with this token, started; not awaited."""
    w.token = token
    return w.start(ready=False)


def test_a_request_for_another_identity_gets_that_of_its_token(mesh, net):
    p = XdsProxy(net.host("a"), mesh, "web-1", sa="web")
    try:
        wanted = [pki.spiffe_id(TRUST_DOMAIN, ns, sa) for ns, sa in (("shop", "orders"), ("weft-system", "weftd"))]
        e = p.issue(token=mesh.new_token("shop", "web"), uris=wanted, common_name="orders")
        mine = pki.spiffe_id(TRUST_DOMAIN, "shop", "web")
        assert e["event"] == "issued" and e["identity"] == mine
        assert e["sans"] == [mine] and "orders" not in e["subject"]
    finally:
        p.close()


def test_an_expired_token_says_since_when_and_how_to_get_another(mesh, net):
    token = mesh.new_token("shop", "web", None, "--ttl", "1s")
    w = mesh.workload(net.host("web"), "web-1", sa="web")
    wait_until(lambda: time.time() >= read(token)["not_after"], 5, "the token's end")
    joins(mesh, w, token)
    text = not_ready(w, "expired", "weft token create")
    assert read(token)["id"] in text and read(token)["secret"] not in text + w.log()
    assert issued(mesh) == 0 and names(mesh) == []


def test_a_spent_token_gives_nothing_to_a_namesake_and_the_first_one_stays(mesh, net):
    token = mesh.new_token("shop", "web", {"app": "web"})
    first = mesh.workload(net.host("web"), "web-1", sa="web", labels={"app": "web"})
    joins(mesh, first, token)
    first.wait_ready()
    thief = another_machine(mesh)
    w = thief.workload(net.host("thief"), "web-1", sa="web", labels={"app": "web"})
    try:
        joins(thief, w, token)
        not_ready(w, "was used by workload web-1 already", "needs a new token")
        assert issued(mesh) == 1 and names(mesh) == ["web-1"]
        assert first.host.ip4 in json.dumps(mesh.get("workloads")) and w.host.ip4 not in json.dumps(mesh.get("workloads"))
        assert first.status("/ready")[0] == 200
    finally:
        w.stop()
        thief.detach()


FORGED = {
    "secret": lambda t: t | {"secret": flipped(t["secret"])},
    "id": lambda t: t | {"id": flipped(t["id"])},
    "service account": lambda t: t | {"service_account": "admin"},
    "namespace": lambda t: t | {"namespace": "bank"},
}


def test_a_forged_token_gives_nothing_and_says_so(mesh, net):
    good = read(mesh.new_token("shop", "web"))
    host = net.host("web")
    for what, forge in FORGED.items():
        w = mesh.workload(host, "web-" + what.replace(" ", ""), sa="web")
        joins(mesh, w, write(forge(good)))
        text = not_ready(w, "is not one of this weftd", "weft token create")
        assert good["secret"] not in text + w.log()
        w.stop()
    assert issued(mesh) == 0 and names(mesh) == []
    # Prolonged by its bearer: the row decides, not the text. And every single bit of the text, sent as it is.
    p = XdsProxy(net.host("a"), mesh, "web-1", sa="web")
    text = write(good)
    try:
        for _ in range(15):
            at = secrets.randbelow(8 * (len(text) - 6)) + 8 * 6
            raw = bytearray(text.encode())
            raw[at // 8] ^= 1 << at % 8
            try:
                bent = raw.decode()
            except UnicodeDecodeError:
                continue  # no text at all: protobuf refuses it on either side
            with_same_meaning = False
            try:
                with_same_meaning = {k: v for k, v in read(bent).items() if k not in ("root", "server", "cidrs", "not_after")} == {
                    k: v for k, v in good.items() if k not in ("root", "server", "cidrs", "not_after")}
            except Exception:
                pass
            if with_same_meaning:
                continue  # what the proxy reads for itself: weftd does not look there
            assert p.issue(token=bent)["event"] == "refused", bent
        assert issued(mesh) == 0
        assert p.issue(token=text)["event"] == "issued"
    finally:
        p.close()


# A server that finishes a handshake only with who believes it, and writes down what it was told.
RECORDER = r"""
import socket, ssl, sys, threading
cert, key, host, port = sys.argv[1:5]
ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); ctx.load_cert_chain(cert, key); ctx.set_alpn_protocols(["h2"])
ctx.minimum_version = ssl.TLSVersion.TLSv1_3
s = socket.create_server((host, int(port)))
print("listening", flush=True)
def one(c):
    print("connection", flush=True)
    try:
        c.settimeout(5)
        t = ctx.wrap_socket(c, server_side=True)
        print("handshake", flush=True)
        t.sendall(b"\0\0\0\4\0\0\0\0\0")
        while (b := t.recv(16384)): print("data", b.hex(), flush=True)
    except OSError as e: print("failed", e, flush=True)
    finally: c.close()
while True: threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
"""


def false_weftd(kind, ca):
    """A credential for a server that poses as weftd; `ca` is the true authority."""
    if kind == "another authority":
        return pki.Authority(TRUST_DOMAIN).leaf("weft-system", "weftd", with_root=True)
    if kind == "a workload of the mesh":
        return ca.leaf("shop", "orders", with_root=True)
    if kind == "the true root above a stranger's certificate":
        c = pki.Authority(TRUST_DOMAIN).leaf("weft-system", "weftd")
        c.cert += ca.roots
        return c
    if kind == "expired":
        return ca.leaf("weft-system", "weftd", with_root=True, begin=-7200, end=-60)
    assert kind == "weftd itself"
    return ca.leaf("weft-system", "weftd", with_root=True)


def test_a_false_weftd_sees_handshakes_only_and_never_the_token(mesh, net):
    host = net.host("web")
    token = mesh.new_token("shop", "web")
    mesh.weftd.stop()
    ca = pki.Authority.of_store(mesh.store)
    wire = net.sniff("tcp port 4810")

    def stand_in(kind):
        crt, key, _ = false_weftd(kind, ca).write(mesh.tmp, "false")
        s = mesh.control.start_python(RECORDER, crt, key, mesh.control.ip4, "4810", ready="listening")
        return s

    w = mesh.workload(host, "web-1", sa="web")
    for kind, says in (("another authority", "root"), ("a workload of the mesh", "weft-system"),
                       ("the true root above a stranger's certificate", "not signed"), ("expired", "expired")):
        server = stand_in(kind)
        joins(mesh, w, token)
        server.wait_output(r"(failed[^\0]*){2}", 20)
        not_ready(w, "no certificate", f"{mesh.control.ip4}:4810", says)
        assert "handshake" not in server.output() and "data" not in server.output(), (kind, server.output())
        w.stop()
        server.stop()
    # What the recorder would have seen, had it been believed: so it can see.
    server = stand_in("weftd itself")
    w.start(ready=False)
    said = bytes.fromhex(server.wait_output(r"data ([0-9a-f]{200,})", 20).group(1))
    assert token.encode()[:60] in said
    server.stop()
    assert not wire.contains(token.encode()[:60])
    mesh.start_control()
    w.wait_ready(timeout=20)
    assert names(mesh) == ["web-1"]


def test_labels_beyond_the_token_register_nothing(mesh, net):
    mesh.service("orders", {80: (8080, "http")}, {"app": "orders"})
    orders = mesh.workload(net.host("orders"), "orders-1", sa="orders", labels={"app": "orders"}, ports="8080/http")
    orders.start()
    thief = mesh.workload(net.host("thief"), "thief-1", sa="thief", labels={"app": "orders"}, ports="8080/http")
    joins(mesh, thief, mesh.new_token("shop", "thief", {"app": "thief"}))
    not_ready(thief, "does not register", "app=orders is not allowed by the join token")
    assert names(mesh) == ["orders-1"]
    held = json.dumps(mesh.get("workloads"))
    assert thief.host.ip4 not in held
    # The name of another's instance is not to be had either, though the token is good.
    there = another_machine(mesh)
    other = there.workload(net.host("other"), "orders-1", sa="thief")
    try:
        joins(there, other, mesh.new_token("shop", "thief"))
        not_ready(other, "joined as service account orders", "thief")
    finally:
        other.stop()
        there.detach()
    assert orders.status("/ready")[0] == 200 and names(mesh) == ["orders-1"]


def test_an_address_that_is_anothers_is_not_registered(mesh, net):
    """A sidecar cannot say an address; one that is not ours can: what counts is where its link comes from."""
    mesh.service("orders", {80: (8080, "http")}, {"app": "orders"})
    orders = mesh.workload(net.host("orders"), "orders-1", sa="orders", labels={"app": "orders"}, ports="8080/http").start()
    thief = XdsProxy(net.host("thief"), mesh, "thief-1", sa="thief")
    try:
        thief.join(mesh.new_token("shop", "thief", {"app": "thief"}))
        r = thief.talk({"app": "thief"}, [(8080, 1)], addresses=[orders.host.ip4])
        assert r["address"] == thief.host.ip4
        held = {w["name"]: w["addresses"] for w in mesh.get("workloads")["items"]}
        assert held["thief-1"] == [thief.host.ip4] and orders.host.ip4 in held["orders-1"]
    finally:
        thief.close()

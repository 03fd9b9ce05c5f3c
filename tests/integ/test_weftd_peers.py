# SPDX-License-Identifier: Apache-2.0
"""Who may talk to weftd: certificates of its own authority that are wrong in one thing are refused in the handshake, by name, on both
ports; a good one and none at all get in."""
import socket
import ssl
import subprocess
import threading
import time
import warnings

import pytest

from harness import pki


class Weftd:
    """A running weftd of a fresh store; its log by lines."""

    def __init__(self, program, folder):
        self.store = folder / "weft.db"
        subprocess.run([program, "init", "--trust-domain", "mesh.test", "--mesh-cidr", "10.1.0.0/16", "--store", self.store,
                        "--admin-config", folder / "admin.json", "--server", "127.0.0.1:4810"], check=True, timeout=30,
                       capture_output=True)
        self.ports = [_free_port() for _ in range(3)]
        # It may read the store only while nobody writes: taken before weftd opens it.
        self.ca = pki.Authority.of_store(self.store)
        listen = [f"127.0.0.1:{p}" for p in self.ports]
        self.log, self.cond = [], threading.Condition()
        self.process = subprocess.Popen([program, "run", "--store", self.store, "--listen", listen[0], "--listen-api",
                                         listen[1], "--listen-admin", listen[2]], stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        self.wait(" ready ")

    def _read(self):
        for line in self.process.stderr:
            with self.cond:
                self.log.append(line)
                self.cond.notify_all()

    def wait(self, *words, since=0):
        """The first line after `since` with all the words."""
        until = time.monotonic() + 10
        with self.cond:
            while True:
                for line in self.log[since:]:
                    if all(w in line for w in words):
                        return line
                assert self.cond.wait(max(0, until - time.monotonic())), f"no line with {words} in\n" + "".join(self.log)

    def close(self):
        self.process.terminate()
        assert self.process.wait(10) == 0
        self.process.stderr.close()


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def weftd(tmp_path_factory):
    from conftest import weft_program
    w = Weftd(weft_program("weftd"), tmp_path_factory.mktemp("weftd"))
    yield w
    w.close()


def talk(weftd, port, credential=None, folder=None):
    """Handshake, the HTTP/2 preface, and the first bytes of the answer; SSLError when refused."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.set_ciphers("DEFAULT@SECLEVEL=0")  # a caller who does not care how weak its certificate is
    ctx.check_hostname = False
    ctx.load_verify_locations(cadata=weftd.ca.roots)
    ctx.set_alpn_protocols(["h2"])
    if credential:
        cert, key, _ = credential.write(folder, "client")
        ctx.load_cert_chain(cert, key)
    with socket.create_connection(("127.0.0.1", port), 10) as raw, ctx.wrap_socket(raw) as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        return s.recv(9)


@pytest.mark.parametrize("port", [0, 1], ids=["link", "api"])
def test_a_good_certificate_and_none_get_in(weftd, tmp_path, port):
    assert talk(weftd, weftd.ports[port])[3] == 4  # SETTINGS
    assert talk(weftd, weftd.ports[port], weftd.ca.leaf("shop", "orders"), tmp_path)[3] == 4


# A just expired one gets in on the link, for renewal only: that has its own test.
WRONG = [(n, p) for n in sorted(set(pki.EVIL) - {"p384", "rsa_1024"}) for p in (0, 1) if (n, p) != ("expired", 0)]


@pytest.mark.parametrize("name,port", WRONG)
def test_a_wrong_certificate_is_refused_by_name(weftd, tmp_path, name, port):
    since = len(weftd.log)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bad = pki.evil(name, weftd.ca)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        answer = talk(weftd, weftd.ports[port], bad, tmp_path)
        assert answer == b"", f"{name} was let in"
        raise ConnectionResetError
    weftd.wait("peer_refused", bad.says, since=since)


@pytest.mark.parametrize("name", ["p384", "rsa_1024"])
def test_a_key_that_is_no_p256_is_never_even_shown(weftd, tmp_path, name):
    # TLS offers no signature algorithm for it, so the caller stays without a certificate, as one who never had any.
    assert talk(weftd, weftd.ports[0], pki.evil(name, weftd.ca), tmp_path)[3] == 4


def test_long_expired_is_refused_on_the_link_too(weftd, tmp_path):
    since = len(weftd.log)
    old = weftd.ca.leaf("shop", "orders", begin=-90000, end=-7200)  # the grace is 1 h
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        talk(weftd, weftd.ports[0], old, tmp_path)
        raise ConnectionResetError
    weftd.wait("peer_refused", "has expired", since=since)

# SPDX-License-Identifier: Apache-2.0
"""The weft command line against a running weftd: what is applied, what is refused and how it is said, who may ask."""

import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import textwrap
import threading
import time

import pytest

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec:
  selector: {app: orders}
  ports: [{name: http, port: 80, targetPort: 8080}]
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: pg, port: 5432}]
endpoints: [{addresses: [10.2.0.1]}]
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Weftd:
    """A mesh of its own: store, configuration, a running weftd, and the CLI pointed at it."""

    def __init__(self, program, folder):
        self.weftd, self.weft, self.folder = program("weftd"), program("weft"), folder
        self.store, self.admin = folder / "weft.db", folder / "admin.json"
        self.ports = [free_port() for _ in range(3)]
        self.process, self.log, self.cond = None, [], threading.Condition()
        done = self.init()
        assert done.returncode == 0, done.stderr

    def init(self, *more):
        return subprocess.run(
            [self.weftd, "init", "--trust-domain", "mesh.test", "--mesh-cidr", "10.1.0.0/16", "--store", self.store,
             "--admin-config", self.admin, "--server", "10.1.0.1:4810", "--url", f"https://127.0.0.1:{self.ports[1]}", *more],
            capture_output=True, text=True, timeout=30)

    def start(self):
        listen = [f"127.0.0.1:{p}" for p in self.ports]
        self.process = subprocess.Popen(
            [self.weftd, "run", "--store", self.store, "--listen", listen[0], "--listen-api", listen[1], "--listen-admin", listen[2]],
            stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        self.wait_for(" ready ")

    def _read(self, process):
        for line in process.stderr:
            with self.cond:
                self.log.append(line)
                self.cond.notify_all()
        with self.cond:
            self.log.append("(ended)")
            self.cond.notify_all()

    def wait_for(self, what, seconds=10):
        until = time.monotonic() + seconds
        with self.cond:
            while not any(what in line for line in self.log):
                assert self.log[-1:] != ["(ended)"], "".join(self.log)
                assert self.cond.wait(until - time.monotonic()), "".join(self.log)

    def stop(self, sig=signal.SIGTERM):
        if self.process:
            self.process.send_signal(sig)
            self.process.wait(10)
            self.process = None
            self.log.clear()

    def run(self, *args, text=None, env=None, config=True):
        """The CLI; text goes to its standard input."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
        environ.update({"WEFT_CONFIG": str(self.admin)} if config else {}, **(env or {}))
        return subprocess.run([self.weft, *map(str, args)], input=text, capture_output=True, text=True, timeout=60, env=environ)

    def ok(self, *args, **more):
        done = self.run(*args, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def revision(self):
        return json.loads(self.ok("status", "-o", "json"))["revision"]

    def file(self, name, text):
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path


@pytest.fixture
def mesh(program, tmp_path):
    m = Weftd(program, tmp_path)
    m.start()
    yield m
    m.stop()


def test_init_makes_secret_files_once(program, tmp_path):
    m = Weftd(program, tmp_path)
    for path in (m.store, m.admin):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = m.store.read_bytes(), m.admin.read_bytes()
    again = m.init()
    assert again.returncode == 1 and "exists already" in again.stderr
    assert before == (m.store.read_bytes(), m.admin.read_bytes())
    assert set(json.loads(m.admin.read_text())) == {"url", "trustDomain", "rootHash", "root", "certificate", "key"}


def test_objects_are_applied_shown_and_deleted(mesh):
    path = mesh.file("orders.yaml", SERVICE + "---" + SLICE)
    assert mesh.ok("apply", "-f", path, "--dry-run").count("(dry run)") == 2
    assert mesh.revision() == 0
    assert mesh.ok("apply", "-f", path) == "Service shop/orders created\nEndpointSlice shop/db-1 created\n"
    assert mesh.revision() == 1
    assert mesh.ok("apply", "-f", path) == "Service shop/orders unchanged\nEndpointSlice shop/db-1 unchanged\n"
    assert mesh.revision() == 1

    table = mesh.ok("get", "services", "-n", "shop").splitlines()
    assert re.split(r" {2,}", table[0]) == ["NAME", "CLUSTER-IP", "PORTS"]
    assert re.split(r" {2,}", table[1]) == ["orders", "240.0.0.1", "80>8080/http"]
    assert "app=orders" in mesh.ok("get", "svc", "-A", "-o", "wide")
    assert mesh.ok("get", "svc", "-A", "-o", "name") == "services/orders\n"
    hosts = mesh.ok("get", "svc", "-n", "shop", "-o", "hosts").splitlines()
    assert hosts == ["240.0.0.1 orders.shop.mesh orders.shop orders", "fd77:6566:7400:1::1 orders.shop.mesh orders.shop orders"]
    one = json.loads(mesh.ok("get", "service", "orders", "-n", "shop", "-o", "json"))
    assert one["spec"]["clusterIPs"] == ["240.0.0.1", "fd77:6566:7400:1::1"]
    assert json.loads(mesh.ok("get", "eps", "-n", "shop", "-o", "json"))["items"][0]["endpoints"][0]["addresses"] == ["10.2.0.1"]
    # what get prints, apply takes
    assert mesh.ok("apply", "-f", "-", text=mesh.ok("get", "svc", "-A", "-o", "yaml")) == "Service shop/orders unchanged\n"
    assert mesh.ok("apply", "-f", "-", text=mesh.ok("get", "svc", "-A", "-o", "json")) == "Service shop/orders unchanged\n"

    assert mesh.ok("delete", "service", "orders", "-n", "shop") == "Service shop/orders deleted\n"
    assert mesh.ok("delete", "-f", "-", text=SLICE) == "EndpointSlice shop/db-1 deleted\n"
    gone = mesh.run("get", "service", "orders", "-n", "shop")
    assert gone.returncode == 1 and gone.stdout == "" and "there is no such object" in gone.stderr
    assert mesh.revision() == 3


def test_a_directory_is_one_transaction(mesh):
    (mesh.folder / "all").mkdir()
    mesh.file("all/1.yaml", SERVICE)
    bad = mesh.file("all/2.yaml", SERVICE.replace("orders", "cart").replace("selector: {app: cart}", "clusterIP: 192.0.2.1"))
    done = mesh.run("apply", "-f", mesh.folder / "all")
    assert done.returncode == 1
    assert f"{bad}: Service shop/cart: spec.clusterIP: 192.0.2.1 is not inside the mesh" in done.stderr
    assert mesh.revision() == 0 and json.loads(mesh.ok("get", "svc", "-A", "-o", "json"))["items"] == []


REFUSED = {
    "port": (SERVICE.replace("port: 80,", "port: 70000,"),
             "refused.yaml: Service shop/orders: spec.ports[0].port: 70000 is not a port (1 to 65535)"),
    "field": (SERVICE.replace("selector", "selectr"), 'refused.yaml: Service shop/orders: spec.selectr: unknown field; did you mean "selector"?'),
    "kind": (SERVICE.replace("Service", "GRPCRoute"), "GRPCRoute shop/orders: kind GRPCRoute is not supported yet"),
    "nonsense": (SERVICE.replace("Service", "Sevrice"), 'unknown kind "Sevrice"; did you mean Service?'),
    "alias": ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "refused.yaml:2:8: aliases"),
    "depth": ("a: " + "[" * 100000, "nested deeper than 64"),
    "twice": (SERVICE + "kind: Service\n", 'refused.yaml:8:1: the field "kind" is there twice'),
    "yaml": ("a: [1\nb: 2\n", "refused.yaml:2:"),
    "empty": ("# nothing\n", "there is no object in it"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_file_is_refused_with_its_place(mesh, what):
    text, expect = REFUSED[what]
    path = mesh.file("refused.yaml", text)
    began = time.monotonic()
    done = mesh.run("apply", "-f", path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("weft: ") and expect in done.stderr
    assert time.monotonic() - began < 5
    assert mesh.revision() == 0


def test_a_file_of_100_mb_is_refused_unread(mesh):
    path = mesh.folder / "large.yaml"
    with open(path, "wb") as f:
        f.truncate(100 * 1024 * 1024)
    done = mesh.run("apply", "-f", path)
    assert done.returncode == 1 and "at most 4 MiB" in done.stderr
    piped = subprocess.run([mesh.weft, "apply", "-f", "-"], stdin=open("/dev/zero"), capture_output=True, text=True, timeout=30)
    assert piped.returncode == 1 and "larger than 4 MiB" in piped.stderr
    assert mesh.revision() == 0


def test_every_wrong_object_of_a_file_is_named(mesh):
    path = mesh.file("two.yaml", SERVICE.replace("port: 80,", "port: 0,") + "---" + SLICE.replace("5432", "99999"))
    done = mesh.run("apply", "-f", path)
    assert len(done.stderr.splitlines()) == 2 and "0 is not a port" in done.stderr and "99999 is not a port" in done.stderr


def test_a_thousand_services_in_one_apply(mesh):
    text = "\n---\n".join(SERVICE.replace("orders", f"svc-{i}") for i in range(1000))
    assert mesh.ok("apply", "-f", "-", text=text).count(" created\n") == 1000
    assert mesh.revision() == 1
    ips = {s["spec"]["clusterIP"] for s in json.loads(mesh.ok("get", "svc", "-A", "-o", "json"))["items"]}
    assert len(ips) == 1000
    assert mesh.ok("delete", "-f", "-", text=text).count(" deleted\n") == 1000


def test_what_was_answered_survives_a_kill(mesh):
    mesh.ok("apply", "-f", "-", text=SERVICE)
    mesh.stop(signal.SIGKILL)
    mesh.start()
    assert mesh.revision() == 1
    assert mesh.ok("get", "svc", "-A", "-o", "name") == "services/orders\n"


def test_a_second_weftd_on_the_same_store_is_refused(mesh):
    second = subprocess.run([mesh.weftd, "run", "--store", mesh.store, "--listen", f"127.0.0.1:{free_port()}", "--listen-api",
                             f"127.0.0.1:{free_port()}", "--listen-admin", f"127.0.0.1:{free_port()}"],
                            capture_output=True, text=True, timeout=30)
    assert second.returncode == 1 and "another weftd has it open" in second.stderr
    mesh.ok("status")


def test_a_corrupt_store_is_refused_loudly(mesh):
    mesh.ok("apply", "-f", "-", text="\n---\n".join(SERVICE.replace("orders", f"svc-{i}") for i in range(100)))
    mesh.stop()
    with open(mesh.store, "r+b") as f:
        size = f.seek(0, os.SEEK_END)
        for at in range(8192, size - 4096, 8192):
            f.seek(at)
            f.write(b"\xa5" * 4096)
    done = subprocess.run([mesh.weftd, "run", "--store", mesh.store, "--listen", f"127.0.0.1:{free_port()}"], capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 1 and "store_failed" in done.stderr and "restore the store from a backup" in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_is_said_and_changes_nothing(program, small_disk):
    m = Weftd(program, small_disk)
    m.start()
    try:
        m.ok("apply", "-f", "-", text=SERVICE)
        many = "\n---\n".join(SERVICE.replace("orders", f"svc-{i}") for i in range(3000))
        done = m.run("apply", "-f", "-", text=many)
        assert done.returncode == 1 and done.stdout == "" and "nothing was changed" in done.stderr
        m.wait_for("store_failed")
        assert m.revision() == 1
        assert m.ok("get", "svc", "-A", "-o", "name") == "services/orders\n"
        assert m.ok("apply", "-f", "-", text=SERVICE.replace("orders", "cart")) == "Service shop/cart created\n"
    finally:
        m.stop()


def test_a_token_is_alone_on_standard_output(mesh):
    done = mesh.run("token", "create", "-n", "shop", "--service-account", "orders", "--label", "app=orders", "--label", "version=*",
                    "--ttl", "10m")
    assert done.returncode == 0 and done.stderr == ""
    assert re.fullmatch(r"weft1\.[A-Za-z0-9_-]+\n", done.stdout)
    token = json.loads(mesh.ok("token", "list", "-o", "json"))["items"][0]
    assert (token["namespace"], token["serviceAccount"], token["labels"]) == ("shop", "orders", {"app": "orders", "version": "*"})
    assert 0 < token["notAfter"] - time.time() <= 600
    mesh.ok("token", "delete", token["id"])
    assert mesh.run("token", "delete", token["id"]).returncode == 1
    for wrong in (["--ttl", "10"], ["--label", "app"], ["extra"]):
        assert mesh.run("token", "create", *wrong).returncode == 2


@pytest.mark.parametrize("args,expect", [
    ([], "manages a Weft mesh"),
    (["gte"], "did you mean get?"),
    (["get"], "expected KIND"),
    (["get", "widgets"], 'unknown kind "widgets"'),
    (["get", "svc", "-o", "xml"], "expected table, wide, json, yaml, name, hosts"),
    (["get", "svc", "--namespce", "x"], "did you mean --namespace?"),
    (["apply"], "-f FILE is missing"),
    (["apply", "-f"], "wants a value"),
    (["delete", "service"], "either KIND and NAME, or -f FILE"),
    (["token"], "weft token create"),
])
def test_wrong_usage_is_exit_2_and_on_stderr(program, tmp_path, args, expect):
    done = subprocess.run([program("weft"), *args], capture_output=True, text=True, timeout=10)
    assert done.returncode == 2 and done.stdout == "" and expect in done.stderr


@pytest.mark.parametrize("args", [["--help"], ["apply", "--help"], ["get", "-h"], ["delete", "--help"], ["status", "--help"],
                                  ["token", "create", "--help"], ["token", "list", "--help"], ["token", "delete", "--help"],
                                  ["version", "--help"]])
def test_help_needs_no_weftd(program, args):
    done = subprocess.run([program("weft"), *args], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0 and done.stderr == "" and "weft" in done.stdout


def test_the_configuration_is_found_in_order(mesh, tmp_path):
    home = tmp_path / "home"
    (home / ".config/weft").mkdir(parents=True)
    env = {"HOME": str(home), "XDG_CONFIG_HOME": ""}
    here = home / ".config/weft/config.json"
    here.write_text(mesh.admin.read_text())
    here.chmod(0o600)
    mesh.ok("status", config=False, env=env)
    assert mesh.run("status", env={**env, "WEFT_CONFIG": str(tmp_path / "none")}).returncode == 1
    mesh.ok("status", "--config", mesh.admin, env={"WEFT_CONFIG": str(tmp_path / "none")})
    mesh.ok("--config", mesh.admin, "status", config=False)
    assert mesh.ok("version").splitlines()[1].startswith("weftd ")


def test_only_the_administrator_is_served(program, mesh, tmp_path):
    other = Weftd(program, tmp_path.joinpath("other")) if tmp_path.joinpath("other").mkdir() is None else None
    mine, theirs = json.loads(mesh.admin.read_text()), json.loads(other.admin.read_text())

    def with_config(**change):
        path = tmp_path / "changed.json"
        path.write_text(json.dumps({k: v for k, v in {**mine, **change}.items() if v is not None}))
        path.chmod(0o600)
        return mesh.run("status", "--config", path)

    assert with_config().returncode == 0
    # another mesh's administrator, who believes our root: weftd does not know that certificate
    done = with_config(certificate=theirs["certificate"], key=theirs["key"])
    assert done.returncode == 1 and done.stdout == ""
    # our administrator before another mesh's weftd: the CLI does not believe it
    other.ports[1] = mesh.ports[1]
    mesh.stop()
    other.start()
    try:
        done = with_config()
        assert done.returncode == 1 and done.stdout == ""
        assert not any("api_request" in line for line in other.log)
    finally:
        other.stop()
    # no certificate and a wrong token
    mesh.start()
    done = with_config(certificate=None, key=None, token="weftapi." + "0" * 64)
    assert done.returncode == 1 and "bearer token is not known" in done.stderr
    done = with_config(token=None, certificate=None)
    assert done.returncode == 1 and "it needs root, certificate and key" in done.stderr


def stranger(mesh, alpn):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context.wrap_socket(socket.create_connection(("127.0.0.1", mesh.ports[1]), timeout=10))


def test_a_stranger_is_answered_before_its_body_over_http2(mesh):
    h2 = pytest.importorskip("h2.connection")
    with stranger(mesh, "h2") as s:
        c = h2.H2Connection()
        c.initiate_connection()
        c.send_headers(1, [(":method", "POST"), (":path", "/v1/apply"), (":scheme", "https"), (":authority", "weftd"),
                           ("content-length", "30000000")])
        c.send_data(1, b"x" * 16000)
        s.sendall(c.data_to_send())
        events = []
        while not any(type(e).__name__ == "StreamEnded" for e in events):
            events += c.receive_data(s.recv(65536))
            s.sendall(c.data_to_send())
    head = next(e for e in events if type(e).__name__ == "ResponseReceived").headers
    body = b"".join(e.data for e in events if type(e).__name__ == "DataReceived")
    assert (b":status", b"401") in [tuple(h) for h in head]
    assert b"bearer token" in body


def test_a_stranger_is_answered_before_its_body_over_http1(mesh):
    with stranger(mesh, "http/1.1") as s:
        s.sendall(b"POST /v1/apply HTTP/1.1\r\nHost: weftd\r\nContent-Length: 30000000\r\n\r\n{")
        assert s.recv(65536).startswith(b"HTTP/1.1 401 ")
    with stranger(mesh, "http/1.1") as s:
        s.sendall(b"GET /v1/status HTTP/1.1\r\nHost: weftd\r\nAuthorization: Bearer weftapi." + b"0" * 64 + b"\r\n\r\n")
        assert s.recv(65536).startswith(b"HTTP/1.1 403 ")


def test_weftd_away_is_a_failure_in_words(mesh):
    mesh.stop()
    done = mesh.run("status")
    assert done.returncode == 1 and done.stdout == "" and f"https://127.0.0.1:{mesh.ports[1]}" in done.stderr


def test_no_colour_when_not_on_a_terminal(mesh):
    assert "\033" not in mesh.ok("status") + mesh.ok("get", "svc", "-A")

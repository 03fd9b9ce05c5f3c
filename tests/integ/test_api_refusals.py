# SPDX-License-Identifier: Apache-2.0
"""weftd against bodies that the CLI would never send, straight at its API; and files that are no files of objects. Nothing of it
changes a revision, everything is answered with what was wrong, and weftd is still there."""

import http.client
import json
import os
import pty
import re
import ssl
import subprocess
import time

import pytest
from test_cli import SERVICE, SLICE, Weftd


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    from conftest import weft_program
    m = Weftd(weft_program, tmp_path_factory.mktemp("mesh"))
    m.start()
    m.ok("apply", "-f", "-", text=SERVICE.replace("orders", "kept"))
    yield m
    m.stop()


@pytest.fixture(autouse=True)
def nothing_changes(mesh):
    """Every test of this file: the same revision, objects and process before and after."""
    def state():
        return json.loads(mesh.ok("status", "-o", "json"))["revision"], mesh.ok("get", "svc", "-A", "-o", "json"), mesh.process.pid
    before = state()
    yield
    assert mesh.process.poll() is None, "".join(mesh.log)
    assert state() == before
    assert not any("AddressSanitizer" in x or "runtime error" in x or "MUST" in x for x in mesh.log), "".join(mesh.log)


def connection(mesh, timeout=30):
    admin = json.loads(mesh.admin.read_text())
    context = ssl.create_default_context(cadata=admin["root"])
    context.check_hostname = False
    context.set_alpn_protocols(["http/1.1"])
    paths = [mesh.folder / n for n in ("admin.pem", "admin.key")]
    for path, text in zip(paths, (admin["certificate"], admin["key"])):
        path.write_text(text)
    context.load_cert_chain(*paths)
    return http.client.HTTPSConnection("127.0.0.1", mesh.ports[1], context=context, timeout=timeout)


def call(mesh, body, path="/v1/apply", method="POST"):
    """(status, code, text) of the API's answer."""
    c = connection(mesh)
    try:
        c.request(method, path, body if isinstance(body, bytes) else body.encode(), {"Content-Type": "application/json"})
        r = c.getresponse()
        error = json.loads(r.read())["error"]
        return r.status, error["code"], error["text"]
    finally:
        c.close()


def service(**more):
    s = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders", "namespace": "shop"},
         "spec": {"selector": {"app": "orders"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}
    for path, value in more.items():
        at, keys = s, path.split("__")
        for k in keys[:-1]:
            at = at[int(k) if k.isdigit() else k]
        at[keys[-1]] = value
    return s


def batch(*objects):
    return json.dumps({"objects": list(objects)})


GOOD = service(metadata__name="good")
PORT = "spec.ports[0].port"
BODIES = {
    "port too high": (batch(service(spec__ports__0__port=70000)), "invalid", (PORT, "70000", "1 to 65535")),
    "port negative": (batch(service(spec__ports__0__port=-1)), "invalid", (PORT, "-1", "1 to 65535")),
    "port as text": (batch(service(spec__ports__0__port="80")), "invalid", (PORT,)),
    "port with a fraction": (batch(service(spec__ports__0__port=80.5)), "invalid", (PORT,)),
    "port of 2^64": (batch(service(spec__ports__0__port=0)).replace('"port": 0', '"port": 18446744073709551696'), None, ()),
    "port that is no number": (batch(service(spec__ports__0__port=0)).replace('"port": 0', '"port": NaN'), "invalid", ()),
    "port beyond doubles": (batch(service(spec__ports__0__port=0)).replace('"port": 0', '"port": 1e999'), "invalid", ()),
    "unknown field": (batch(service(spec__selectr={})), "invalid", ("spec.selectr", "unknown field", '"selector"')),
    "unknown field of the call": (json.dumps({"objects": [GOOD], "dryrun": True}), "invalid", ("dryrun",)),
    "one bad of two": (batch(GOOD, service(spec__ports__0__port=0)), "invalid", ("shop/orders", PORT)),
    "kind of later": (batch({**service(), "kind": "TCPRoute"}), None, ("TCPRoute",)),
    "kind of nobody": (batch({**service(), "kind": "Sevrice"}), None, ("Sevrice", "Service")),
    "no kind": (batch({k: v for k, v in service().items() if k != "kind"}), "invalid", ("kind",)),
    "name with a slash": (batch(service(metadata__name="a/../b")), "invalid", ("metadata.name", "a/../b")),
    "name with NUL": (batch(service(metadata__name="a\0b")), None, ()),
    "name too long": (batch(service(metadata__name="a" * 300)), "invalid", ("metadata.name",)),
    "half a surrogate": (batch(GOOD).replace('"good"', '"\\ud800"'), "invalid", ()),
    "not UTF-8": (batch(GOOD).encode().replace(b'"good"', b'"\xff\xfe"'), "invalid", ()),
    "overlong UTF-8": (batch(GOOD).encode().replace(b'"good"', b'"\xc0\xaf"'), "invalid", ()),
    "twice": (batch(GOOD).replace('"kind": "Service"', '"kind": "Service", "kind": "Service"'), "invalid", ("kind",)),
    "twice, deep": (batch(GOOD).replace('"port": 80', '"port": 80, "port": 81'), "invalid", ("port",)),
    "100,000 deep": ('{"objects": ' + "[" * 100000, "limit", ("64",)),
    "100,000 deep and closed": ('{"objects": [' + '{"a":' * 100000 + "1" + "}" * 100000 + "]}", "limit", ("64",)),
    "objects is no list": (json.dumps({"objects": {"0": GOOD}}), "invalid", ("objects",)),
    "an object is no object": (batch([GOOD]), "invalid", ()),
    "a list instead": (json.dumps([GOOD]), "invalid", ()),
    "nothing": ("", "invalid", ()),
    "half": (batch(GOOD)[:-2], "invalid", ()),
    "more behind it": (batch(GOOD) + "{}", "invalid", ()),
    "YAML": (SERVICE, "invalid", ()),
    "10,001 objects": (batch(*[service(metadata__name=f"s{i}") for i in range(10001)]), "invalid", ("10001", "10000")),
    "foreign address": (batch(service(spec__clusterIP="192.0.2.1")), "invalid", ("spec.clusterIP", "192.0.2.1")),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_wrong_body_is_refused_with_path_value_and_what_was_expected(mesh, what):
    body, code, words = BODIES[what]
    status, got, text = call(mesh, body)
    assert status == 400 and (code or got) == got, (status, got, text)
    assert all(w in text for w in words) and text, text
    assert len(text) < 2000 and text.isprintable()


def test_a_body_of_100_mb_is_refused_before_it_is_read(mesh):
    c = connection(mesh)
    c.putrequest("POST", "/v1/apply")
    c.putheader("Content-Length", str(100 << 20))
    c.endheaders()
    try:
        r = c.getresponse()
        assert r.status == 413 and b"larger than the limit" in r.read()
    finally:
        c.close()


def test_a_body_without_a_length_is_refused_at_the_limit_and_not_kept(mesh):
    def peak():
        with open(f"/proc/{mesh.process.pid}/status") as f:
            return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) << 10
    before = peak()
    c = connection(mesh)
    c.putrequest("POST", "/v1/apply")
    c.putheader("Transfer-Encoding", "chunked")
    c.endheaders()
    block = b" " * (1 << 20)
    try:
        for _ in range(100):
            c.send(b"%x\r\n" % len(block) + block + b"\r\n")
        r = c.getresponse()
        assert r.status == 413 and b"larger than the limit" in r.read()
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        pass  # it has closed before all was written: as good
    finally:
        c.close()
    if "asan" not in mesh.weftd:
        assert peak() - before < 48 << 20


@pytest.mark.parametrize("method,path,status", [
    ("GET", "/v1/nothing", 404), ("GET", "/", 404), ("PUT", "/v1/apply", 405), ("GET", "/v1/objects/widgets", 400),
    ("GET", "/v1/objects/services/shop/none", 404), ("DELETE", "/v1/objects/services/shop/none", 404),
    ("GET", "/v1/objects/services?namespace=../x", 400), ("GET", "/v1/objects/services/%2e%2e/x", 400), ("DELETE", "/v1/tokens/none", 404)])
def test_a_wrong_call_is_named(mesh, method, path, status):
    got, code, text = call(mesh, "", path, method)
    assert got == status or (status == 400 and got == 404), (got, code, text)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [" + ", ".join(f"*{p}" for _ in range(9)) + "]\n" for p, n in zip("abcdefgh", "bcdefghi"))
FILES = {
    "billion laughs": (BOMB.encode(), ("aliases",)),
    "not UTF-8": (SERVICE.encode().replace(b"orders", b"ord\xffers"), ("UTF-8",)),
    "UTF-16": (SERVICE.encode("utf-16"), ()),
    "100,000 flow maps": (b"a: " + b"{a: " * 100000, ("64",)),
    "100,000 block levels": (b"".join(b" " * i + b"a:\n" for i in range(1500)), ("64",)),
    "twice, deep": (SERVICE.replace("port: 80,", "port: 80, port: 81,").encode(), ("port", "twice")),
    "merge key": (SERVICE.encode() + b"<<: {kind: Service}\n", ("<<",)),
    "a tag": (SERVICE.replace("80,", "!!python/object 80,").encode(), ()),
    "JSON, twice": (batch(GOOD).encode().replace(b'"kind": "Service"', b'"kind": "Service", "kind": "Service"'), ()),
    "second document": ((SERVICE + "---\n" + SLICE.replace("5432", "99999")).encode(), ("EndpointSlice shop/db-1", "99999")),
    "only a list": (b"- 1\n- 2\n", ()),
    "binary": (bytes(range(256)) * 16, ()),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_none_is_refused_with_its_name(mesh, what):
    body, words = FILES[what]
    suffix = "json" if what.startswith("JSON") else "yaml"
    path = mesh.folder / f"file.{suffix}"
    path.write_bytes(body)
    began = time.monotonic()
    done = mesh.run("apply", "-f", path)
    assert done.returncode == 1 and done.stdout == "" and f"file.{suffix}" in done.stderr, done
    assert all(w in done.stderr for w in words), done.stderr
    assert time.monotonic() - began < 5
    # the same on standard input
    piped = subprocess.run([mesh.weft, "apply", "-f", "-"], input=body, capture_output=True, timeout=30,
                           env={**os.environ, "WEFT_CONFIG": str(mesh.admin)})
    assert piped.returncode == 1 and piped.stdout == b"" and piped.stderr


def test_a_file_that_is_not_there_and_a_folder_without_files_are_named(mesh):
    empty = mesh.folder / "empty"
    empty.mkdir()
    for path in (mesh.folder / "none.yaml", empty):
        done = mesh.run("apply", "-f", path)
        assert done.returncode == 1 and str(path) in done.stderr and done.stdout == ""


def test_all_or_nothing_over_files_and_documents_and_what_a_dry_run_says(mesh):
    folder = mesh.folder / "many"
    folder.mkdir()
    (folder / "a.yaml").write_text(SERVICE.replace("orders", "a") + "---" + SERVICE.replace("orders", "b"))
    (folder / "b.json").write_text(json.dumps(service(metadata__name="c")))
    (folder / "ignored.txt").write_text("not ours")
    dry = mesh.ok("apply", "-f", folder, "--dry-run")
    assert [line.split()[1] for line in dry.splitlines()] == ["shop/a", "shop/b", "shop/c"] and dry.count("(dry run)") == 3
    (folder / "c.yaml").write_text(SERVICE.replace("orders", "d").replace("8080", "no_port!"))
    for args in (["-f", folder], ["-f", folder / "a.yaml", "-f", folder / "c.yaml"]):
        done = mesh.run("apply", *args)
        assert done.returncode == 1 and done.stdout == ""
        assert "c.yaml" in done.stderr and "spec.ports[0].targetPort" in done.stderr and "no_port!" in done.stderr
    # so is a deletion
    done = mesh.run("delete", "service", "kept", "none", "-n", "shop")
    assert done.returncode == 1 and "shop/none" in done.stderr and done.stdout == ""


def test_options_stand_before_the_command_too(mesh):
    for args in (["--config", mesh.admin, "status"], [f"--config={mesh.admin}", "get", "svc", "-A"], ["--config", mesh.admin, "-n", "shop", "get", "svc"]):
        done = mesh.run(*args, config=False)
        assert done.returncode == 0, (args, done.stderr)
    assert "kept" in mesh.run("-n", "shop", "get", "svc").stdout
    done = mesh.run("--confg", mesh.admin, "status")
    assert done.returncode == 2 and "--config" in done.stderr
    assert mesh.run("--config").returncode == 2


def on_a_terminal(mesh, *args, **env):
    parent, child = pty.openpty()
    environ = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "WEFT_CONFIG")}
    environ.update({"WEFT_CONFIG": str(mesh.admin), "TERM": "xterm-256color", **env})
    p = subprocess.Popen([mesh.weft, *args], stdin=child, stdout=child, stderr=child, env=environ)
    os.close(child)
    out = b""
    try:
        while block := os.read(parent, 65536):
            out += block
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(parent)
    return p.wait(10), out.decode()


def test_colour_is_for_terminals_that_want_it(mesh):
    code, plain = on_a_terminal(mesh, "get", "svc", "-A", NO_COLOR="1")
    assert code == 0 and "\033" not in plain and "kept" in plain
    code, dumb = on_a_terminal(mesh, "get", "svc", "-A", TERM="dumb")
    assert code == 0 and "\033" not in dumb
    code, text = on_a_terminal(mesh, "get", "svc", "-A")
    assert code == 0 and re.sub(r"\033\[[0-9;]*m", "", text) == plain


def test_output_that_nobody_reads_ends_it_quietly(mesh):
    p = subprocess.Popen([mesh.weft, "get", "svc", "-A", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**os.environ, "WEFT_CONFIG": str(mesh.admin)})
    p.stdout.close()
    assert b"Sanitizer" not in p.stderr.read()
    p.wait(10)
    with open("/dev/full", "w") as full:
        done = subprocess.run([mesh.weft, "get", "svc", "-A"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=10,
                              env={**os.environ, "WEFT_CONFIG": str(mesh.admin)})
    assert done.returncode == 1 and "No space left" in done.stderr

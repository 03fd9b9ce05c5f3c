# SPDX-License-Identifier: Apache-2.0
"""The weft command line beyond apply and get: describe, diff, history, rollback, wait, watch, check, config, completion, the manual."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time

import pytest

from conftest import ROOT, missing
from test_cli import SERVICE, SLICE, Weftd, mesh  # noqa: F401

PORT_81 = SERVICE.replace("port: 80,", "port: 81,")


def ports(m, name="orders"):
    return [p["port"] for p in json.loads(m.ok("get", "svc", name, "-n", "shop", "-o", "json"))["spec"]["ports"]]


# --- history, diff, rollback ---


def test_diff_shows_what_apply_would_change_and_says_so_by_its_exit_code(mesh):
    new = mesh.run("diff", "-f", "-", text=SERVICE)
    assert new.returncode == 1 and "--- Service shop/orders (not there)" in new.stdout and "+  name: orders" in new.stdout
    mesh.ok("apply", "-f", "-", text=SERVICE)
    same = mesh.run("diff", "-f", "-", text=SERVICE)
    assert (same.returncode, same.stdout) == (0, "")
    done = mesh.run("diff", "-f", "-", text=PORT_81 + "---" + SLICE)
    changed = [line for line in done.stdout.splitlines() if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    assert done.returncode == 1
    assert [line for line in changed if "port: 8" in line] == ["-      port: 80", "+      port: 81"] or \
        {line[0] + line[1:].strip(" -") for line in changed if re.search(r"port: 8[01]$", line)} == {"-port: 80", "+port: 81"}
    assert "+++ EndpointSlice shop/db-1" in done.stdout
    wrong = mesh.run("diff", "-f", "-", text=SERVICE.replace("port: 80,", "port: 0,"))
    assert wrong.returncode == 2 and wrong.stdout == "" and "0 is not a port" in wrong.stderr
    mesh.stop()
    assert mesh.run("diff", "-f", "-", text=SERVICE).returncode == 2
    mesh.start()
    assert mesh.revision() == 1


def test_history_says_who_changed_what(mesh):
    mesh.ok("apply", "-f", mesh.file("orders.yaml", SERVICE))
    mesh.ok("apply", "-f", "-", text=SLICE)
    mesh.ok("apply", "-f", "-", text=PORT_81)
    rows = [re.split(r" {2,}", line) for line in mesh.ok("history").splitlines()]
    assert rows[0] == ["REVISION", "AGE", "CHANGED", "WHAT", "WHO"]
    assert [r[0] for r in rows[1:]] == ["3", "2", "1"]
    assert rows[3][3].endswith("orders.yaml") and rows[3][4] == "spiffe://mesh.test/ns/weft-system/sa/admin"
    one = json.loads(mesh.ok("history", "service", "orders", "-n", "shop", "-o", "json"))["items"]
    assert [r["revision"] for r in one] == [3, 1]
    assert [r["revision"] for r in json.loads(mesh.ok("history", "-n", "other", "-o", "json"))["items"]] == []
    assert len(json.loads(mesh.ok("history", "--limit", "2", "-o", "json"))["items"]) == 2
    text = mesh.ok("history", "3")
    assert text.startswith("revision 3, ") and "Service shop/orders changed" in text and "port: 81" in text
    assert mesh.run("history", "9").returncode == 1
    assert mesh.run("history", "service").returncode == 2
    assert mesh.run("history", "--limit", "0").returncode == 2


def test_rollback_is_one_new_revision_that_restores_all_of_it(mesh):
    mesh.ok("apply", "-f", "-", text=SERVICE)                                            # 1
    mesh.ok("apply", "-f", "-", text=PORT_81 + "---" + SLICE)                            # 2
    mesh.ok("apply", "-f", "-", text=SERVICE.replace("orders", "cart"))                  # 3
    vip = json.loads(mesh.ok("get", "svc", "orders", "-n", "shop", "-o", "json"))["spec"]["clusterIP"]
    mesh.ok("delete", "service", "orders", "-n", "shop")                                 # 4
    dry = mesh.ok("rollback", "1", "--dry-run")
    assert dry.count("(dry run)") == 3 and mesh.revision() == 4
    done = sorted(mesh.ok("rollback", "1").splitlines())
    assert done == ["EndpointSlice shop/db-1 deleted", "Service shop/cart deleted", "Service shop/orders created"]
    assert mesh.revision() == 5 and ports(mesh) == [80]
    assert json.loads(mesh.ok("get", "svc", "orders", "-n", "shop", "-o", "json"))["spec"]["clusterIP"] == vip
    assert "rollback to revision 1" in mesh.ok("history", "--limit", "1")
    # and forth again: nothing is lost
    mesh.ok("rollback", "3")
    assert mesh.revision() == 6 and ports(mesh) == [81]
    assert mesh.ok("get", "svc", "-A", "-o", "name").splitlines() == ["services/cart", "services/orders"]
    # to where it is: no revision
    assert mesh.run("rollback", "6").returncode == 0 and mesh.revision() == 6


def test_rollback_gives_an_address_back_to_the_service_that_had_it(mesh):
    fixed = SERVICE.replace("selector:", "clusterIP: 240.7.7.7\n  selector:")
    mesh.ok("apply", "-f", "-", text=fixed.replace("orders", "aaa"))
    mesh.ok("delete", "service", "aaa", "-n", "shop")
    mesh.ok("apply", "-f", "-", text=fixed.replace("orders", "bbb"))
    assert sorted(mesh.ok("rollback", "1").splitlines()) == ["Service shop/aaa created", "Service shop/bbb deleted"]
    assert json.loads(mesh.ok("get", "svc", "aaa", "-n", "shop", "-o", "json"))["spec"]["clusterIP"] == "240.7.7.7"


def test_rollback_of_one_object_leaves_the_others(mesh):
    mesh.ok("apply", "-f", "-", text=SERVICE)
    mesh.ok("apply", "-f", "-", text=PORT_81 + "---" + SERVICE.replace("orders", "cart"))
    assert mesh.ok("rollback", "1", "service", "orders", "-n", "shop") == "Service shop/orders changed\n"
    assert ports(mesh) == [80] and ports(mesh, "cart") == [80]
    for wrong in (["rollback"], ["rollback", "x"], ["rollback", "1", "service"], ["rollback", "1", "sevice", "orders"]):
        assert mesh.run(*wrong).returncode == 2, wrong
    late = mesh.run("rollback", "99")
    assert late.returncode == 1 and "revision 99: there is none yet; the newest is 3" in late.stderr


# --- what an apply costs others ---


@pytest.mark.plain(reason="time")
def test_an_apply_of_a_thousand_services_holds_nobody_up_for_300_ms(mesh):
    """How long weftd's loop answers nobody meanwhile, asked every 2 ms; best of three, since the machine is shared."""
    def longest(port):
        gaps, text = [], "\n---\n".join(SERVICE.replace("orders", f"svc-{i}").replace("port: 80,", f"port: {port},") for i in range(1000))
        path, done = mesh.file("many.yaml", text), threading.Event()

        def ask():
            c = http.client.HTTPConnection("127.0.0.1", mesh.ports[2], timeout=30)
            while not done.is_set():
                began = time.monotonic()
                c.request("GET", "/ready")
                assert c.getresponse().read() == b"ok\n"
                gaps.append(time.monotonic() - began)
                time.sleep(0.002)
            c.close()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            assert len(mesh.ok("apply", "-f", path).splitlines()) == 1000
        finally:
            done.set()
            thread.join()
        return max(gaps)

    found = [longest(port) for port in (80, 81, 82)]
    assert min(found) < 0.3, found


# --- describe ---


def test_describe_tells_all_of_an_object(mesh):
    mesh.ok("apply", "-f", "-", text=SERVICE.replace("orders", "db") + "---" + SLICE.replace("pg", "http"))
    text = mesh.ok("describe", "service", "db", "-n", "shop")
    assert re.search(r"^Name: +db$", text, re.M) and re.search(r"^Cluster-ip: +240\.0\.0\.1$", text, re.M)
    assert re.search(r"^Revision: +1, ", text, re.M) and re.search(r"^Held by: +no proxy$", text, re.M)
    assert re.search(r"^  10\.2\.0\.1 +80>5432 +- +outside the mesh +-$", text, re.M), text
    d = json.loads(mesh.ok("describe", "svc", "db", "-n", "shop", "-o", "json"))
    assert d["endpoints"][0]["ports"] == [{"servicePort": 80, "port": 5432}]
    assert {r["type"] for r in d["resources"]} == {"Service", "Endpoints", "Manifest"}
    none = mesh.run("describe", "service", "none", "-n", "shop")
    assert none.returncode == 1 and "there is no such object" in none.stderr
    assert mesh.run("describe", "service").returncode == 2
    near = mesh.run("describe", "sevice", "x")
    assert near.returncode == 2 and "did you mean" in near.stderr


# --- watch ---


class Watch:
    def __init__(self, m, *args):
        env = {**os.environ, "WEFT_CONFIG": str(m.admin)}
        self.process = subprocess.Popen([m.weft, "get", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        self.lines, self.cond = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.cond:
                self.lines.append(line.rstrip("\n"))
                self.cond.notify_all()

    def wait(self, match, seconds=10):
        until = time.monotonic() + seconds
        with self.cond:
            while not any(re.search(match, line) for line in self.lines):
                assert self.cond.wait(max(0, until - time.monotonic())), (match, self.lines)

    def stop(self):
        self.process.kill()
        self.process.wait()


def test_get_watch_shows_changes_as_they_come(mesh):
    mesh.ok("apply", "-f", "-", text=SERVICE)
    table, names, lines = Watch(mesh, "svc", "-A", "-w"), Watch(mesh, "svc", "cart", "-n", "shop", "-w", "-o", "name"), \
        Watch(mesh, "svc", "-n", "shop", "-w", "-o", "json")
    try:
        table.wait(r"^added +shop +orders +240")
        assert table.lines[0].split()[:3] == ["EVENT", "NAMESPACE", "NAME"]
        lines.wait('"added"')
        mesh.ok("apply", "-f", "-", text=PORT_81)
        table.wait(r"^modified +shop +orders .*81>8080")
        mesh.ok("apply", "-f", "-", text=SERVICE.replace("orders", "cart"))
        names.wait(r"^added services/cart$")
        mesh.ok("apply", "-f", "-", text=SERVICE.replace("orders", "other").replace("shop", "elsewhere"))
        table.wait(r"^added +elsewhere +other")
        mesh.ok("delete", "svc", "orders", "cart", "-n", "shop")
        table.wait(r"^deleted +shop +orders")
        names.wait(r"^deleted services/cart$")
        lines.wait(r'"deleted".*"cart"|"cart".*"deleted"')
        assert names.lines == ["added services/cart", "deleted services/cart"]
        events = [json.loads(line) for line in lines.lines]
        assert [(e["type"], e["object"]["metadata"]["name"]) for e in events][:3] == [("added", "orders"), ("modified", "orders"), ("added", "cart")]
    finally:
        for w in (table, names, lines):
            w.stop()
    assert mesh.run("get", "workloads", "-w").returncode == 2
    assert mesh.run("get", "svc", "-w", "-o", "yaml").returncode == 2


def test_a_watch_ends_in_words_when_weftd_goes(mesh):
    w = Watch(mesh, "svc", "-A", "-w", "-o", "name")
    mesh.ok("apply", "-f", "-", text=SERVICE)
    try:
        w.wait("orders")
        mesh.stop()
        assert w.process.wait(10) == 1
        assert f"https://127.0.0.1:{mesh.ports[1]}" in w.process.stderr.read()
    finally:
        w.stop()


# --- wait without proxies; with them: test_cli_mesh.py ---


def test_wait_says_when_nobody_holds_it(mesh):
    mesh.ok("apply", "-f", "-", text=SERVICE)
    for args in (["--revision", "1"], ["service", "orders", "-n", "shop"], []):
        assert mesh.ok("wait", *args) == "no proxy holds it\n"
    assert mesh.ok("wait", "-f", "-", text=SERVICE) == "no proxy holds it\n"
    assert mesh.run("wait", "--revision", "7").returncode == 1
    for wrong in (["service"], ["--revision", "x"], ["--revision", "1", "service", "orders"], ["--timeout", "soon"]):
        assert mesh.run("wait", *wrong).returncode == 2, wrong
    gone = mesh.run("wait", "service", "none")
    assert gone.returncode == 1 and "there is no such object" in gone.stderr


# --- check ---


def check(m, *args, env=None, config=True):
    """(exit code, {description: result}) of the JSON, which is what linkerd's check prints."""
    done = m.run("check", "-o", "json", *args, env=env, config=config)
    report = json.loads(done.stdout)
    assert set(report) == {"success", "categories"} and report["success"] == (done.returncode == 0)
    for c in report["categories"]:
        assert set(c) == {"categoryName", "checks"}
        for line in c["checks"]:
            assert set(line) - {"hint"} == {"description", "result"} and line["result"] in ("success", "warning", "error")
            assert line["result"] == "success" or "hint" in line
    return done.returncode, {line["description"]: line["result"] for c in report["categories"] for line in c["checks"]}


def test_check_of_a_mesh_that_is_well(mesh):
    code, lines = check(mesh)
    assert code == 0 and set(lines.values()) <= {"success", "warning"}
    text = " ".join(lines)
    for part in ("only its owner can read it", "weftd answers at https://127.0.0.1", "of one version", "clocks of this machine and of weftd agree",
                 "the mesh's root is valid for another", "certificate of weftd is valid", "certificate of the administrator is valid",
                 "no workload has joined yet"):
        assert part in text, (part, text)
    plain = mesh.run("check", env={"LC_ALL": "C.UTF-8"}).stdout
    assert plain.startswith("configuration\n-------------\n√ ") and "Status check results are " in plain
    ascii = mesh.run("check", env={"LC_ALL": "C"}).stdout
    assert ascii.isascii() and "\nok   weftd answers" in ascii and "\033" not in ascii


def test_check_says_what_is_wrong_and_exits_1_on_errors_only(mesh, tmp_path):
    mesh.admin.chmod(0o640)
    code, lines = check(mesh)
    assert code == 0 and any("can be read by others (mode 640)" in d and r == "warning" for d, r in lines.items())
    mesh.admin.chmod(0o600)
    mesh.stop()
    code, lines = check(mesh)
    assert code == 1 and any("127.0.0.1" in d and r == "error" for d, r in lines.items())
    code, lines = check(mesh, "--config", tmp_path / "none")
    assert code == 1 and any("No such file" in d and r == "error" for d, r in lines.items())
    assert mesh.run("check", "more").returncode == 2


@pytest.mark.plain(reason="faketime and a sanitizer both want to be loaded first")
@pytest.mark.parametrize("seconds,result", [(10, "warning"), (600, "error")])
def test_check_sees_a_clock_that_is_off(mesh, seconds, result):
    if not shutil.which("faketime"):
        missing("faketime is not installed (make deps)")
    env = {**os.environ, "WEFT_CONFIG": str(mesh.admin)}
    done = subprocess.run(["faketime", "-f", f"+{seconds}s", mesh.weft, "check", "-o", "json"], capture_output=True, text=True, env=env)
    lines = {line["description"]: line["result"] for c in json.loads(done.stdout)["categories"] for line in c["checks"]}
    off = {d: r for d, r in lines.items() if "the clock of weftd is" in d}
    assert len(off) == 1 and list(off.values()) == [result] and "s behind this one's" in list(off)[0], (lines, done.stderr)


@pytest.mark.plain(reason="faketime and a sanitizer both want to be loaded first")
def test_check_sees_certificates_that_end(mesh):
    if not shutil.which("faketime"):
        missing("faketime is not installed (make deps)")
    env = {**os.environ, "WEFT_CONFIG": str(mesh.admin)}
    done = subprocess.run(["faketime", "-f", "+350d", mesh.weft, "check"], capture_output=True, text=True, env={**env, "LC_ALL": "C"})
    assert done.returncode == 1
    assert re.search(r"^warn the certificate of the administrator is valid for another 1[0-9]d$", done.stdout, re.M), done.stdout


# --- config ---


def test_config_render_makes_a_file_that_the_proxy_takes(program, tmp_path):
    from harness import pki
    ca = pki.Authority("mesh.test")
    crt, key, roots = ca.leaf("shop", "web").write(tmp_path, "web")
    (tmp_path / "mesh.yaml").write_text(SERVICE.replace("orders", "db").replace("name: http", "name: pg").replace("port: 80,", "port: 5432,") + "---" + SLICE +
                                        "---" + SERVICE)
    done = subprocess.run([program("weft"), "config", "render", "-f", tmp_path / "mesh.yaml", "--name", "web-1", "-n", "shop", "--service-account",
                           "web", "--trust-domain", "mesh.test", "--mesh-cidr", "10.0.0.0/8", "--mesh-cidr", "240.0.0.0/4", "--port", "8080/http",
                           "--certificate", crt, "--key", key, "--roots", roots], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["self"] == {"name": "web-1", "namespace": "shop", "serviceAccount": "web", "ports": [{"port": 8080, "protocol": "http"}]}
    db, orders = made["services"]
    assert db["endpoints"] == [{"address": "10.2.0.1", "ports": {"5432": 5432}, "meshed": False}] and db["vips"][0] == "240.0.0.1"
    assert orders["ports"] == [{"port": 80, "name": "http", "protocol": "http"}] and orders["vips"][0] == "240.0.0.2"
    path = tmp_path / "web.json"
    path.write_text(done.stdout)
    taken = subprocess.run([program("weft-proxy"), "-t", "-f", path], capture_output=True, text=True)
    assert taken.returncode == 0, taken.stderr


@pytest.mark.parametrize("args,expect", [
    (["config", "render", "-f", "-"], "--name and --trust-domain are wanted"),
    (["config", "render", "-f", "-", "--name", "x", "--trust-domain", "y", "--port", "http"], "expected PORT or PORT/PROTOCOL"),
    (["config", "dump"], "NAME or --socket PATH"),
    (["config", "dump", "../x"], "cannot be a name"),
    (["config", "dmp", "x"], "weft config render"),
])
def test_wrong_usage_of_config(program, args, expect):
    done = subprocess.run([program("weft"), *args], input="", capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and expect in done.stderr, done.stderr


def test_config_dump_without_a_proxy_names_the_socket(program, tmp_path):
    done = subprocess.run([program("weft"), "config", "dump", "orders-1", "-n", "shop", "--run-dir", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and f"{tmp_path}/shop-orders-1/admin.sock" in done.stderr


# --- completion and the manual ---


@pytest.mark.parametrize("shell,check", [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_a_completion_script_is_one_of_its_shell(program, tmp_path, shell, check):
    script = subprocess.run([program("weft"), "completion", shell], capture_output=True, text=True, check=True).stdout
    for word in ("describe", "rollback", "token", "--dry-run" if shell != "fish" else "dry-run", "endpointslices"):
        assert word in script
    if not shutil.which(shell):
        missing(f"{shell} is not installed (make deps)")
    path = tmp_path / "script"
    path.write_text(script)
    done = subprocess.run([shell, *check, path], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr


@pytest.mark.parametrize("typed,expect", [
    ("weft desc", ["describe"]),
    ("weft token ", ["create", "delete", "list"]),
    ("weft token create --serv", ["--server", "--service-account"]),
    ("weft get serv", ["services"]),
    ("weft completion z", ["zsh"]),
])
def test_bash_completes(program, typed, expect):
    script = subprocess.run([program("weft"), "completion", "bash"], capture_output=True, text=True, check=True).stdout
    words = typed.split(" ")
    run = f"{script}\nCOMP_WORDS=({' '.join(w or repr('') for w in words)}); COMP_CWORD={len(words) - 1}; _weft; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True)
    assert sorted(set(done.stdout.split())) == expect


def test_an_unknown_shell_is_refused_with_the_nearest(program):
    done = subprocess.run([program("weft"), "completion", "bsh"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and "did you mean bash?" in done.stderr


def test_the_manual_is_what_the_rows_say(program):
    made = subprocess.run([program("weft"), "help", "markdown"], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs/cli.md").read_text() == made, "docs/cli.md is stale: make docs"


def test_every_command_has_help_with_an_example(program):
    manual = (ROOT / "docs/cli.md").read_text()
    for words in re.findall(r"^## weft ([a-z]+(?: [a-z]+)?)", manual, re.M):
        words = [w for w in words.split() if w not in ("bash",)]
        done = subprocess.run([program("weft"), *words, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "\nExamples:\n  weft " in done.stdout, words
        assert subprocess.run([program("weft"), "help", *words], capture_output=True, text=True).stdout == done.stdout
    near = subprocess.run([program("weft"), "help", "hstory"], capture_output=True, text=True)
    assert near.returncode == 2 and "did you mean history?" in near.stderr


# --- calls beside others ---


def api_socket(mesh):
    """A connection of the administrator's, over which a test says HTTP/1.1 itself."""
    config = json.loads(mesh.admin.read_text())
    pem = mesh.file("admin.pem", config["certificate"] + config["key"])
    context = ssl.create_default_context(cadata=config["root"])
    context.check_hostname = False
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(socket.create_connection(("127.0.0.1", mesh.ports[1]), 30))


def apply_request(n):
    many = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{i}", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}
            for i in range(n)]
    body = json.dumps({"objects": many}).encode()
    return b"POST /v1/apply HTTP/1.1\r\nHost: weftd\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_who_waits_for_a_change_is_answered_in_time_however_much_others_have_asked(mesh):
    mesh.ok("apply", "-f", mesh.file("orders.yaml", SERVICE))
    other = sqlite3.connect(mesh.store, isolation_level=None)
    with api_socket(mesh) as watch:
        watch.sendall(b"GET /v1/version HTTP/1.1\r\nHost: weftd\r\n\r\n")
        assert watch.recv(4096).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        watch.sendall(b"GET /v1/watch/services?revision=1&seconds=2 HTTP/1.1\r\nHost: weftd\r\n\r\n")
        assert json.loads(mesh.ok("status", "-o", "json"))["revision"] == 1  # in turn after the watch
        other.execute("BEGIN IMMEDIATE")  # each apply waits a second for it
        slow = [api_socket(mesh) for _ in range(7)]
        for s in slow:
            s.sendall(apply_request(1))
        answer = watch.recv(4096)
        took = time.monotonic() - began
    other.execute("ROLLBACK")
    other.close()
    for s in slow:
        assert re.match(rb"HTTP/1.1 (200|503) ", s.recv(4096))
        s.close()
    assert answer.startswith(b"HTTP/1.1 200") and b'{"revision":1,"changes":[]}' in answer, answer
    assert 1.9 < took < 5, took


def test_who_applies_while_weftd_is_told_to_stop_is_answered_and_the_answer_is_true(mesh):
    with api_socket(mesh) as s:
        s.sendall(b"GET /v1/version HTTP/1.1\r\nHost: weftd\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
        other = sqlite3.connect(mesh.store, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        s.sendall(apply_request(1))  # waits for the other program for up to a second
        mesh.process.send_signal(signal.SIGTERM)
        mesh.wait_for(" stopping ")
        time.sleep(0.5)  # longer than weftd stays when nothing is run
        other.execute("ROLLBACK")
        other.close()
        answer = s.recv(4096)
    assert re.match(rb"HTTP/1.1 (200|503) ", answer), answer
    assert mesh.process.wait(10) == 0
    mesh.process = None
    mesh.log.clear()
    mesh.start()
    assert mesh.revision() == (1 if b" 200 " in answer[:20] else 0)


def test_an_apply_whose_client_goes_away_is_there_whole_and_who_reads_meanwhile_sees_nothing_or_all_of_it(mesh):
    seen, over = set(), threading.Event()

    def look():
        while not over.is_set():
            status = json.loads(mesh.ok("status", "-o", "json"))
            seen.add((status["revision"], status["objects"]["services"]))

    looking = threading.Thread(target=look)
    looking.start()
    with api_socket(mesh) as s:
        s.sendall(apply_request(1500))
        mesh.wait_for("objects=1500", 30)  # committed; its answer is read by nobody
    over.set()
    looking.join()
    assert seen <= {(0, 0), (1, 1500)}, seen
    assert len(json.loads(mesh.ok("get", "svc", "-n", "shop", "-o", "json"))["items"]) == 1500
    assert mesh.revision() == 1

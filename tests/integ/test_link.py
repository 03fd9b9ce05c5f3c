# SPDX-License-Identifier: Apache-2.0
"""The proxy's link against a control plane that is not ours and does what the test says."""

import os

import pytest
from harness.control import PREFIX, ScriptedMesh
from harness.netns import wait_until

HTTP = r"""
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"hello\n"
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), H).serve_forever()
"""
VIP = "10.99.1.1"

# On the plain build too: only there the system call filter is on.
pytestmark = pytest.mark.plain(also=True)


@pytest.fixture
def mesh(net, tmp_path, program):
    for name in ("weft-proxy", "weft-capture"):
        program(name)
    with ScriptedMesh(net, tmp_path) as m:
        m.start_control()
        m.control.mesh()
        yield m


def client(mesh, name="web", sa="web"):
    mesh.control.self(f"{name}", sa)
    mesh.control.options(accounts={name: sa})
    return mesh.workload(mesh.net.host(name), name, sa=sa)


def get(w, url, timeout=5):
    r = w.host.run(["curl", "-s", "-o", "/dev/null", "-m", str(timeout), "-w", "%{http_code} %{time_total}", url], check=False)
    code, seconds = r.stdout.split()
    return int(code), float(seconds)


def serve_plain(mesh, net, name="plain"):
    """An application without a sidecar: an endpoint outside the mesh's TLS. Its address."""
    h = net.host(name)
    h.start_python(HTTP, "8080")
    h.wait_port(8080)
    return h.ip4


def test_joins_registers_is_ready_and_says_goodbye(mesh):
    c = mesh.control
    web = client(mesh)
    web.labels, web.ports = {"app": "web"}, "9000/http"
    web.start()
    assert c.wait("issue")["how"] == "token"
    r = c.wait("register", instance="web")
    assert r["labels"] == {"app": "web"} and r["ports"] == [[9000, 1]]
    acks = wait_until(lambda: [e for e in c.found("request") if e["nonce"]], 5, "acknowledgements")
    assert all(e["error"] is None for e in acks)
    c.wait("heartbeat", timeout=8)
    web.stop()
    c.wait("goodbye")


def test_a_withheld_manifest_entry_lets_no_request_pass_until_it_comes(mesh, net):
    c, ip = mesh.control, serve_plain(mesh, net)
    web = client(mesh).start()
    c.service("shop/orders", VIP, {80: "HTTP"}, "s1")
    c.endpoints("shop/orders", VIP, [(ip, None, {80: 8080})])
    c.manifest("shop/orders", VIP, "s2")  # lists what is not there
    code, seconds = get(web, f"http://{VIP}/")
    assert code != 200 and 1.5 < seconds < 4
    c.service("shop/orders", VIP, {80: "HTTP"}, "s2")
    wait_until(lambda: get(web, f"http://{VIP}/")[0] == 200, 10, "the request passes")


def test_who_connected_while_an_entry_was_withheld_is_served_when_it_comes(mesh, net):
    """The application dialled once: no second attempt, nothing before the manifest is whole."""
    c, ip = mesh.control, serve_plain(mesh, net)
    web = client(mesh).start()
    c.service("shop/orders", VIP, {80: "HTTP"}, "s1")
    c.endpoints("shop/orders", VIP, [(ip, None, {80: 8080})])
    c.manifest("shop/orders", VIP, "s2")  # lists what is not there
    call = web.host.popen(["curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code} %{num_connects} %{time_total}\n", f"http://{VIP}/"])
    wait_until(lambda: [r for r in web.admin("/config")["resources"] if r.get("pending")], 2, "the manifest waits")
    with pytest.raises(AssertionError):
        call.wait_output(r"\d{3} ", 0.7)
    c.service("shop/orders", VIP, {80: "HTTP"}, "s2")
    code, connects, seconds = call.wait_output(r"(\d+) (\d) ([\d.]+)", 2).groups()
    assert (code, connects) == ("200", "1") and 0.5 < float(seconds) < 2.5


def test_a_manifest_that_lists_what_is_not_understood_never_fails_open(mesh, net):
    c, ip = mesh.control, serve_plain(mesh, net)
    web = client(mesh).start()
    c.service("shop/orders", VIP, {80: "HTTP"}, "s1")
    c.endpoints("shop/orders", VIP, [(ip, None, {80: 8080})])
    c.manifest("shop/orders", VIP, "s1", more_entries=[{"typeUrl": PREFIX + "AuthorizationPolicy", "name": "shop/deny", "version": "1"}])
    assert get(web, f"http://{VIP}/")[0] != 200
    nack = [e for e in c.found("request", type="Manifest") if e["error"]]
    assert nack and nack[0]["error"].startswith("shop/orders: ") and "AuthorizationPolicy" in nack[0]["error"]


def test_one_bad_and_nine_good_resources(mesh):
    c = mesh.control
    web = client(mesh).start()
    for i in range(10):
        c.set("Workload", f"shop/w{i}", "v1", {"name": f"w{i}", "namespace": "shop", "addresses": ["CmMCZA==" if i != 4 else "fwAAAQ=="]},
              [f"10.99.2.{i}"], hold=True)
    procs = [web.host.popen(["curl", "-s", "-m", "4", f"http://10.99.2.{i}:1/"]) for i in range(10)]
    wait_until(lambda: any(e["error"] for e in c.found("request", type="Workload")), 10, "a refusal")
    for p in procs:
        p.wait()
    wait_until(lambda: len([r for r in web.admin("/config")["resources"] if r["type"] == "Workload"]) == 9, 5, "nine held")
    errors = [e["error"] for e in c.found("request", type="Workload") if e["error"]]
    assert all(e.startswith("shop/w4: addresses[0]: 127.0.0.1") for e in errors)


def test_nothing_there_is_refused_at_once_the_second_time_and_pushed_when_it_appears(mesh, net):
    c, ip = mesh.control, serve_plain(mesh, net)
    web = client(mesh).start()
    assert get(web, f"http://{VIP}/")[0] != 200
    code, seconds = get(web, f"http://{VIP}/")
    assert code != 200 and seconds < 1
    c.service("shop/orders", VIP, {80: "HTTP"}, "s1", hold=True)
    c.endpoints("shop/orders", VIP, [(ip, None, {80: 8080})], hold=True)
    c.manifest("shop/orders", VIP, "s1")
    wait_until(lambda: get(web, f"http://{VIP}/")[0] == 200, 10, "it appears")
    c.remove("Service", "shop/orders")
    wait_until(lambda: get(web, f"http://{VIP}/")[0] != 200, 10, "it goes")


def test_an_unknown_field_is_refused(mesh, net):
    c, ip = mesh.control, serve_plain(mesh, net)
    web = client(mesh).start()
    c.service("shop/orders", VIP, {80: "HTTP"}, "s1", extra="7801")  # field 15 = 1
    c.endpoints("shop/orders", VIP, [(ip, None, {80: 8080})])
    c.manifest("shop/orders", VIP, "s1")
    assert get(web, f"http://{VIP}/")[0] != 200
    assert any("field 15" in (e["error"] or "") for e in c.found("request", type="Service"))


def test_a_new_stream_gets_subscriptions_and_versions_and_nothing_is_dropped(mesh, net):
    c, ip = mesh.control, serve_plain(mesh, net)
    c.service("shop/orders", VIP, {80: "HTTP"}, "s1")
    c.endpoints("shop/orders", VIP, [(ip, None, {80: 8080})])
    c.manifest("shop/orders", VIP, "s1")
    web = client(mesh).start()
    assert get(web, f"http://{VIP}/")[0] == 200
    c.drop()
    again = wait_until(lambda: [e for e in c.found("request", type="Service") if e["initial"]], 10, "the stream comes back")[0]
    assert again["initial"] == {"shop/orders": "s1"} and again["subscribe"] == [f"addr:{VIP}"]
    assert get(web, f"http://{VIP}/")[0] == 200


def test_a_worker_goes_on_while_the_control_plane_is_away(mesh, net):
    c, ip = mesh.control, serve_plain(mesh, net)
    c.service("shop/orders", VIP, {80: "HTTP"}, "s1")
    c.endpoints("shop/orders", VIP, [(ip, None, {80: 8080})])
    c.manifest("shop/orders", VIP, "s1")
    web = client(mesh).start()
    assert get(web, f"http://{VIP}/")[0] == 200
    wait_until(lambda: list(mesh.state_dir.glob("*/config")), 5, "the copy on disk")
    wait_until(lambda: b"shop/orders" in list(mesh.state_dir.glob("*/config"))[0].read_bytes(), 5, "the service in it")
    c.stop()
    before = web.worker()
    os.kill(before, 9)
    wait_until(lambda: web.pids()[1] not in (None, before), 5, "a new worker")
    wait_until(lambda: get(web, f"http://{VIP}/")[0] == 200, 5, "calls go on")
    assert web.status("/ready")[0] == 200
    code, seconds = get(web, "http://10.99.3.3/")
    assert code != 200 and seconds < 4


def test_a_full_restart_comes_back_with_the_rejoin_secret(mesh):
    c = mesh.control
    web = client(mesh).start()
    c.wait("register")
    secret = list(mesh.state_dir.glob("*/rejoin"))
    assert len(secret) == 1 and secret[0].stat().st_mode & 0o777 == 0o600
    web.stop()
    web.start()
    e = c.wait("issue", how="rejoin")
    assert e["secret"] == "rejoin-1"
    assert "rejoin-2" in secret[0].read_text()


def test_renews_by_certificate_at_half_life(mesh):
    c = mesh.control
    c.options(life=6)
    web = client(mesh).start()
    c.wait("issue", how="token")
    c.wait("issue", how="renew", count=3, timeout=20)
    assert web.status("/ready")[0] == 200


def test_a_false_control_plane_never_gets_the_token(mesh):
    c = mesh.control
    web = client(mesh)
    web.token = c.token("web", root_hash="11" * 32)
    web.start(ready=False)
    web.capture.wait_output("identity_failed", timeout=15)
    assert not c.found("issue")
    assert web.status("/ready")[0] == 503


def test_a_refused_registration_is_said_and_not_ready(mesh):
    c = mesh.control
    c.options(refuse_register="label app=db is not within its token")
    web = client(mesh)
    web.start(ready=False)
    c.wait("register")
    wait_until(lambda: "label app=db" in web.status("/ready")[1], 10, "the reason on /ready")
    assert web.status("/ready")[0] == 503
    c.options(refuse_register=None)
    web.wait_ready(timeout=25)


def test_a_refused_issue_is_said_and_tried_again(mesh):
    c = mesh.control
    c.options(refuse_issue="this token is spent")
    web = client(mesh)
    web.start(ready=False)
    web.capture.wait_output("this token is spent", timeout=15)
    c.options(refuse_issue=None)
    web.wait_ready(timeout=25)


def test_registers_over_each_family_it_is_given(mesh):
    c = mesh.control
    web = client(mesh)
    web.extra = ["--control", f"{c.host.ip4}:{c.port},[{c.host.ip6}]:{c.port}"]
    web.start()
    wait_until(lambda: {e["peer"].split(":")[0] for e in c.found("register")} == {"ipv4", "ipv6"}, 10, "two registrations")
    assert len(c.found("request", type="Self", nonce="")) == 1  # the second one only registers


@pytest.mark.plain(reason="25 s of waiting: once")
def test_a_silent_control_plane_is_found_out(mesh):
    c = mesh.control
    web = client(mesh).start()
    c.wait("register")
    c.options(silent=True)
    web.capture.wait_output("link_down", timeout=40)
    assert "heartbeat" in web.log()
    assert web.status("/ready")[0] == 200  # what is known stays in force
    c.options(silent=False)
    c.wait("register", count=2, timeout=20)


def test_holds_what_is_used_of_what_there_is(mesh, net):
    c, ip = mesh.control, serve_plain(mesh, net)
    web = client(mesh).start()
    for i in range(1000):
        name, vip = f"shop/s{i}", f"10.99.{8 + i // 250}.{1 + i % 250}"
        c.service(name, vip, {80: "HTTP"}, "s1", hold=True)
        c.endpoints(name, vip, [(ip, None, {80: 8080})], hold=True)
        c.manifest(name, vip, "s1", hold=i < 999)
    assert get(web, "http://10.99.8.1/")[0] == 200
    assert get(web, "http://10.99.11.250/")[0] == 200
    config = web.admin("/config")
    assert config["services"] == 2 and len([r for r in config["resources"] if r["type"] == "Service"]) == 2

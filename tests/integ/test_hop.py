# SPDX-License-Identifier: Apache-2.0
"""A running hop from files alone: application -> sidecar -> mTLS -> sidecar -> application."""

import secrets

import pytest
from harness.mesh import FileMesh

HTTP = r"""
import http.server, socket, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = ("hello " + self.path + "\n").encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); super().server_bind()
S(("::", int(sys.argv[1])), H).serve_forever()
"""


@pytest.fixture
def mesh(net, tmp_path):
    with FileMesh(net, tmp_path) as m:
        yield m


def test_a_request_crosses_the_hop_encrypted_by_vip_and_by_pod_address(mesh, net):
    orders = mesh.workload(net.host("a"), "orders", ports="8080/http")
    web = mesh.workload(net.host("b"), "web")
    vips = mesh.service("orders", {80: (8080, "http")}, [orders])
    orders.host.start_python(HTTP, "8080")
    orders.host.wait_port(8080)
    mesh.start()
    marker = secrets.token_hex(16)
    wire, lo = net.sniff("tcp"), orders.host.sniff("tcp", dev="lo")
    for url in (f"http://{vips[0]}/", f"http://[{vips[1]}]/", f"http://{orders.host.ip4}:8080/", f"http://[{orders.host.ip6}]:8080/"):
        r = web.host.run(["curl", "-sS", "-m", "10", "-g", url + marker])
        assert r.stdout == f"hello /{marker}\n"
    assert not wire.contains(marker.encode())
    assert lo.contains(marker.encode())

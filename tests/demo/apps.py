# SPDX-License-Identifier: Apache-2.0
"""The applications of the demo, as source that runs inside a host. None of them knows of a mesh."""

# orders VERSION LEDGER-IP: HTTP/1.1 on 8080; counts each order in redis at LEDGER-IP:6379 (a name would do the same).
ORDERS = r"""
import http.server, socket, sys, threading
version, ledger = sys.argv[1], sys.argv[2]
local = threading.local()
def incr():
    if not hasattr(local, "s"):
        local.s = socket.create_connection((ledger, 6379), 5)
    local.s.sendall(b"*2\r\n$4\r\nINCR\r\n$6\r\norders\r\n")
    return local.s.recv(64)[1:].split(b"\r")[0].decode()
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: two would wait 40 ms for each other (Nagle, delayed ACK), mesh or not
    def do_GET(self):
        n = incr() if self.path.startswith("/order") else "-"
        body = f"{version} order {n} {self.path}\n".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 256
Server(("::", 8080), App).serve_forever()
"""

# gRPC on 50051: one unary method that answers with what it was sent.
GRPC_SERVER = r"""
import grpc
from concurrent import futures
class Echo(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Echo(),))
server.add_insecure_port("[::]:50051")
server.start()
server.wait_for_termination()
"""

GRPC_CLIENT = r"""
import grpc, sys
with grpc.insecure_channel(sys.argv[1]) as channel:
    call = channel.unary_unary("/demo.Echo/Say")
    print(b" ".join(call(b"call-%d" % i, timeout=5) for i in range(3)).decode())
"""

# A mail server: it speaks first.
SMTP = r"""
import socket, threading
s = socket.create_server(("::", 2525), family=socket.AF_INET6, dualstack_ipv6=True)
def serve(c):
    c.sendall(b"220 mail.example ESMTP\r\n"); c.recv(100); c.sendall(b"221 bye\r\n"); c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""

SMTP_CLIENT = r"""
import socket, sys, time
took = []
for _ in range(2):
    began = time.monotonic(); c = socket.create_connection((sys.argv[1], 2525), 5); banner = c.recv(100)
    took.append((time.monotonic() - began) * 1000); c.sendall(b"QUIT\r\n"); c.recv(100); c.close()
print("%s, after %.0f ms the first time, %.1f ms then" % (banner.decode().strip(), *took))
"""

# calls IP COUNT PATH: GETs, 20 a connection; counts answers by their first word, failures as "failed".
CALLS = r"""
import collections, http.client, sys
seen, c = collections.Counter(), None
for i in range(int(sys.argv[2])):
    try:
        if c is None: c = http.client.HTTPConnection(sys.argv[1], 8080, timeout=5)
        c.request("GET", sys.argv[3]); r = c.getresponse(); body = r.read()
        seen[body.split()[0].decode() if r.status == 200 else "failed"] += 1
        if i % 20 == 19: c.close(); c = None
    except Exception:
        seen["failed"] += 1; c = None
print(*[f"{k}={v}" for k, v in sorted(seen.items())])
"""

# The same until a line comes in on stdin.
LOAD = CALLS.replace("import collections,", "import select, collections,").replace(
    "for i in range(int(sys.argv[2])):", "print('begun', flush=True)\ni = -1\nwhile not select.select([sys.stdin], [], [], 0)[0]:\n    i += 1")

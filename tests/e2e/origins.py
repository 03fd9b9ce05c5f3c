# SPDX-License-Identifier: Apache-2.0
"""What other servers make of what a sidecar passes on (SMG-18). The corpus of legal messages (tests/integ/harness/http1_corpus.py) and every message that the
parser's table refuses are sent to servers that Debian packages, each without a mesh and through two sidecars, with a request behind each. Root.

    origins.py [NAME...]        a line for each server; exit 1 on a discrepancy

A discrepancy is a legal message that the server, through the mesh, answers with another status, or understands as another method, target, fields or
body, than without one; or a request behind it that gets no answer of its own; or any byte of a refused message that the server has seen. How
many of the refused ones a server takes by itself is printed: that is what the strict parser spares it. A server that is missing is skipped."""

import contextlib
import json
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integ"))

from harness.http1 import Message, Origin, Peer  # noqa: E402
from harness.http1_corpus import ENTRIES, OK  # noqa: E402
from harness.mesh import FileMesh  # noqa: E402
from harness.netns import Net  # noqa: E402
from harness.rows import beginnings, rows  # noqa: E402
from harness.same import documented, told  # noqa: E402

ECHO = 9000
PROBE = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"

NGINX = """daemon off; worker_processes 1; pid %(dir)s/nginx.pid; error_log %(dir)s/nginx.err;
events { worker_connections 512; }
http { access_log off; client_body_temp_path %(dir)s; proxy_temp_path %(dir)s; fastcgi_temp_path %(dir)s; uwsgi_temp_path %(dir)s; scgi_temp_path %(dir)s;
       large_client_header_buffers 8 40k; default_type text/plain; underscores_in_headers on; ignore_invalid_headers off;
       server { listen %(port)d; client_max_body_size 1m; merge_slashes off;
                location / { proxy_pass http://127.0.0.1:%(echo)d; proxy_http_version 1.1; proxy_set_header Host $http_host; } } }
"""
HAPROXY = """global
    tune.bufsize 65536
    tune.http.maxhdr 200
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend f
    bind 0.0.0.0:%(port)d
    default_backend b
backend b
    server s 127.0.0.1:%(echo)d
"""
LIGHTTPD = """server.document-root = "%(dir)s"
server.port = %(port)d
server.bind = "0.0.0.0"
server.errorlog = "%(dir)s/lighttpd.err"
server.max-request-field-size = 65535
index-file.names = ( "index.html" )
"""
HTTP_SERVER = """
import http.server, json, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.any
        raise AttributeError(name)
    def chunks(self):
        out = b""
        while n := int(self.rfile.readline().split(b";")[0], 16):
            out += self.rfile.read(n)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return out
    def any(self):
        body = self.chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        out = json.dumps([self.command, self.path, sorted((k.lower(), v) for k, v in self.headers.items()), body.decode("latin-1")]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(out)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), H).serve_forever()
"""
NODE = """
require("http").createServer({maxHeaderSize: 65536}, (q, a) => { let b = []; q.on("data", d => b.push(d)); q.on("end", () => {
  const f = []; for (let i = 0; i < q.rawHeaders.length; i += 2) f.push([q.rawHeaders[i].toLowerCase(), q.rawHeaders[i + 1]]);
  const out = Buffer.from(JSON.stringify([q.method, q.url, f.sort(), Buffer.concat(b).toString("latin1")]));
  a.writeHead(200, {"Content-Length": out.length}); a.end(out); }); }).listen(+process.argv[2], "0.0.0.0");
"""


def file_in(folder, name, text):
    path = pathlib.Path(folder) / name
    path.write_text(text)
    return str(path)


# name: (program, argv by (folder, port))
SERVERS = {
    "nginx": ("nginx", lambda d, p: ["nginx", "-e", f"{d}/nginx.err", "-c", file_in(d, "nginx.conf", NGINX % {"dir": d, "port": p, "echo": ECHO})]),
    "haproxy": ("haproxy", lambda d, p: ["haproxy", "-db", "-f", file_in(d, "haproxy.cfg", HAPROXY % {"port": p, "echo": ECHO})]),
    "nghttpx": ("nghttpx", lambda d, p: ["nghttpx", "--conf=/dev/null", f"--frontend=0.0.0.0,{p};no-tls", f"--backend=127.0.0.1,{ECHO}", "--workers=1",
                                         "--request-header-field-buffer=65536", "--max-request-header-fields=200", "--no-ocsp", "--errorlog-file=/dev/null"]),
    "lighttpd": ("lighttpd", lambda d, p: ["lighttpd", "-D", "-f", file_in(d, "lighttpd.conf", LIGHTTPD % {"dir": d, "port": p})]),
    "http.server": ("/usr/bin/python3", lambda d, p: ["/usr/bin/python3", "-c", HTTP_SERVER, str(p)]),
    "node": ("node", lambda d, p: ["node", file_in(d, "echo.js", NODE), str(p)]),
}


def echo(p):
    """Behind the proxies among them: says what reached it."""
    with contextlib.suppress(OSError, EOFError, ValueError, TypeError, AttributeError):
        while m := p.read():
            fields = sorted((n.lower().decode("latin-1"), v.decode("latin-1")) for n, v in m.fields)
            method, target, _ = m.line.decode("latin-1").split(" ")
            out = json.dumps([method, target, fields, m.body.decode("latin-1")]).encode()
            p.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(out) + (b"" if method == "HEAD" else out))


def ends(pieces):
    """It says itself that nothing follows: then a request behind it is nobody's business."""
    head = b"".join(pieces).split(b"\r\n\r\n")[0].lower()
    return b" http/1.0" in head or b", close" in head or b"\r\nconnection: close" in head


def ask(host, address, port, pieces):
    """[(status, body)] of the message and of a request behind it; what does not come is missing."""
    method = pieces[0].lstrip().split(b" ")[0].decode("latin-1")
    out, behind = [], b"" if ends(pieces) else PROBE
    with Peer(host.connect(address, port), 1.5) as c, contextlib.suppress(OSError, EOFError, ValueError, TypeError, AttributeError):
        c.send(*pieces[:-1], pieces[-1] + behind, pause=0.02)
        for asked in (method, "GET") if behind else (method,):
            m = c.read(answer_to=asked)
            while m is not None and m.status < 200:
                m = c.read(answer_to=asked)
            if m is None:
                break
            out.append((m.status, m.body))
    return out


# What a server sees, or objects to, without a mesh and not with one, and why: rows of docs/hop.md's table of differences.
EXPLAINED = {
    "an absolute target with a query and no path": "its path is /",
    "an absolute target without a path": "its path is /",
    "an absolute target whose Host is spelt otherwise": "Host is the target's",
    "an absolute target in another case": "the scheme is in lower case",
    "an absolute target of HTTP/1.0 without Host": "Host is the target's",
    "a Host with an empty port": "it is left out",
    "HTTP/1.0 whose expectation is ignored": "it is left out",
    "an empty line before the request": "it is left out",
    "quoted chunk extensions are dropped": "extensions are nobody's meaning",
    "trailers that frame, route or authorize are dropped": "they are left out",
    "what Connection names ends at the sidecar": "it does",
    "Proxy-Connection ends at the sidecar": "it does",
    "an upgrade to h2c and its settings": "they end at the sidecar",
    "several Cookie fields": "they are one",
}
IGNORED = {"x-forwarded-for", "forwarded", "connection", "keep-alive", "content-length", "transfer-encoding", "te", "upgrade", "via", "cookie"}


def understood(body, client):
    """What an echo says that it was asked, as both ways must agree on it; else the body itself."""
    try:
        m, target, fields, content = json.loads(body)
    except (ValueError, UnicodeDecodeError):
        return body
    raw = Message(f"{m} {target} HTTP/1.1".encode("latin-1"), [(n.encode("latin-1"), v.encode("latin-1", "replace")) for n, v in fields], "none", b"", [])
    t = told(raw) if client is None else documented(raw, client)
    return (t.line, t.framing["host"], sorted((n, v) for n, v in t.fields if n.decode("latin-1").lower() not in IGNORED), content)


def legal(host, app, vip, port):
    """(discrepancies of the legal messages, how many more are explained, how many were sent)."""
    wrong, explained, n = [], 0, 0
    for e in ENTRIES:
        if e.answer != OK or any(f.split(b":")[0].lower().startswith(b"x-weft") for f in b"".join(e.ask).split(b"\r\n")):
            continue
        n += 1
        direct, mesh = ask(app, "127.0.0.1", port, e.ask), ask(host, vip, port, e.ask)
        what = ""
        if [s for s, _ in direct] != [s for s, _ in mesh]:
            what = f"{[s for s, _ in direct]} without, {[s for s, _ in mesh]} with a mesh"
        elif direct and direct[0][0] == 200:
            a, b = (understood(x[0][1], web) for x, web in ((direct, host.ip4.encode()), (mesh, None)))
            if a != b:
                what = f"understood as {str(a)[:300]} without, {str(b)[:300]} with a mesh"
        if what and e.claim in EXPLAINED:
            explained += 1
        elif what:
            wrong.append(f"{e.claim}: {what}")
    return wrong, explained, n


def refused(host, app, vip, port):
    """(of the refused ones those that went through, how many the server takes by itself, how many were sent)."""
    table = [r for r in rows("tests/unit/lib/http1_requests.tbl.h", beginnings("tests/unit/lib/http1_test.c")) if r.kind != "OK"]
    table = [r for r in table if r.claim not in ("a TLS ClientHello", "the preface of HTTP/2")]
    wrong, alone = [], 0
    for r in table:
        direct = ask(app, "127.0.0.1", port, [r.data])
        alone += bool(direct) and direct[0][0] < 400
        mesh = ask(host, vip, port, [r.data])
        if mesh and (mesh[0][0] < 400 or len(mesh) > 1):
            wrong.append(f"{r.claim}: {[s for s, _ in mesh]} through the mesh")
    return wrong, alone, len(table)


def main(*names):
    names = names or tuple(SERVERS)
    ports = {n: 8001 + i for i, n in enumerate(SERVERS)}
    failed = 0
    with Net() as net, tempfile.TemporaryDirectory() as tmp, FileMesh(net, tmp) as mesh:
        app, web = net.host("app"), net.host("web")
        orders = mesh.workload(app, "orders", ports=",".join(f"{p}/http" for p in ports.values()))
        client = mesh.workload(web, "web")
        vip = mesh.service("orders", {p: (p, "http") for p in ports.values()}, [orders])[0]
        folder = tempfile.mkdtemp(dir=tmp)
        pathlib.Path(folder, "index.html").write_text("index")
        pathlib.Path(folder).chmod(0o777)
        mesh.start()
        with Origin(app, ECHO, echo, keep=False):
            for name in names:
                program, argv = SERVERS[name]
                if shutil.which(program) is None:
                    print(f"{name}: skipped, {program} is not installed")
                    continue
                port = ports[name]
                app.popen(argv(folder, port))
                app.wait_port(port)
                wrong, explained, n = legal(web, app, vip, port)
                through, alone, bad = refused(web, app, vip, port)
                failed += bool(wrong or through)
                print(f"{name}: {n} legal messages, {len(wrong)} discrepancies, {explained} documented differences; {bad} refused messages, {len(through)} passed; "
                      f"by itself it takes {alone} of them", flush=True)
                for w in wrong + through:
                    print(f"    {w}")
        died = [w.name for w in (orders, client) if "worker_died" in w.log()]
        if died:
            print(f"a worker died: {died}")
        return 1 if died or failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

# SPDX-License-Identifier: Apache-2.0
"""The proxies beside Weft on the ladder: Debian's nginx, haproxy and nghttpx, each twice as a two-hop mTLS chain that does what two sidecars do:
TLS 1.3, P-256, certificates verified on both sides and the server's name checked, keep-alive and pooling upstream, one worker, no access log.

    start(net, name, proto, port, tmp, ca, origin) -> pids, or None where the peer cannot speak the protocol

The client's side listens in plaintext on 127.0.0.1:port of host `client`, the server's on port + 1 of host `server`, whose origin it goes to."""

import pathlib

from cryptography import x509
from usage import on_core

NAME = "relay.bench"
OPAQUE = ("tcp", "bulk")

NGINX = """
worker_processes 1; daemon off; pid {dir}/pid; error_log stderr crit; {modules}
events {{ worker_connections 8192; }}
{body}
"""
NGINX_HTTP = """
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; default_type text/plain;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream next {{ server {next}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen {listen}; {tls_in}
    location / {{ {how} {tls_out} }} }} }}
"""
NGINX_TLS_IN = ("ssl_certificate {crt}; ssl_certificate_key {key}; ssl_client_certificate {roots}; ssl_verify_client on; ssl_verify_depth 3; "
                "ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;")
NGINX_TLS_OUT = ("{p}_ssl_certificate {crt}; {p}_ssl_certificate_key {key}; {p}_ssl_trusted_certificate {roots}; {p}_ssl_verify on; "
                 "{p}_ssl_verify_depth 3; {p}_ssl_name {name}; {p}_ssl_server_name on; {p}_ssl_protocols TLSv1.3; {p}_ssl_session_reuse off;")
HAPROXY = """
global
  nbthread 1
  maxconn 8192
  tune.ssl.cachesize 0
defaults
  mode {mode}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  {reuse}
frontend in
  bind {listen}
  default_backend next
backend next
  server next {next}
"""


def _certs(ca, tmp, name):
    crt, key, roots = ca.leaf("bench", name, others=[x509.DNSName(NAME)]).write(tmp, f"peer-{name}")
    both = pathlib.Path(tmp) / f"peer-{name}.pem"
    both.write_text(pathlib.Path(crt).read_text() + pathlib.Path(key).read_text())
    return {"crt": crt, "key": key, "roots": roots, "both": str(both), "name": NAME}


def _folder(tmp, name):
    d = pathlib.Path(tmp) / name
    d.mkdir()
    return d


def _nginx_body(proto, side, listen, nxt, c, d):
    tls_in = NGINX_TLS_IN.format(**c) if side == "server" else ""
    if proto in OPAQUE:
        out = "" if side == "server" else "proxy_ssl on; " + NGINX_TLS_OUT.format(p="proxy", **c)
        return f"stream {{ server {{ listen {listen}{' ssl' if side == 'server' else ''}; {tls_in} proxy_pass {nxt}; {out} }} }}"
    p = "grpc" if proto == "grpc" else "proxy"
    scheme = {("proxy", "client"): "https", ("proxy", "server"): "http", ("grpc", "client"): "grpcs", ("grpc", "server"): "grpc"}[p, side]
    how = f"{p}_pass {scheme}://next;" + (' proxy_http_version 1.1; proxy_set_header Connection "";' if p == "proxy" else "")
    flags = (" ssl" if side == "server" else "") + (" http2" if proto == "grpc" else "")
    return NGINX_HTTP.format(dir=d, next=nxt, listen=listen + flags, tls_in=tls_in, how=how,
                             tls_out=NGINX_TLS_OUT.format(p=p, **c) if side == "client" else "")


def nginx(proto, side, listen, nxt, tmp, c):
    if proto == "h2c":
        return None  # it speaks HTTP/1.1 to its upstreams
    d = _folder(tmp, f"nginx-{proto}-{side}")
    modules = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;" if proto in OPAQUE else ""
    (d / "conf").write_text(NGINX.format(dir=d, modules=modules, body=_nginx_body(proto, side, listen, nxt, c, d)))
    return ["nginx", "-c", str(d / "conf"), "-p", str(d)]


def haproxy(proto, side, listen, nxt, tmp, c):
    d = _folder(tmp, f"haproxy-{proto}-{side}")
    h2 = proto in ("h2c", "grpc")
    hop_alpn = "" if proto in OPAQUE else " alpn h2"
    if side == "client":
        bind = listen + (" proto h2" if h2 else "")
        to = f"{nxt} ssl crt {c['both']} ca-file {c['roots']} verify required verifyhost {NAME} sni str({NAME}) ssl-min-ver TLSv1.3 no-tls-tickets{hop_alpn}"
    else:
        bind = f"{listen} ssl crt {c['both']} ca-file {c['roots']} verify required ssl-min-ver TLSv1.3 no-tls-tickets{hop_alpn}"
        to = nxt + (" proto h2" if h2 else "")
    (d / "conf").write_text(HAPROXY.format(mode="tcp" if proto in OPAQUE else "http", reuse="" if proto in OPAQUE else "http-reuse always",
                                           listen=bind, next=to))
    return ["haproxy", "-f", str(d / "conf")]


def nghttpx(proto, side, listen, nxt, tmp, c):
    if proto in OPAQUE:
        return None
    host, port = listen.rsplit(":", 1)
    nhost, nport = nxt.rsplit(":", 1)
    argv = ["nghttpx", "--workers=1", "--accesslog-file=/dev/null", "--errorlog-file=/dev/stderr", "--log-level=FATAL", "--no-ocsp", "--conf=/dev/null",
            "--tls-min-proto-version=TLSv1.3", "--tls-no-postpone-early-data", "--no-http2-cipher-block-list"]
    if side == "client":
        return argv + [f"--frontend={host},{port};no-tls", f"--backend={nhost},{nport};;proto=h2;tls;sni={NAME}", f"--cacert={c['roots']}",
                       f"--client-cert-file={c['crt']}", f"--client-private-key-file={c['key']}"]
    proto_next = "h2" if proto in ("h2c", "grpc") else "http/1.1"
    return argv + [f"--frontend={host},{port}", f"--backend={nhost},{nport};;proto={proto_next}", "--verify-client",
                   f"--verify-client-cacert={c['roots']}", c["key"], c["crt"]]


PEERS = {"nginx": nginx, "haproxy": haproxy, "nghttpx": nghttpx}


def start(net, name, proto, port, tmp, ca, origin):
    a, b = net.hosts["client"], net.hosts["server"]
    certs = _certs(ca, tmp, f"{name}-{proto}")
    server = PEERS[name](proto, "server", f"{b.ip4}:{port + 1}", f"127.0.0.1:{origin}", tmp, certs)
    client = PEERS[name](proto, "client", f"127.0.0.1:{port}", f"{b.ip4}:{port + 1}", tmp, certs)
    if server is None or client is None:
        return None
    s = b.popen(on_core(1, server))
    b.wait_port(port + 1)
    c = a.popen(on_core(1, client))
    a.wait_port(port)
    return [s.pid, c.pid]

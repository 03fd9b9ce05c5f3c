# SPDX-License-Identifier: Apache-2.0
"""A scripted control plane on grpcio, which is not ours: serves Issue, delta xDS and Talk with TLS, exactly what a test tells it to.

    mesh = ScriptedMesh(net, tmp_path)
    c = mesh.start_control()                                   # on a host of its own
    orders = mesh.workload(net.host("a"), "orders-1", sa="orders", ports="8080/http")
    c.mesh(); c.self("orders-1", "orders", ports={8080: "HTTP"})
    c.service("shop/orders", "10.99.1.1", {80: "HTTP"}, version="s1")
    c.endpoints("shop/orders", "10.99.1.1", [(ip, identity, {80: 8080})])
    c.manifest("shop/orders", "10.99.1.1", service_version="s1")   # leave it out: the service stays withheld
    c.wait("register", instance="orders-1")                    # what proxies said, by event

Run as a program it is the server: commands as JSON lines on stdin, events as JSON lines on stdout."""

import base64
import ipaddress
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

HERE = pathlib.Path(__file__).resolve()
ROOT = HERE.parents[3]
sys.path.insert(0, str(HERE.parents[1]))

from harness import pki  # noqa: E402
from harness.mesh import _Base  # noqa: E402
from harness.netns import wait_until  # noqa: E402

TRUST_DOMAIN = "weft.test"
PREFIX = "type.googleapis.com/weft.v1."
ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"


# --- the server, in a process of its own ---


def messages():
    """Modules of the two .proto files, made by protoc for this run."""
    out = tempfile.mkdtemp()
    subprocess.run(["protoc", f"--proto_path={ROOT}", f"--python_out={out}", "lib/proto/weft.proto", "lib/proto/xds.proto"], check=True)
    sys.path.insert(0, out)
    from lib.proto import weft_pb2, xds_pb2
    return weft_pb2, xds_pb2


class Server:
    def __init__(self, address, out=sys.stdout):
        import grpc
        self.grpc = grpc
        self.weft, self.xds = messages()
        self.out, self.lock = out, threading.RLock()
        self.resources = {}  # type name -> {key: (name, version, aliases, bytes)}; key is the name, for Self "self@instance"
        self.streams = []    # queues of open streams
        self.life, self.refuse_issue, self.refuse_register, self.silent = 3600, None, None, False
        self.ca = pki.Authority(TRUST_DOMAIN)
        self.spent = set()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=64))
        own = self.ca.leaf("weft-system", "weftd", with_root=True)
        credentials = grpc.ssl_server_credentials([(own.key.encode(), own.cert.encode())])
        self.server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler("weft.v1.Identity", {"Issue": grpc.unary_unary_rpc_method_handler(
                self.issue, self.weft.IssueRequest.FromString, self.weft.IssueResponse.SerializeToString)}),
            grpc.method_handlers_generic_handler("weft.v1.Link", {"Talk": grpc.stream_stream_rpc_method_handler(
                self.talk, self.weft.LinkUp.FromString, self.weft.LinkDown.SerializeToString)}),
            grpc.method_handlers_generic_handler(ADS, {"DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                self.ads, self.xds.DeltaDiscoveryRequest.FromString, self.xds.DeltaDiscoveryResponse.SerializeToString)})))
        self.server.add_secure_port(address, credentials)
        self.server.start()
        self.say(ev="up", root_hash=self.ca.root_hash.hex())

    def say(self, **event):
        with self.lock:
            self.out.write(json.dumps(event) + "\n")
            self.out.flush()

    # Identity/Issue
    def sign(self, key, ns, sa):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        ca = self.ca
        cert = (x509.CertificateBuilder().serial_number(x509.random_serial_number()).subject_name(x509.Name([]))
                .issuer_name(ca.issuer.subject).public_key(key).not_valid_before(pki._utc(-60)).not_valid_after(pki._utc(self.life))
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.issuer_key.public_key()), False)
                .add_extension(x509.BasicConstraints(False, None), True)
                .add_extension(pki._key_usage("digital_signature"), True)
                .add_extension(x509.ExtendedKeyUsage([pki.SERVER, pki.CLIENT]), False)
                .add_extension(x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(pki.spiffe_id(TRUST_DOMAIN, ns, sa))]), True)
                .sign(ca.issuer_key, hashes.SHA256()))
        return cert

    def issue(self, request, context):
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        with self.lock:
            how = "token" if request.token else "rejoin" if request.rejoin else "renew"
            self.say(ev="issue", how=how, instance=request.instance, secret=request.rejoin)
            if self.refuse_issue:
                context.abort(self.grpc.StatusCode.PERMISSION_DENIED, self.refuse_issue)
            if how == "rejoin" and not request.rejoin.startswith("rejoin-"):
                context.abort(self.grpc.StatusCode.PERMISSION_DENIED, "this rejoin secret is not known")
            sa = self.accounts[request.instance] if request.instance in self.accounts else request.instance
            csr = x509.load_der_x509_csr(request.csr)
            cert = self.sign(csr.public_key(), "shop", sa)
            der = serialization.Encoding.DER
            self.secrets += 1
            return self.weft.IssueResponse(
                chain=[cert.public_bytes(der), self.ca.issuer.public_bytes(der)], roots=[self.ca.root.public_bytes(der)],
                identity=pki.spiffe_id(TRUST_DOMAIN, "shop", sa), not_after=int(time.time()) + self.life, trust_domain=TRUST_DOMAIN,
                rejoin="" if how == "renew" else f"rejoin-{self.secrets}", cidrs=[])

    accounts, secrets = {}, 0

    # Link/Talk
    def talk(self, requests, context):
        for m in requests:
            kind = m.WhichOneof("kind")
            if kind == "register":
                r = m.register
                self.say(ev="register", instance=r.instance, labels={p.key: p.value for p in r.labels}, version=r.version, zone=r.zone,
                         ports=[[p.port, p.protocol] for p in r.ports], peer=context.peer())
                if self.refuse_register:
                    yield self.weft.LinkDown(refused=self.weft.Refused(reason=self.refuse_register))
                else:
                    yield self.weft.LinkDown(registered=self.weft.Registered(workload="shop/" + r.instance, lease_s=15, address=b"\x7f\0\0\1"))
            elif kind == "heartbeat":
                self.say(ev="heartbeat", sequence=m.heartbeat.sequence)
                if not self.silent:
                    yield self.weft.LinkDown(heartbeat_ack=self.weft.HeartbeatAck(sequence=m.heartbeat.sequence, now_ms=int(time.time() * 1000)))
            else:
                self.say(ev="goodbye")

    # delta xDS
    def ads(self, requests, context):
        q = queue.Queue()
        stream = {"queue": q, "subs": {}, "known": {}, "node": "", "nonce": 0}
        with self.lock:
            self.streams.append(stream)

        def read():
            try:
                for r in requests:
                    q.put(("request", r))
            except Exception:  # the stream is over
                pass
            q.put(("end", None))
        threading.Thread(target=read, daemon=True).start()
        try:
            while True:
                what, r = q.get()
                if what == "end":
                    return
                if what == "drop":
                    context.abort(self.grpc.StatusCode.UNAVAILABLE, "dropped by the test")
                force = set()
                if what == "request":
                    self.take(stream, r, force)
                with self.lock:
                    yield from list(self.due(stream, force))
        finally:
            with self.lock:
                self.streams.remove(stream)

    def take(self, stream, r, force):
        t = r.type_url[len(PREFIX):]
        stream["node"] = r.node.id or stream["node"]
        subs, known = stream["subs"].setdefault(t, set()), stream["known"].setdefault(t, {})
        initial = {p.key: p.value for p in r.initial_resource_versions}
        known.update(initial)
        subs.update(r.resource_names_subscribe)
        subs.difference_update(r.resource_names_unsubscribe)
        if not initial:
            force.update((t, n) for n in r.resource_names_subscribe)
        self.say(ev="request", node=stream["node"], type=t, subscribe=list(r.resource_names_subscribe), unsubscribe=list(r.resource_names_unsubscribe),
                 initial=initial, nonce=r.response_nonce, error=r.error_detail.message if r.HasField("error_detail") else None)

    def find(self, stream, t, name):
        if name == "self":
            return self.resources.get(t, {}).get("self@" + stream["node"])
        for res in self.resources.get(t, {}).values():
            if name == res[0] or name in res[2]:
                return res
        return None

    def due(self, stream, force):
        """Responses with what this stream does not have yet."""
        for t, subs in stream["subs"].items():
            known, send, gone, seen = stream["known"][t], {}, [], set()
            for name in sorted(subs):
                res = self.find(stream, t, name)
                if res is None:
                    if known.get(name) != "nothing" or (t, name) in force:
                        gone.append(name)
                        known[name] = "nothing"
                    continue
                known.pop(name, None) if known.get(name) == "nothing" else None
                seen.add(res[0])
                if known.get(res[0]) != res[1] or (t, name) in force:
                    send[res[0]] = res
            gone += [n for n, v in known.items() if v != "nothing" and n not in seen and n not in gone]
            for n in gone:
                if known.get(n) != "nothing":
                    known.pop(n, None)
            if not send and not gone:
                continue
            stream["nonce"] += 1
            out = self.xds.DeltaDiscoveryResponse(type_url=PREFIX + t, nonce=str(stream["nonce"]), removed_resources=gone)
            for name, version, aliases, body in send.values():
                known[name] = version
                out.resources.add(name=name, version=version, aliases=aliases,
                                  resource=self.xds.Any(type_url=PREFIX + t, value=body))
            yield out

    # commands
    def do(self, c):
        with self.lock:
            if c["do"] == "set":
                from google.protobuf import json_format
                body = getattr(self.weft, c["type"])()
                json_format.ParseDict(c["body"], body)
                key = "self@" + c["instance"] if c["type"] == "Self" else c["name"]
                self.resources.setdefault(c["type"], {})[key] = (c["name"], c["version"], c["aliases"],
                                                                 body.SerializeToString() + bytes.fromhex(c.get("extra", "")))
            elif c["do"] == "remove":
                self.resources.get(c["type"], {}).pop(c["name"], None)
            elif c["do"] == "options":
                for k, v in c["values"].items():
                    setattr(self, k, v)
            for s in self.streams:
                if c["do"] == "drop":
                    s["queue"].put(("drop", None))
                elif not c.get("hold"):
                    s["queue"].put(("changed", None))


def serve(address):
    server = Server(address)
    for line in sys.stdin:
        server.do(json.loads(line))
    server.server.stop(None)


# --- the test's side ---


def packed(ip):
    return base64.b64encode(ipaddress.ip_address(ip).packed).decode()


class Control:
    """The server on one host. Every method that sets a resource pushes it at once, unless hold=True (then with the next)."""

    def __init__(self, host, port=4810):
        self.host, self.port = host, port
        self.root_hash = None
        self.start()

    def start(self):
        self.events, self.seen = [], 0
        argv = self.host.command([sys.executable, str(HERE), f"[::]:{self.port}"])
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "GRPC_VERBOSITY": "ERROR"})
        threading.Thread(target=self._read, daemon=True).start()
        self.root_hash = self.wait("up")["root_hash"]

    def _read(self):
        for line in self.proc.stdout:
            self.events.append(json.loads(line))

    def stop(self):
        self.proc.kill()
        self.proc.wait()

    def _do(self, **c):
        self.proc.stdin.write(json.dumps(c) + "\n")
        self.proc.stdin.flush()

    def found(self, ev, **fields):
        return [e for e in list(self.events) if e["ev"] == ev and all(e.get(k) == v for k, v in fields.items())]

    def wait(self, ev, timeout=10.0, count=1, **fields):
        """The count-th event of this kind with these fields."""
        def there():
            assert self.proc.poll() is None, f"the scripted control plane ended with {self.proc.returncode}"
            return len(self.found(ev, **fields)) >= count
        wait_until(there, timeout, f"event {ev} {fields} number {count}")
        return self.found(ev, **fields)[count - 1]

    def options(self, **values):
        """life, refuse_issue, refuse_register, silent, accounts."""
        self._do(do="options", values=values)

    def drop(self):
        self._do(do="drop")

    def set(self, kind, name, version, body, aliases=(), instance=None, extra="", hold=False):
        self._do(do="set", type=kind, name=name, version=version, body=body, aliases=[f"addr:{a}" for a in aliases], instance=instance,
                 extra=extra, hold=hold)

    def remove(self, kind, name):
        self._do(do="remove", type=kind, name=name)

    def mesh(self, cidrs=("10.99.0.0/16", "fd00:99::/64", "240.0.0.0/4"), version="mesh1", trust_domain=TRUST_DOMAIN):
        nets = [ipaddress.ip_network(c) for c in cidrs]
        self.set("MeshConfig", "mesh", version, {"trustDomain": trust_domain, "cidrs": [
            {"address": packed(n.network_address), "bits": n.prefixlen} for n in nets]})

    def self(self, instance, sa, ports=None, version="self1"):
        self.set("Self", "self", version, {"name": instance, "namespace": "shop", "serviceAccount": sa, "ports": [
            {"port": p, "protocol": proto} for p, proto in (ports or {}).items()]}, instance=instance)

    def service(self, name, vip, ports, version, **more):
        ns, _, base = name.partition("/")
        self.set("Service", name, version, {"name": base, "namespace": ns, "vips": [packed(vip)], "ports": [
            {"port": p, "protocol": proto} for p, proto in ports.items()]}, [vip], **more)

    def endpoints(self, name, vip, endpoints, version="e1", **more):
        """endpoints: (address, identity or None, {service port: port})."""
        self.set("Endpoints", name, version, {"service": name, "endpoints": [
            {"address": packed(ip), "identity": identity or "", "meshed": bool(identity), "ports": [
                {"servicePort": s, "port": p} for s, p in ports.items()]} for ip, identity, ports in endpoints]}, [vip], **more)

    def manifest(self, name, vip, service_version, version=None, more_entries=(), **more):
        entries = [{"typeUrl": PREFIX + "Service", "name": name, "version": service_version}, *more_entries]
        self.set("Manifest", name, version or "m-" + service_version, {"service": name, "entries": entries}, [vip], **more)

    def address(self, name, ip, identity, ports=None, version="w1"):
        ns, _, base = name.partition("/")
        self.set("Workload", name, version, {"name": base, "namespace": ns, "addresses": [packed(ip)], "identity": identity or "",
                                             "meshed": bool(identity), "ports": [{"port": p, "protocol": q} for p, q in (ports or {}).items()]}, [ip])

    def token(self, sa, ns="shop", server="", cidrs="", root_hash=None, trust_domain=TRUST_DOMAIN):
        text = json.dumps({"id": os.urandom(16).hex(), "secret": os.urandom(32).hex(), "root": root_hash or self.root_hash,
                           "trust_domain": trust_domain, "namespace": ns, "service_account": sa, "not_after": int(time.time()) + 3600,
                           "server": server or f"{self.host.ip4}:{self.port}", "cidrs": cidrs})
        return "weft1." + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


class ScriptedMesh(_Base):
    """Sidecars under weft-capture that join the scripted control plane."""

    control = None

    def start_control(self, host=None):
        self.control = Control(host or self.net.host("control"))
        return self.control

    def join_args(self, w):
        path = self.tmp / f"{w.name}.token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(w.token or self.control.token(w.sa, w.ns))
        control = [] if "--control" in w.extra else ["--control", f"{self.control.host.ip4}:{self.control.port}"]
        return ["--token-file", str(path), *control]

    def proxy_args(self, w):
        return []

    def close(self):
        try:
            super().close()
        finally:
            if self.control is not None:
                self.control.stop()


if __name__ == "__main__":
    serve(sys.argv[1])

# SPDX-License-Identifier: Apache-2.0
"""A proxy's control side as somebody else would write it: python3-grpcio and protobuf messages made from lib/proto, nothing of ours.

    p = XdsProxy(host, mesh, "orders-1", sa="orders")    # a process inside the host, so that its links have the host's address
    p.join(token)                                        # Identity/Issue; p.issue(...) where a refusal is expected
    p.talk(labels={"app": "orders"}, ports=[(8080, "HTTP")])
    p.open()                                             # the push stream; answers with ACK unless auto=False
    p.subscribe("addr:240.0.0.1")                        # under Service, Endpoints, Manifest and Workload, as a proxy does
    push = p.wait_push("Service", name="shop/orders")

The same file is the child: commands come in as JSON lines, what happens goes out as JSON lines."""

import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
PYTHON = "/usr/bin/python3"
ON_DEMAND = ("Service", "Endpoints", "Manifest", "Workload")


class XdsProxy:
    def __init__(self, host, mesh, instance, ns="shop", sa=None, port=4810):
        self.host, self.mesh, self.instance, self.ns, self.sa = host, mesh, instance, ns, sa or instance
        self.server = f"{mesh.control.ip4}:{port}"
        self.child = None
        self.talks = 0
        self.start()

    def start(self):
        self.stderr = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen(self.host.command([PYTHON, "-u", __file__, self.server, str(self.mesh.config), self.instance]),
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr, text=True)
        self.events, self._lines, self._cond = [], 0, threading.Condition()
        threading.Thread(target=self._read, args=(self.child,), daemon=True).start()
        self.wait(lambda e: e["event"] == "up")

    def _read(self, child):
        for line in child.stdout:
            with self._cond:
                self.events.append(json.loads(line))
                self._cond.notify_all()

    def do(self, op, **args):
        self.child.stdin.write(json.dumps({"op": op, **args}) + "\n")
        self.child.stdin.flush()

    def wait(self, match, timeout=10.0, after=0):
        """The first event from number `after` on that matches. AssertionError with all that came otherwise."""
        end = time.monotonic() + timeout
        with self._cond:
            at = after
            while True:
                while at < len(self.events):
                    if match(self.events[at]):
                        return self.events[at]
                    at += 1
                left = end - time.monotonic()
                if left <= 0 or not self._cond.wait(left):
                    if time.monotonic() >= end:
                        seen = "\n".join(json.dumps(e)[:400] for e in self.events[after:])
                        self.stderr.seek(0)
                        raise AssertionError(f"{self.instance}: not within {timeout} s; seen since {after}:\n{seen}\n{self.stderr.read()[-2000:]}")

    def mark(self):
        """A number for `after`: events so far."""
        with self._cond:
            return len(self.events)

    def issue(self, **args):
        """One Issue call; the event "issued" or "refused"."""
        at = self.mark()
        self.do("issue", **args)
        return self.wait(lambda e: e["event"] in ("issued", "refused"), after=at)

    def join(self, token):
        e = self.issue(token=token)
        assert e["event"] == "issued", e
        return e

    def talk(self, labels=None, ports=(), addresses=(), instance=None, beat=1.0, expect="registered"):
        at = self.mark()
        self.talks += 1
        self.do("talk", id=self.talks, instance=instance or self.instance, labels=list((labels or {}).items()), ports=list(ports),
                addresses=list(addresses), beat=beat)
        e = self.wait(lambda e: e["event"] in ("registered", "register_refused", "talk_end") and e["id"] == self.talks, after=at)
        assert e["event"] == expect, e
        return e

    def open(self, auto=True, node=None, bare=False):
        """The push stream. bare: without a client certificate."""
        self.do("open", auto=auto, node=self.instance if node is None else node, bare=bare)

    def request(self, type, subscribe=(), unsubscribe=(), initial=None, nonce="", error=None):
        self.do("request", type=type, subscribe=list(subscribe), unsubscribe=list(unsubscribe), initial=initial or {}, nonce=nonce, error=error)

    def subscribe(self, *names, types=ON_DEMAND, initial=None):
        for t in types:
            self.request(t, subscribe=names, initial=(initial or {}).get(t))

    def wait_push(self, type, name=None, removed=None, after=0, timeout=10.0, match=None):
        """The first resource of this name that satisfies match(body), or response that removes `removed`."""
        found = []

        def look(e):
            if e["event"] != "push" or e["type"] != type:
                return False
            if removed is not None:
                found[:] = [e]
                return removed in e["removed"]
            for r in e["resources"]:
                if r["name"] == name and (match is None or match(r["body"])):
                    found[:] = [r]
                    return True
            return False

        self.wait(look, timeout, after)
        return found[0]

    def pushes(self, type=None, after=0):
        with self._cond:
            return [e for e in self.events[after:] if e["event"] == "push" and type in (None, e["type"])]

    def sync(self, after=None):
        """Whatever was due before now has come: a name that nobody has is asked for and answered."""
        at = self.mark()
        name = f"sync/{at}"
        self.request("Workload", subscribe=[name])
        self.wait_push("Workload", removed=name, after=at)
        self.request("Workload", unsubscribe=[name])
        return at

    def kill(self):
        """As a crash: no goodbye, the connections end with the process."""
        self.child.kill()
        self.child.wait()

    def close(self):
        if self.child.poll() is None:
            self.kill()
        self.child.stdin.close()
        self.child.stdout.close()


# --- the child ---


def child(server, config, instance):
    import datetime
    import ipaddress
    import warnings

    warnings.simplefilter("ignore")
    import grpc
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["protoc-c", f"--descriptor_set_out={tmp}/d", "--proto_path=.", "lib/proto/weft.proto", "lib/proto/xds.proto"],
                       cwd=ROOT, check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(tmp, "d").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for f in files.file:
        pool.Add(f)
    factory = message_factory.MessageFactory(pool)
    weft = lambda name: factory.GetPrototype(pool.FindMessageTypeByName(f"weft.v1.{name}"))
    xds = lambda name: factory.GetPrototype(pool.FindMessageTypeByName(f"envoy.service.discovery.v3.{name}"))
    root = json.load(open(config))["root"].encode()
    lock = threading.Lock()

    def say(event, **more):
        with lock:
            print(json.dumps({"event": event, **more}), flush=True)

    class State:
        key = chain = channel = rejoin = None
        ads = talk = None
        beat = None

    st = State()

    def channel(bare=False):
        pem = None if bare or not st.chain else st.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        cred = grpc.ssl_channel_credentials(root, pem, None if pem is None else st.chain)
        return grpc.secure_channel(server, cred, [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)])

    def method(ch, path, ask, answer, kind="stream_stream"):
        return getattr(ch, kind)(path, request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
                                 response_deserializer=answer.FromString)

    def do_issue(c):
        key = ec.generate_private_key(ec.SECP256R1())
        name = [x509.NameAttribute(x509.NameOID.COMMON_NAME, c["common_name"])] if c.get("common_name") else []
        b = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(name))
        if c.get("uris"):  # an identity that the request would like to have
            b = b.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in c["uris"]]), True)
        csr = b.sign(key, hashes.SHA256())
        req = weft("IssueRequest")(csr=csr.public_bytes(serialization.Encoding.DER), token=c.get("token", ""), rejoin=c.get("rejoin", ""),
                                   instance=c.get("instance", instance), version="weft-proxy 0.1.0")
        ch = channel(bare=bool(c.get("token") or c.get("rejoin")))
        try:
            a = method(ch, "/weft.v1.Identity/Issue", None, weft("IssueResponse"), "unary_unary")(req, timeout=10)
        except grpc.RpcError as e:
            return say("refused", code=e.code().name, text=e.details())
        finally:
            ch.close()
        st.key = key
        st.chain = b"".join(x509.load_der_x509_certificate(d).public_bytes(serialization.Encoding.PEM) for d in a.chain)
        leaf = x509.load_der_x509_certificate(a.chain[0])
        say("issued", identity=a.identity, rejoin=a.rejoin, not_after=a.not_after, trust_domain=a.trust_domain,
            sans=leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
                x509.UniformResourceIdentifier), subject=leaf.subject.rfc4514_string())

    def link():
        if st.channel is None:
            st.channel = channel()
        return st.channel

    def feed(q):
        while (m := q.get()) is not None:
            yield m

    def watch_talk(call, q, id):
        try:
            for m in call:
                kind = m.WhichOneof("kind")
                if kind == "registered":
                    say("registered", id=id, workload=m.registered.workload, lease_s=m.registered.lease_s,
                        address=str(ipaddress.ip_address(m.registered.address)))
                elif kind == "refused":
                    say("register_refused", id=id, reason=m.refused.reason)
                else:
                    say("beat", sequence=m.heartbeat_ack.sequence, now_ms=m.heartbeat_ack.now_ms)
            say("talk_end", id=id, code="OK", text="")
        except grpc.RpcError as e:
            say("talk_end", id=id, code=e.code().name, text=e.details())
        q.put(None)

    def do_talk(c):
        q = queue.Queue()
        st.talk = q
        up, reg = weft("LinkUp"), weft("Register")(instance=c["instance"], version="weft-proxy 0.1.0")
        for k, v in c["labels"]:
            reg.labels.add(key=k, value=v)
        for port, protocol in c["ports"]:
            reg.ports.add(port=port, protocol=protocol)
        reg.addresses.extend(ipaddress.ip_address(a).packed for a in c["addresses"])
        q.put(up(register=reg))
        call = method(link(), "/weft.v1.Link/Talk", up, weft("LinkDown"))(feed(q))
        threading.Thread(target=watch_talk, args=(call, q, c["id"]), daemon=True).start()

        def beats(n=0):
            while st.talk is q:
                time.sleep(c["beat"])
                n += 1
                if st.talk is q and st.beat is not False:
                    q.put(up(heartbeat=weft("Heartbeat")(sequence=n)))

        if c["beat"]:
            threading.Thread(target=beats, daemon=True).start()

    def do_goodbye(c):
        st.talk.put(weft("LinkUp")(goodbye=weft("Goodbye")()))
        st.talk.put(None)

    def do_beat(c):
        st.beat = c["on"]

    prefix = "type.googleapis.com/weft.v1."
    Request = xds("DeltaDiscoveryRequest")

    def watch_ads(call, q, auto):
        try:
            for m in call:
                t = m.type_url[len(prefix):] if m.type_url.startswith(prefix) else m.type_url
                say("push", type=t, nonce=m.nonce, removed=list(m.removed_resources), resources=[
                    {"name": r.name, "version": r.version, "aliases": list(r.aliases), "type_url": r.resource.type_url,
                     "body": json_format.MessageToDict(weft(t).FromString(r.resource.value), including_default_value_fields=True,
                                                       preserving_proto_field_name=True)} for r in m.resources])
                if auto:
                    q.put(Request(type_url=m.type_url, response_nonce=m.nonce))
            say("ads_end", code="OK", text="")
        except grpc.RpcError as e:
            say("ads_end", code=e.code().name, text=e.details())
        q.put(None)

    def do_open(c):
        q = queue.Queue()
        st.ads, st.node = q, c["node"]
        st.seen = set()
        ch = channel(bare=True) if c["bare"] else link()
        call = method(ch, "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", Request,
                      xds("DeltaDiscoveryResponse"))(feed(q))
        threading.Thread(target=watch_ads, args=(call, q, c["auto"]), daemon=True).start()

    def do_request(c):
        t = c["type"]
        m = Request(type_url=t if "/" in t else prefix + t, resource_names_subscribe=c["subscribe"],
                    resource_names_unsubscribe=c["unsubscribe"], response_nonce=c["nonce"])
        for k, v in c["initial"].items():
            m.initial_resource_versions.add(key=k, value=v)
        if t not in st.seen:
            st.seen.add(t)
            m.node.id, m.node.build_version = st.node, "weft-proxy 0.1.0"
        if c["error"] is not None:
            m.error_detail.code, m.error_detail.message = 3, c["error"]
        st.ads.put(m)

    def do_raw(c):
        """Bytes that are no message, as one."""
        {"ads": st.ads, "talk": st.talk}[c["to"]].put(bytes.fromhex(c["hex"]))

    def do_disconnect(c):
        st.talk = None
        if st.channel is not None:
            st.channel.close()
        st.channel = None
        say("disconnected")

    say("up")
    for line in sys.stdin:
        c = json.loads(line)
        locals()["do_" + c["op"]](c)


if __name__ == "__main__":
    child(*sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.json says what weftd does: every call of the table is in it, and every answer of the running server is as it describes."""

import http.client
import importlib.util
import json
import ssl
import threading

import pytest

from conftest import ROOT, missing
from test_cli import SERVICE, SLICE, Weftd, mesh  # noqa: F401

try:
    from jsonschema import Draft202012Validator
except ImportError:
    Draft202012Validator = None

spec = importlib.util.spec_from_file_location("openapi", ROOT / "tests/doc/openapi.py")
openapi = importlib.util.module_from_spec(spec)
spec.loader.exec_module(openapi)
DOC = json.loads((ROOT / "docs/openapi.json").read_text())
BY_ID = {op["operationId"]: (path, method, op) for path, item in DOC["paths"].items() for method, op in item.items()}


class Client:
    """Calls by operationId; every answer is checked against what the document says of it."""

    def __init__(self, m):
        if Draft202012Validator is None:
            missing("python3-jsonschema is not installed (make deps)")
        self.mesh, self.seen = m, set()
        admin = json.loads(m.admin.read_text())
        for name in ("certificate", "key", "root"):
            (m.folder / name).write_text(admin[name])
        self.context = ssl.create_default_context(cafile=m.folder / "root")
        self.context.load_cert_chain(m.folder / "certificate", m.folder / "key")
        self.bare = ssl.create_default_context(cafile=m.folder / "root")
        for context in (self.context, self.bare):
            context.check_hostname = False
            context.set_alpn_protocols(["http/1.1"])

    def raw(self, method, path, body=None, context=None, token=None):
        c = http.client.HTTPSConnection("127.0.0.1", self.mesh.ports[1], context=context or self.context, timeout=40)
        c.request(method, path, body if body is None or isinstance(body, str) else json.dumps(body),
                  {"Authorization": f"Bearer {token}"} if token else {})
        r = c.getresponse()
        text = r.read()
        assert r.getheader("content-type") == "application/json"
        c.close()
        return r.status, json.loads(text)

    def call(self, id, /, status=200, body=None, query="", context=None, token=None, **names):
        path, method, op = BY_ID[id]
        got, answer = self.raw(method.upper(), path.format(**names) + query, body, context, token)
        assert got == status, (id, got, answer)
        described = op["responses"][str(got)]["content"]["application/json"]["schema"]
        Draft202012Validator({**described, "components": DOC["components"]}).validate(answer)
        if status == 200:
            self.seen.add(id)
            if body is not None:
                asked = op["requestBody"]["content"]["application/json"]["schema"]
                Draft202012Validator({**asked, "components": DOC["components"]}).validate(body)
        return answer


@pytest.fixture
def api(mesh):
    return Client(mesh)


def test_every_call_of_the_table_is_described():
    assert DOC == openapi.document(), "docs/openapi.json is stale: make docs"
    described = {(m.upper(), p.count("{"), p.split("{")[0]) for p, item in DOC["paths"].items() for m in item}
    assert described == {(m, p.count("{"), p.split("{")[0]) for _, m, p, _, _ in openapi.rows()}
    if Draft202012Validator is None:
        missing("python3-jsonschema is not installed (make deps)")
    for schema in DOC["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_words_name_every_call():
    words = (ROOT / "docs/api.md").read_text()
    for _, method, path, _, _ in openapi.rows():
        assert f"`{method} {path.split('{')[0]}" in words, f"docs/api.md does not have {method} {path}"


def load(m, *texts):
    """What weft apply would send."""
    yaml = pytest.importorskip("yaml")
    return [yaml.safe_load(t) for t in texts]


def test_every_call_answers_as_described(mesh, api):
    service, slice = load(mesh, SERVICE, SLICE)
    names = {"kind": "services", "namespace": "shop", "name": "orders"}
    api.call("apply", body={"objects": [service], "dryRun": True, "bodies": True, "what": "try"})
    assert api.call("apply", body={"objects": [service, slice]})["revision"] == 1
    api.call("version"), api.call("status"), api.call("list", kind="svc", query="?namespace=shop"), api.call("get", **names)
    api.call("describe", **names)
    assert len(api.call("watch", kind="services", query="?revision=0&seconds=1")["changes"]) == 1
    assert api.call("watch", kind="services", query="?revision=1&seconds=1&namespace=shop") == {"revision": 1, "changes": []}
    for body in ({}, {"revision": 1, "seconds": 0}, {"objects": [{"kind": "Service", "namespace": "shop", "name": "orders"}]}):
        api.call("wait", body=body)
    api.call("remove_many", body={"objects": [{"kind": "EndpointSlice", "namespace": "shop", "name": "db-1"}], "bodies": True})
    api.call("remove_one", **names)
    api.call("revisions", query="?limit=2&before=9&kind=Service&namespace=shop&name=orders")
    assert api.call("revision", revision=1)["objects"][0]["before"] is None
    assert api.call("rollback", body={"revision": 1, "bodies": True, "dryRun": False})["revision"] == 4
    token = api.call("token_create", body={"serviceAccount": "orders", "namespace": "shop", "labels": {"app": "orders"}, "ttlSeconds": 60})
    assert api.call("tokens")["items"][0]["id"] == token["id"]
    api.call("token_remove", id=token["id"])
    bearer = api.call("bearer_create", body={"name": "ci", "ttlSeconds": 60})["token"]
    api.call("status", context=api.bare, token=bearer)
    api.call("workloads")
    api.call("workload_remove", status=404, namespace="shop", name="none")
    assert api.seen == set(BY_ID) - {"workload_remove"}, "a call that this test does not make"


def test_every_call_refuses_as_described(api):
    somewhere = {"kind": "services", "namespace": "shop", "name": "none", "revision": "7", "id": "0" * 32}
    for id, (path, method, op) in BY_ID.items():
        names = {p["name"]: somewhere[p["name"]] for p in op["parameters"] if p["in"] == "path"}
        api.call(id, 401, context=api.bare, body="{}" if method == "post" else None, **names)
        api.call(id, 403, context=api.bare, token="weftapi." + "0" * 64, body="{}" if method == "post" else None, **names)
        api.call(id, 400, query="?no=such", body="{}" if method == "post" else None, **names)
        if method == "post":
            api.call(id, 400, body='{"no": "such"}', **names)
            api.call(id, 400, body="[", **names)
        elif names and "kind" not in names or "name" in names:
            api.call(id, 404, **names)


def test_what_waits_is_bounded(mesh, api):
    """So many at once wait; the rest is answered at once, and nobody is refused."""
    answers = []

    def ask():
        answers.append(api.raw("GET", "/v1/watch/services?revision=0&seconds=5"))

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for t in threads:
        t.start()
    mesh.ok("apply", "-f", "-", text=SERVICE)
    for t in threads:
        t.join(20)
    assert len(answers) == 40 and all(status == 200 for status, _ in answers)
    assert sum(len(a["changes"]) for _, a in answers) >= 1

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.json: weftd's API as OpenAPI 3.1. Calls, their queries and what they do come from control/api.tbl.h; what goes in and out
is described here and tested against the running server (tests/integ/test_openapi.py). `make docs` writes it."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def rows():
    """(function, method, path, queries, text) of each call."""
    text = (ROOT / "control/api.tbl.h").read_text()
    found = re.findall(r'^API\((\w+), "(\w+)", "([^"]+)", ([\w| ]+),\s*"([^"]*)"\)$', text, re.M)
    assert len(found) == len(re.findall(r"^API\(", text, re.M)), "a row of api.tbl.h is not understood"
    return [(f, m, p, [q.strip().removeprefix("API_Q_").lower() for q in qs.split("|") if q.strip() != "0"], t) for f, m, p, qs, t in found]


def ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


def array(of, most=None):
    return {"type": "array", "items": of, **({"maxItems": most} if most else {})}


def obj(required, optional=None, closed=True):
    """An object; closed: unknown fields are refused (requests) or never there (answers)."""
    props = {**required, **(optional or {})}
    return {"type": "object", "properties": props, **({"required": list(required)} if required else {}),
            **({"additionalProperties": False} if closed else {})}


def maybe(schema):
    return {"anyOf": [schema, {"type": "null"}]}


STR, BOOL = {"type": "string"}, {"type": "boolean"}
UINT = {"type": "integer", "minimum": 0}
LABEL = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
MS = {"type": "integer", "description": "milliseconds since 1970"}
SECONDS = {"type": "integer", "description": "seconds since 1970"}
STRINGS = {"type": "object", "additionalProperties": STR}

SCHEMAS = {
    "Error": obj({"error": obj({"code": {"type": "string", "enum": [
        "system", "invalid", "limit", "not_found", "exists", "denied", "timeout", "closed", "protocol", "tls", "identity", "unsupported", "store",
        "conflict"]}, "text": {"type": "string", "description": "object, field path, value, and what was expected"}},
        {"object": {"type": "integer", "minimum": 0, "description": "index of the object that is wrong"}})}),
    "Object": {"type": "object", "description": "an object of a kind, as Kubernetes writes it", "required": ["apiVersion", "kind", "metadata"],
               "properties": {"apiVersion": STR, "kind": STR, "metadata": obj({"name": NAME}, {"namespace": LABEL}, closed=False)}},
    "Named": obj({"kind": STR, "name": STR}, {"namespace": STR}, closed=False),
    "Result": obj({"kind": STR, "namespace": STR, "name": STR, "result": {"type": "string", "enum": ["created", "changed", "unchanged", "deleted"]}},
                  {"before": maybe(ref("Object")), "after": maybe(ref("Object"))}),
    "Batch": obj({"revision": UINT, "dryRun": BOOL, "objects": array(ref("Result"))}),
    "Revision": obj({"revision": {"type": "integer", "minimum": 1}, "atMs": MS, "who": STR, "what": STR,
                     "changed": {"type": "integer", "minimum": 1, "description": "objects"}}),
    "Resource": obj({"type": STR, "name": STR, "version": STR, "proxies": UINT, "applied": UINT, "refused": UINT}),
    "Behind": obj({"proxy": STR, "type": STR, "name": STR, "refused": BOOL, "why": STR}),
    "Holder": obj({"proxy": STR, "version": STR, "state": {"type": "string", "enum": ["applied", "refused", "waiting"]}}, {"why": STR}),
    "Endpoint": obj({"address": STR, "ports": array(obj({"servicePort": UINT, "port": UINT})), "meshed": BOOL, "identity": STR, "zone": STR},
                    {"workload": STR, "lease_ms": UINT, "linked": BOOL, "version": STR, "why": STR}),
    "Workload": obj({"namespace": STR, "name": STR, "serviceAccount": STR, "zone": STR, "version": STR, "joinedMs": MS, "leaseMs": MS},
                    {"labels": maybe(STRINGS), "ports": maybe(array({"type": "object"})), "addresses": maybe(array(STR))}),
    "Token": obj({"id": STR, "namespace": STR, "serviceAccount": STR, "notAfter": SECONDS, "createdBy": STR, "createdMs": MS, "uses": UINT},
                 {"labels": maybe(STRINGS)}),
}

BATCH_BODY = {"dryRun": BOOL, "bodies": {"type": "boolean", "description": "answer with each changed object before and after"}, "what": STR}
TTL = {"type": "integer", "minimum": 1, "maximum": 365 * 24 * 3600}

# function: ([names of {}], body or None, answer)
CALLS = {
    "api_version": ([], None, obj({"version": STR, "nowMs": MS})),
    "api_status": ([], None, obj({"version": STR, "revision": UINT, "trustDomain": STR, "objects": {"type": "object", "additionalProperties": UINT}},
                             {"proxies": array({"type": "object"}), "resources": array({"type": "object"}), "workloads": {"type": "object"},
                              "conditions": array({"type": "object"})},
                             closed=False)),
    "api_apply": ([], obj({"objects": array(ref("Object"), 10000)}, BATCH_BODY), ref("Batch")),
    "api_remove_many": ([], obj({"objects": array(ref("Named"), 10000)}, BATCH_BODY), ref("Batch")),
    "api_list": (["kind"], None, obj({"apiVersion": STR, "kind": {"const": "List"}, "metadata": obj({"resourceVersion": STR}),
                                  "items": array(ref("Object"))})),
    "api_get": (["kind", "namespace", "name"], None, ref("Object")),
    "api_remove_one": (["kind", "namespace", "name"], None, ref("Batch")),
    "api_describe": (["kind", "namespace", "name"], None, obj({
        "object": ref("Object"), "revision": UINT, "createdMs": MS, "changedMs": MS, "endpoints": array(ref("Endpoint")),
        "resources": array(obj({"type": STR, "name": STR, "version": STR, "holders": array(ref("Holder"))}))})),
    "api_watch": (["kind"], None, obj({"revision": UINT, "changes": array(obj({
        "type": {"type": "string", "enum": ["added", "modified", "deleted"]}, "object": ref("Object")}))})),
    "api_wait": ([], obj({}, {"revision": UINT, "seconds": {"type": "integer", "minimum": 0, "maximum": 30}, "objects": array(
        obj({"kind": STR, "namespace": STR, "name": STR}, closed=False), 10000)}),
        obj({"waiting": {"type": "integer", "minimum": 0, "description": "proxies that have yet to answer"}, "resources": array(ref("Resource")),
             "behind": array(ref("Behind")), "notConnected": array(STR)})),
    "api_revisions": ([], None, obj({"items": array(ref("Revision"))})),
    "api_revision": (["revision"], None, obj({**SCHEMAS["Revision"]["properties"], "objects": array(ref("Result")), "bodiesLeftOut": BOOL})),
    "api_rollback": ([], obj({"revision": UINT}, {"kind": STR, "namespace": STR, "name": STR, "dryRun": BOOL, "bodies": BOOL}), ref("Batch")),
    "api_workloads": ([], None, obj({"items": array(ref("Workload"))})),
    "api_workload_remove": (["namespace", "name"], None, obj({})),
    "api_tokens": ([], None, obj({"items": array(ref("Token"))})),
    "api_token_create": ([], obj({"serviceAccount": LABEL}, {"namespace": LABEL, "labels": STRINGS, "ttlSeconds": TTL, "server": STR}),
                     obj({"id": STR, "token": STR, "notAfter": SECONDS})),
    "api_token_remove": (["id"], None, obj({})),
    "api_bearer_create": ([], obj({"name": LABEL}, {"ttlSeconds": TTL}), obj({"token": STR, "notAfter": SECONDS})),
}

QUERIES = {
    "namespace": (NAME, "one namespace's"),
    "kind": (STR, "of this kind"),
    "name": (NAME, "of this name"),
    "revision": (UINT, "what changed after it"),
    "seconds": ({"type": "integer", "minimum": 0, "maximum": 30}, "how long to wait when there is nothing yet"),
    "before": (UINT, "older than this revision"),
    "limit": ({"type": "integer", "minimum": 1, "maximum": 1000}, "at most so many (default 50)"),
}

ERRORS = {"400": "the body, an object in it, or a query is wrong", "401": "nobody showed who asks", "403": "the one who asks may not",
          "404": "there is no such object, kind, token, workload, revision or call", "409": "it is there already, or an address is another's",
          "413": "the body is larger than 32 MiB", "503": "the store refused; nothing was changed"}


def operation(function, method, names, queries, text):
    _, body, answer = CALLS[function]
    content = lambda schema: {"application/json": {"schema": schema}}
    op = {"operationId": function.removeprefix("api_"), "summary": text[0].upper() + text[1:],
          "parameters": [{"name": n, "in": "path", "required": True, "schema": STR} for n in names] +
                        [{"name": q, "in": "query", "schema": QUERIES[q][0], "description": QUERIES[q][1]} for q in queries],
          "responses": {"200": {"description": "done", "content": content(answer)},
                        **{code: {"description": why, "content": content(ref("Error"))} for code, why in ERRORS.items()
                           if code != "413" or method == "POST"}}}
    if body:
        op["requestBody"] = {"required": True, "content": content(body)}
    return op


def document():
    paths = {}
    for function, method, path, queries, text in rows():
        names = CALLS[function][0]
        assert path.count("{}") == len(names), path
        for n in names:
            path = path.replace("{}", "{%s}" % n, 1)
        paths.setdefault(path, {})[method.lower()] = operation(function, method, names, queries, text)
    return {
        "openapi": "3.1.0",
        "info": {"title": "weftd", "version": (ROOT / "VERSION").read_text().strip(), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                 "description": "The API of Weft's control plane; docs/api.md says it in words."},
        "servers": [{"url": "https://localhost:4811"}],
        "security": [{"certificate": []}, {"bearer": []}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": {
            "certificate": {"type": "mutualTLS", "description": "spiffe://<trust-domain>/ns/weft-system/sa/admin"},
            "bearer": {"type": "http", "scheme": "bearer", "description": "weftapi.…, from POST /v1/bearers"}}}}


if __name__ == "__main__":
    print(json.dumps(document(), indent=2, ensure_ascii=False))

# SPDX-License-Identifier: Apache-2.0
"""docs/canary.md as a stranger would follow it: its files are written, its commands run in order, what it says they print is compared.

Blocks: ```yaml file=NAME is a file; ```sh runs on the operator's machine, ```sh on=web on that host; ```text behind one is what it prints.
Where numbers are shares they may be off by chance: each within 5 % of all."""

import os
import pathlib
import re
import subprocess

import pytest
from harness.mesh import Mesh
from test_route import SERVER

CANARY = pathlib.Path(__file__).resolve().parents[2] / "docs" / "canary.md"


def blocks(text):
    """[(language, {option: value}, content)]"""
    out = []
    for m in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.S | re.M):
        out.append((m.group(1), dict(o.split("=", 1) for o in m.group(2).split()), m.group(3)))
    return out


def counted(text):
    """{"v1": 900} of `uniq -c`, or None."""
    rows = [re.fullmatch(r"\s*(\d+) (\S+)", line) for line in text.splitlines()]
    return {r.group(2): int(r.group(1)) for r in rows} if rows and all(rows) else None


def compare(got, want):
    a, b = counted(got), counted(want)
    if b is None:
        assert got.endswith(want), (got, want)
        return
    assert a is not None and set(a) == set(b), (got, want)
    total = sum(b.values())
    assert sum(a.values()) == total, (got, want)
    for name, n in b.items():
        slack = 0 if n == total else max(0.05 * total, 25)
        assert abs(a[name] - n) <= slack, (got, want)


@pytest.fixture
def started(net, tmp_path):
    """What the page says one needs."""
    with Mesh(net, tmp_path) as mesh:
        mesh.start_control()
        # In turn, so that a slow build does not make one of two equal versions the quicker one.
        web = mesh.workload(net.host("web"), "web-1", sa="web", env={"WEFT_BALANCER": "round-robin"})
        for n in (1, 2):
            w = mesh.workload(net.host(f"orders{n}"), f"orders-{n}", sa="orders", labels={"app": "orders", "version": f"v{n}"},
                              ports="8080/http")
            w.host.start_python(SERVER.replace('name + b" " + head.split(b" ", 2)[1] + b"\\n"', 'name + b"\\n"'), "8080", f"v{n}")
            w.host.wait_port(8080)
            w.start(ready=False)
        web.start(ready=False)
        for w in mesh.workloads.values():
            w.wait_ready()
        yield mesh, web


def test_your_first_canary(started, tmp_path):
    mesh, web = started
    folder = tmp_path / "operator"
    folder.mkdir()
    env = {**os.environ, **mesh.env(), "WEFT_CONFIG": str(mesh.config),
           "PATH": f"{pathlib.Path(mesh.bin('weft')).parent}:{os.environ['PATH']}"}
    printed = ran = compared = 0
    for language, options, content in blocks(CANARY.read_text()):
        if language == "yaml":
            (folder / options["file"]).write_text(content)
        elif language == "sh":
            host = web.host if options.get("on") == "web" else mesh.control
            r = subprocess.run(host.command(["bash", "-euo", "pipefail", "-c", content]), cwd=folder, env=env, text=True, timeout=60,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert r.returncode == 0, f"{content}: exit {r.returncode}\n{r.stdout}{r.stderr}"
            printed = r.stdout
            ran += 1
        elif language == "text":
            compare(printed, content)
            compared += 1
        else:
            raise AssertionError(f"a block of {language}: what is to be done with it?")
    assert ran >= 12 and compared >= 6
    # What the page says in words.
    r = mesh.weft("apply", "-f", str(folder / "mistake.yaml"), check=False)
    assert "HTTPRoute shop/canary: spec.rules[0].timeouts: not supported yet" in r.stderr


def test_the_page_of_policies_names_every_kind_and_every_field_of_a_route():
    """The rows that weftd goes by, as they stand in its source, against docs/policy.md."""
    root = CANARY.parents[1]
    page = (root / "docs" / "policy.md").read_text()
    table = (root / "control" / "kind.tbl.h").read_text()
    kinds = re.findall(r'^KIND_LATER\("(\w+)"', table, re.M)
    assert len(kinds) > 10
    assert [k for k in [*kinds, "Service", "EndpointSlice", "HTTPRoute"] if f"`{k}`" not in page] == []
    taken = re.findall(r"^KIND\((\w+)\)", table, re.M)
    assert sorted(taken) == ["kind_endpointslice", "kind_httproute", "kind_service"], "a new kind: does docs/policy.md say so?"
    source = (root / "control" / "kind_httproute.c").read_text()
    rows = re.findall(r"static const char \*const (\w+_(?:fields|later))\[\] = \{(.*?)NULL\}", source, re.S)
    assert len(rows) >= 9
    fields = {f for _, row in rows for f in re.findall(r'"(\w+)"', row)}
    assert {"parentRefs", "weight", "queryParams", "filters"} <= fields
    words = set(re.findall(r"\w+", page))
    assert sorted(f for f in fields if f not in words) == []

# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests. They need root and a built tree; see harness/netns.py for hosts.

WEFT_BUILD names the folder with bin/ (default build/plain). `make integ` runs everything on the sanitizer build, then what is marked `plain`
(claims about memory, time, hardening) on the plain one: WEFT_TESTS=plain selects those. Where CI=true a missing tool, program or right is a failure; elsewhere
the test is skipped and says why."""

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from harness import capture, netns  # noqa: E402


SANITIZED = "asan" in os.environ.get("WEFT_BUILD", "") or "tsan" in os.environ.get("WEFT_BUILD", "")


def pytest_configure(config):
    config.addinivalue_line("markers", "plain(reason, also): a claim about the plain build; the sanitizer build leaves it out unless also=True")


def pytest_collection_modifyitems(config, items):
    if os.environ.get("WEFT_TESTS") == "plain":
        items[:] = [i for i in items if i.get_closest_marker("plain")]
        return
    for item in items:
        mark = item.get_closest_marker("plain")
        if mark and SANITIZED and not mark.kwargs.get("also"):
            item.add_marker(pytest.mark.skip(reason=f"plain build only: {mark.kwargs.get('reason', 'memory or time')}"))


def missing(why):
    """Something that the test needs is not there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and {why}")
    pytest.skip(why)


def need_tool(*names):
    """The test needs these programs of the system."""
    for name in names:
        if not netns.have(name):
            missing(f"{name} is not installed (make deps)")


def weft_program(name):
    """Path of a built program of ours."""
    build = pathlib.Path(os.environ.get("WEFT_BUILD", ROOT / "build" / "plain"))
    path = (build if build.is_absolute() else ROOT / build) / "bin" / name
    if not path.exists():
        missing(f"{path} is not built (make)")
    return str(path)


@pytest.fixture
def program():
    """program("weft-proxy") -> path; skips (CI: fails) when it is not built."""
    return weft_program


@pytest.fixture
def net():
    """A fresh switch; hosts by net.host(name). Everything on it ends with the test."""
    if os.geteuid() != 0:
        missing("network namespaces need root")
    need_tool("ip", "nsenter", "tcpdump", "setpriv")
    with netns.Net() as n:
        yield n


@pytest.fixture
def two_hosts(net):
    """Hosts a and b on one switch."""
    return net.host("a"), net.host("b")


@pytest.fixture
def cap(net):
    """weft-capture of its own for one test. `net` comes first, so its processes are there until everything is detached."""
    c = capture.Capture(weft_program("weft-capture"))
    yield c
    for h in net.hosts.values():
        for p in h.procs:
            p.close()
    c.close()

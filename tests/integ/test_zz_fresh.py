# SPDX-License-Identifier: Apache-2.0
"""A fresh clone on a Debian that has nothing: what a stranger does first. Named to run last; takes about two minutes."""

import os
import platform
import shutil
import subprocess

import pytest
from conftest import ROOT, missing, need_tool

SUITE = os.environ.get("WEFT_FRESH_SUITE") or platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")


@pytest.fixture
def chroot(tmp_path):
    if os.geteuid() != 0:
        missing("a chroot needs root")
    need_tool("debootstrap", "unshare")
    root = tmp_path / "debian"
    # Where this machine's own packages come from.
    mirrors = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"], capture_output=True,
                             text=True, check=True).stdout.split("\n")
    mirror = next((m.split()[0] for m in mirrors if m.endswith(f" {SUITE}")), None)
    if mirror is None:
        missing(f"apt knows no source of {SUITE}")
    r = subprocess.run(["debootstrap", "--variant=minbase", "--include=make,git,ca-certificates", SUITE, str(root), mirror],
                       capture_output=True, text=True)
    assert r.returncode == 0, (r.stdout + r.stderr)[-3000:]
    yield root
    shutil.rmtree(root, ignore_errors=True)


def test_a_fresh_clone_builds_in_a_debian_that_has_nothing(chroot):
    subprocess.run(["git", "clone", "-q", str(ROOT), str(chroot / "root" / "weft")], check=True)
    shutil.copy("/etc/resolv.conf", chroot / "etc" / "resolv.conf")
    # A mount namespace of its own: /proc in there goes with it.
    script = f"mount -t proc proc {chroot}/proc && exec chroot {chroot} sh -ec 'cd /root/weft && make deps && make -j2 && build/plain/bin/weft version --client && make install DESTDIR=/tmp/out && ls /tmp/out/usr/local/bin'"
    r = subprocess.run(["unshare", "--mount", "--pid", "--fork", "sh", "-c", script], capture_output=True, text=True,
                       env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root", "LC_ALL": "C"})
    assert r.returncode == 0, (r.stdout + r.stderr)[-4000:]
    assert r.stdout.rstrip().endswith("weft\nweft-proxy")

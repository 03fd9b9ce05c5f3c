# SPDX-License-Identifier: Apache-2.0
"""A program that is replaced on the disk beneath a sidecar that runs it, and what a hot upgrade shows.

    p = Replaceable(tmp, program("weft-proxy"))
    w.start(command=[str(p.path), *mesh.proxy_args(w)])
    p.replace(p.versioned("0.9.9"))        # another file at the same path, as a package manager does it
    upgrade(w)                             # SIGUSR2, and the new worker serves"""

import os
import pathlib
import re
import shutil
import signal
import subprocess

from harness.mesh import ROOT
from harness.netns import Timeout, wait_until


class Replaceable:
    def __init__(self, folder, original, name="weft-proxy"):
        self.folder, self.original = pathlib.Path(folder), pathlib.Path(original)
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        self.path = self.folder / name
        self.version = (ROOT / "VERSION").read_text().strip()
        self.restore()

    def restore(self):
        self.replace(self.original.read_bytes())

    def replace(self, content):
        """Bytes of another file, which takes the place of this one: the old inode lives on as long as it runs."""
        new = self.folder / "new"
        new.write_bytes(content)
        new.chmod(0o755)
        new.rename(self.path)

    def versioned(self, version):
        """The bytes of the program with another version number of the same length in it."""
        assert len(version) == len(self.version)
        data = self.original.read_bytes()
        assert data.count(self.version.encode() + b"\0") >= 1
        return data.replace(self.version.encode() + b"\0", version.encode() + b"\0")

    def compiled(self, source):
        """The bytes of a program made of a C source."""
        out = self.folder / "compiled"
        subprocess.run(["cc", "-x", "c", "-o", str(out), "-"], input=source, text=True, check=True)
        data = out.read_bytes()
        out.unlink()
        return data


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def serving(w):
    """What /version says: {"worker": {"pid", "version"}, "supervisor": ...}."""
    return w.admin("/version")


def upgraded(w, before, timeout=20):
    """Waits until a worker that is not in `before` serves; its pid."""
    def new():
        pid = serving(w)["worker"]["pid"]
        return pid if pid not in before else None
    try:
        return wait_until(new, timeout, f"another worker of {w.name} than {before}")
    except Timeout as e:
        said = [r for r in w.log().splitlines() if re.search(" (upgrad|retiring|worker_|start|stop)", r)]
        raise Timeout(f"{e}: {children(w.capture.pid)}, {serving(w)}\n" + "\n".join(said[-20:])) from None


def upgrade(w, how=signal.SIGUSR2):
    """Asks by signal and waits for the new worker; its pid."""
    before = children(w.capture.pid)
    w.mesh.open_path()
    w.capture.signal(how)
    return upgraded(w, before)


def upgrade_log(w, event, count=1, timeout=20):
    """Waits for the count-th line of this event; that line."""
    def line():
        found = [r for r in w.log().splitlines() if f" {event} " in r]
        return found[count - 1] if len(found) >= count else None
    return wait_until(line, timeout, f"event {event} number {count} of {w.name}")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def have_h2load():
    return shutil.which("h2load") is not None

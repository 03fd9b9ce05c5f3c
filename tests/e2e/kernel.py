# SPDX-License-Identifier: Apache-2.0
"""The oldest kernel that is promised: Debian 12's 6.1 boots in a virtual machine whose root is this machine's, read-only with a layer in memory upon it,
and the tests of the capture run there. Root; about 25 minutes without KVM.

    kernel.py [pytest arguments: tests/integ/test_capture.py tests/integ/test_capture_life.py]      prints what the guest prints; exit 1 when a test fails there

ACCEL=kvm:tcg where this machine can nest (default: tcg, which can everywhere). The kernel's package is downloaded and unpacked, not installed."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "build" / "e2e" / "kernel"
NEEDED = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "depmod": "kmod", "modprobe": "kmod"}
# For the root file system, and what the tests ask of the network; what each of them needs comes with it.
MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay", "veth", "bridge", "nf_tables", "nft_numgen", "nft_ct", "nft_limit", "nft_reject_inet",
           "nft_chain_nat", "inet_diag", "tcp_diag", "unix_diag")
MINUTES = 60
ENDED = re.compile(r"^weft-kernel-tests ended with (\d+)", re.M)

INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /host /layer /new
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
for m in $($b cat /modules/order); do $b insmod /modules/$m; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /host || $b poweroff -f
$b mount -t tmpfs -o size=2g tmpfs /layer
$b mkdir /layer/up /layer/work
$b mount -t overlay -o lowerdir=/host,upperdir=/layer/up,workdir=/layer/work overlay /new || $b poweroff -f
for d in proc sys dev; do $b mount --move /$d /new/$d; done
$b mkdir -p /new/dev/pts /new/dev/shm
$b mount -t devpts devpts /new/dev/pts
for d in /dev/shm /tmp /run; do $b mount -t tmpfs tmpfs /new$d; done
$b mount -t cgroup2 cgroup2 /new/sys/fs/cgroup; $b mount -t bpf bpf /new/sys/fs/bpf
$b ip link set lo up
$b chroot /new /bin/sh -c @COMMAND@
$b echo "weft-kernel-tests ended with $?"
$b poweroff -f
"""


def out(*command, **kw):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True, **kw).stdout


def kernel():
    """(the package's folder, its release): what linux-image-amd64 depends on, unpacked."""
    if not list(HERE.glob("root/boot/vmlinuz-*")):
        HERE.mkdir(parents=True, exist_ok=True)
        package = re.search(r"Depends: (linux-image-6\.1\S+)", out("apt-cache", "depends", "linux-image-amd64"))
        if not package:
            sys.exit("kernel.py: linux-image-amd64 is not a 6.1 here; this wants Debian 12's package lists (apt-get update)")
        out("apt-get", "download", package.group(1), cwd=HERE)
        out("dpkg", "-x", next(HERE.glob("linux-image-*.deb")), HERE / "root")
    root = HERE / "root"
    return root, next(root.glob("boot/vmlinuz-*")).name.removeprefix("vmlinuz-")


def initramfs(root, release, command):
    tree = HERE / "initramfs"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "bin").mkdir(parents=True)
    (tree / "modules").mkdir()
    shutil.copy(shutil.which("busybox"), tree / "bin" / "busybox")
    out("depmod", "-b", root, release)
    order = []
    for m in MODULES:
        for line in out("modprobe", "-d", root, "-S", release, "--show-depends", m).splitlines():
            words = line.split()
            if words[0] == "insmod" and words[1] not in order:
                order.append(words[1])
    for path in order:
        shutil.copy(path, tree / "modules")
    (tree / "modules" / "order").write_text("\n".join(os.path.basename(p) for p in order))
    (tree / "init").write_text(INIT.replace("@COMMAND@", shlex.quote(command)))
    (tree / "init").chmod(0o755)
    archive = HERE / "initramfs.cpio"
    files = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*")))
    with archive.open("wb") as f:
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], input=files.encode(), stdout=f, stderr=subprocess.DEVNULL, cwd=tree, check=True)
    return archive


def boot(root, release, archive):
    """What the guest printed; it is shown meanwhile."""
    qemu = subprocess.Popen(["qemu-system-x86_64", "-accel", os.environ.get("ACCEL", "tcg,thread=multi"), "-cpu", "max", "-m", "5000", "-smp", "2",
                             "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none",
                             "-kernel", str(root / "boot" / f"vmlinuz-{release}"), "-initrd", str(archive), "-append", "console=ttyS0 quiet panic=1",
                             "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
                             "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    said = []
    for line in qemu.stdout:
        said.append(line.decode(errors="replace").replace("\r", ""))
        print(said[-1], end="", flush=True)
    qemu.wait()
    return "".join(said)


def main(*args):
    missing = sorted({p for program, p in NEEDED.items() if not shutil.which(program)})
    if missing:
        sys.exit(f"kernel.py: needs {', '.join(missing)}: apt-get install --no-install-recommends {' '.join(missing)}")
    root, release = kernel()
    tests = shlex.join(args or ["tests/integ/test_capture.py", "tests/integ/test_capture_life.py"])
    command = (f"cd {shlex.quote(str(ROOT))} && export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 WEFT_PATIENCE=10 && chmod 1777 /tmp && ulimit -n 65536 && uname -r && "
               f"build/plain/bin/weft-capture check && timeout {MINUTES * 60} /usr/bin/python3 -m pytest -v -p no:cacheprovider {tests}")
    ended = ENDED.search(boot(root, release, initramfs(root, release, command)))
    if not ended:
        print("kernel.py: the guest ended before the tests did", file=sys.stderr)
    return 0 if ended and ended.group(1) == "0" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

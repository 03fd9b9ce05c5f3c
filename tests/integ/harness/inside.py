# SPDX-License-Identifier: Apache-2.0
"""A process looked at from inside, by root: its memory searched, and system calls made in its name (ptrace(2), x86-64).

    found(pid, {"key": b"..."})                  # {"key": [(address, "[heap]"), ...]}
    with Traced(pid) as t:
        t.call(9, 0, 4096, 7, 0x22, -1, 0)       # mmap of writable and executable memory: what the kernel answers it, here -1 (EPERM)"""

import ctypes
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
CONT, SINGLESTEP, GETREGS, SETREGS, DETACH, SEIZE, INTERRUPT = 7, 9, 12, 13, 17, 0x4206, 0x4207
O_TRACEEXIT, EVENT_EXIT = 0x40, 6
REGS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs").split()


class _Regs(ctypes.Structure):
    _fields_ = [(r, ctypes.c_ulonglong) for r in REGS]


def maps(pid):
    """(first address, behind the last, permissions, name) of each mapping."""
    with open(f"/proc/{pid}/maps") as f:
        for row in f:
            span, perms, *rest = row.split(None, 5)
            first, last = (int(x, 16) for x in span.split("-"))
            yield first, last, perms, rest[3].strip() if len(rest) > 3 else ""


def found(pid, needles):
    """Where each of the needles (name: bytes) stands in the memory that the process can read."""
    out = {name: [] for name in needles}
    with open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for first, last, perms, name in maps(pid):
            if "r" not in perms or name in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            try:
                mem.seek(first)
                data = mem.read(last - first)
            except OSError:
                continue
            for needle, what in needles.items():
                at = data.find(what)
                while at >= 0:
                    out[needle].append((hex(first + at), name or "anonymous"))
                    at = data.find(what, at + 1)
    return out


def _ptrace(request, pid, data=None, address=None):
    if _libc.ptrace(request, pid, address, data) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace {request}: {os.strerror(ctypes.get_errno())}")


class Traced:
    """Stops one process; within, one thread of ours traces it. Detached at the end, it goes on as before."""

    def __init__(self, pid):
        self.pid, self.alive = pid, True

    def __enter__(self):
        _ptrace(SEIZE, self.pid, O_TRACEEXIT)
        _ptrace(INTERRUPT, self.pid)
        os.waitpid(self.pid, 0)
        return self

    def __exit__(self, *_):
        if self.alive:
            _ptrace(DETACH, self.pid)

    def call(self, number, *args):
        """One system call in its name; what the kernel gives back."""
        old, new = _Regs(), _Regs()
        _ptrace(GETREGS, self.pid, ctypes.byref(old))
        with open(f"/proc/{self.pid}/mem", "rb", 0) as mem:
            mem.seek(old.rip - 2)
            assert mem.read(2) == b"\x0f\x05", "it does not stand behind a system call"
        ctypes.memmove(ctypes.byref(new), ctypes.byref(old), ctypes.sizeof(old))
        new.rip, new.rax, new.orig_rax = old.rip - 2, number, 2**64 - 1
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), args):
            setattr(new, name, value & (2**64 - 1))
        _ptrace(SETREGS, self.pid, ctypes.byref(new))
        _ptrace(SINGLESTEP, self.pid)
        _, status = os.waitpid(self.pid, 0)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP, status
        _ptrace(GETREGS, self.pid, ctypes.byref(new))
        _ptrace(SETREGS, self.pid, ctypes.byref(old))
        return new.rax - 2**64 if new.rax >= 2**63 else new.rax

    def until_exit(self, begin):
        """Lets it go on, calls begin(), and stops it where it ends: its memory is there still, its code runs no more."""
        _ptrace(CONT, self.pid)
        begin()
        while True:
            _, status = os.waitpid(self.pid, 0)
            assert os.WIFSTOPPED(status), f"it ended without stopping: {status}"
            if status >> 8 == signal.SIGTRAP | EVENT_EXIT << 8:
                return
            sig = os.WSTOPSIG(status)
            _ptrace(CONT, self.pid, None if sig == signal.SIGTRAP else sig)

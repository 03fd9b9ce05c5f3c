/* SPDX-License-Identifier: Apache-2.0 */
/* harden.tbl.h: the system calls that weft-proxy may make; everything else is EPERM (seccomp(2)). ALLOW(call): worker and
 * supervisor; ALLOW_SUPERVISOR(call): only the one that starts workers. ALLOW_DATA(call): maps memory; never executable in a worker, never
 * writable and executable at once in the supervisor (the programs that it starts load their libraries under its filter). ALLOW_THREAD(call): no
 * namespaces; in a worker threads only. ABSENT(call): ENOSYS, since its arguments cannot be seen by a filter and there is an older call. Not
 * here, on purpose: bpf, ptrace, mount, setns, unshare, io_uring, process_vm_*, pkey_*, personality, keyctl, perf_event_open, userfaultfd,
 * kexec, module calls. */
ALLOW(read) ALLOW(write) ALLOW(readv) ALLOW(writev) ALLOW(pread64) ALLOW(pwrite64)
ALLOW(recvfrom) ALLOW(recvmsg) ALLOW(sendto) ALLOW(sendmsg)
ALLOW(socket) ALLOW(socketpair) ALLOW(connect) ALLOW(bind) ALLOW(listen) ALLOW(accept4) ALLOW(shutdown)
ALLOW(getsockname) ALLOW(getpeername) ALLOW(getsockopt) ALLOW(setsockopt)
ALLOW(close) ALLOW(fcntl) ALLOW(dup) ALLOW(dup3) ALLOW(pipe2) ALLOW(ioctl) ALLOW(lseek)
ALLOW(epoll_create1) ALLOW(epoll_ctl) ALLOW(epoll_pwait) ALLOW(ppoll) ALLOW(eventfd2) ALLOW(timerfd_create) ALLOW(timerfd_settime)
ALLOW(signalfd4)
ALLOW(clock_gettime) ALLOW(clock_getres) ALLOW(clock_nanosleep) ALLOW(nanosleep) ALLOW(gettimeofday)
ALLOW(futex) ALLOW_DATA(mmap) ALLOW(munmap) ALLOW(mremap) ALLOW_DATA(mprotect) ALLOW(madvise) ALLOW(brk) ALLOW(memfd_create)
ALLOW(rt_sigaction) ALLOW(rt_sigprocmask) ALLOW(rt_sigreturn) ALLOW(rt_sigtimedwait) ALLOW(sigaltstack) ALLOW(restart_syscall)
ALLOW(exit) ALLOW(exit_group) ALLOW(getpid) ALLOW(getppid) ALLOW(gettid) ALLOW(tgkill) ALLOW(uname) ALLOW(sysinfo) ALLOW(getrandom)
ALLOW(getuid) ALLOW(geteuid) ALLOW(getgid) ALLOW(getegid) ALLOW(prctl) ALLOW(prlimit64) ALLOW(sched_yield)
ALLOW(sched_getaffinity) ALLOW(set_robust_list) ALLOW(set_tid_address) ALLOW_THREAD(clone) ABSENT(clone3) ALLOW(getrusage)
ALLOW(openat) ALLOW(newfstatat) ALLOW(fstat) ALLOW(statx) ALLOW(fsync) ALLOW(fdatasync) ALLOW(ftruncate) ALLOW(renameat2) ALLOW(renameat)
ALLOW(unlinkat) ALLOW(mkdirat) ALLOW(fchmod) ALLOW(flock) ALLOW(getdents64) ALLOW(readlinkat) ALLOW(faccessat) ALLOW(getcwd)
#ifdef __NR_rseq
ALLOW(rseq)
#endif
#ifdef __NR_faccessat2
ALLOW(faccessat2)
#endif
#ifdef __x86_64__ /* calls that newer architectures have only in their *at form */
ALLOW(open) ALLOW(stat) ALLOW(lstat) ALLOW(poll) ALLOW(epoll_wait) ALLOW(epoll_create) ALLOW(eventfd) ALLOW(pipe) ALLOW(dup2) ALLOW(rename)
ALLOW(unlink) ALLOW(mkdir) ALLOW(chmod) ALLOW(access) ALLOW(readlink) ALLOW(time) ALLOW(arch_prctl) ALLOW(getrlimit) ALLOW(accept)
#endif
ALLOW_SUPERVISOR(execveat) ALLOW_SUPERVISOR(wait4) ALLOW_SUPERVISOR(kill) ALLOW_SUPERVISOR(seccomp)

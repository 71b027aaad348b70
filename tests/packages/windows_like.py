"""Makes a Linux look to vovnet's own modules as Windows or macOS do; run first in each process, as `sitecustomize`.

Only what vovnet's modules import is changed: PyTorch and the standard library were built for Linux and need it. What
cannot be shown so: paths with drives and backslashes, and files that cannot be removed while they are open.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import importlib
import io
import multiprocessing
import os
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

SYSTEM = os.environ.get("VOVNET_TESTS_LOOK_LIKE", "")
# What Windows lacks; macOS has most of it, and less of it is no fault.
LACKING: dict[str, set[str]] = {
    "os": {
        *("fork", "forkpty", "getloadavg", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getpgid", "setpgid"),
        *("getpgrp", "getsid", "setsid", "killpg", "nice", "getpriority", "setpriority", "sched_getaffinity"),
        *("sched_setaffinity", "sched_yield", "statvfs", "fstatvfs", "sysconf", "confstr", "pathconf", "uname"),
        *("mkfifo", "mknod", "chown", "lchown", "fchown", "chroot", "pread", "pwrite", "readv", "writev", "sendfile"),
        *("posix_fadvise", "posix_fallocate", "copy_file_range", "memfd_create", "pipe2", "openpty", "ttyname", "sync"),
        *("register_at_fork", "wait", "wait3", "wait4", "WNOHANG", "getrandom", "O_DIRECTORY", "O_NOFOLLOW"),
        *("O_CLOEXEC", "O_NONBLOCK", "O_SYNC", "O_NOCTTY", "O_DIRECT", "EX_OK"),
    },
    "signal": {
        *("SIGKILL", "SIGSTOP", "SIGCONT", "SIGCHLD", "SIGBUS", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGUSR2"),
        *("SIGPIPE", "SIGXCPU", "SIGXFSZ", "alarm", "setitimer", "pthread_kill", "pthread_sigmask", "sigwait", "pause"),
    },
    "time": {"clock_gettime", "clock_settime", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "CLOCK_REALTIME", "tzset"},
    "mmap": {"PROT_READ", "PROT_WRITE", "MAP_PRIVATE", "MAP_SHARED", "MAP_ANONYMOUS", "MADV_DONTNEED"},
    "socket": {"AF_UNIX", "AF_NETLINK", "SO_REUSEPORT", "socketpair"},
    "select": {"poll", "epoll", "kqueue"},
}
ONLY_POSIX = {"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "posix", "readline", "syslog"}
KERNEL = ("/proc/", "/sys/", "/dev/shm")


class Seen(ModuleType):
    """A module as that system has it."""

    def __init__(self, real: ModuleType, lacking: set[str], instead: dict[str, Any]) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(_real=real, _lacking=lacking, _instead=instead)

    def __getattr__(self, name: str) -> Any:
        if name in self._lacking:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}' on {SYSTEM}")
        return self._instead[name] if name in self._instead else getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)


def look_like(system: str) -> None:
    """system: as `sys.platform` has it."""
    windows = system == "win32"
    multiprocessing.set_start_method("spawn")
    seen: dict[str, Any] = {"sys": Seen(sys, set(), {"platform": system})}
    if windows:
        libraries = {"windll": SimpleNamespace(kernel32=_Kernel()), "WinDLL": lambda *_, **__: _Kernel()}
        seen["ctypes"] = Seen(ctypes, set(), libraries)
        seen |= {name: Seen(importlib.import_module(name), names, {}) for name, names in LACKING.items()}
        seen["msvcrt"] = _msvcrt()
    else:
        seen["os"] = Seen(os, {"sched_getaffinity", "sched_setaffinity", "memfd_create", "posix_fadvise"}, {})
        seen["time"] = Seen(time, {"CLOCK_BOOTTIME"}, {})
    absent = ONLY_POSIX if windows else set()
    real_import = builtins.__import__

    def import_as_there(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        ours = str((globals or {}).get("__name__", "")).partition(".")[0] == "vovnet" or _is_ours(globals)
        if ours and name in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if ours and name in seen:
            return seen[name]
        return real_import(name, globals, locals, fromlist, level)

    builtins.__import__ = import_as_there
    _hide_kernel_files()


def _is_ours(names: Any) -> bool:
    """Whether the module is one of vovnet's that is run by `python -m`."""
    spec = (names or {}).get("__spec__")
    return spec is not None and str(getattr(spec, "name", "")).startswith("vovnet")


def _hide_kernel_files() -> None:
    def hidden(real: Any) -> Any:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(KERNEL):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
            return real(path, *arguments, **options)

        return call

    for module, names in ((builtins, ("open",)), (io, ("open",)), (os, ("stat", "lstat", "listdir", "scandir"))):
        for name in names:
            setattr(module, name, hidden(getattr(module, name)))


class _Function:
    """A function of kernel32, whose answer 1 is success."""

    def __init__(self, name: str) -> None:
        self.name, self.restype, self.argtypes = name, None, ()

    def __call__(self, *arguments: Any) -> int:
        if self.name == "K32GetProcessMemoryInfo":  # writes a peak of 1 GiB, behind two numbers of 32 bits
            ctypes.c_size_t.from_buffer(arguments[1]._obj, 8).value = 2**30
        return 0 if self.name == "IsProcessorFeaturePresent" else 1


class _Kernel:
    """kernel32, as far as vovnet asks it something."""

    def __getattr__(self, name: str) -> _Function:
        function = _Function(name)
        setattr(self, name, function)
        return function


def _msvcrt() -> Any:
    """Locks of Windows, by those of POSIX."""
    import fcntl

    def locking(descriptor: int, mode: int, count: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, count, 0, os.SEEK_CUR)

    return SimpleNamespace(locking=locking, LK_NBLCK=2)


if SYSTEM:
    look_like(SYSTEM)

"""Runs each changed file in a child process that is watched: its time, memory, writes, reads, processes and end."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import logging
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .harm import POWER
from .mutators import any_bytes
from .seeds import NEIGHBOUR, video
from .targets import KINDS, Kind, seeds_of

SECRET = "vovnet-secret-7351"
HANG_S, MAX_MESSAGE, MAX_RSS_KB = 10.0, 500, int(1.5 * 2**20)
_BATCH = 40  # files per child: a new one costs milliseconds, and starts with clean memory
_ADDRESS_SPACE = 3 * 2**30  # beyond what the parent has: protects the machine
_WRITES = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown",
    "os.truncate", "os.utime",
    "shutil.rmtree", "shutil.move", "shutil.copyfile", "os.mkfifo",
}  # fmt: skip
_PROCESSES = {
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
}
_OWN_PROGRAMS = ("git", "fc-list")  # for the commit of a record and the fonts of a plot; nothing from a file is passed
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind"}


@dataclass(frozen=True)
class Outcome:
    """What one changed file led to. faults: what must not be, by the columns of the table, each with its detail."""

    kind: str
    number: int
    accepted: bool = False
    faults: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    rss_kb: int = 0


FAULTS = ("unexpected", "unnamed", "long", "hang", "memory", "outside", "process", "network", "secret", "crash")


def changed(kind: str, number: int, seed: int) -> tuple[str, dict[str, bytes]]:
    """The files of a case, and which of them is the changed one. The same for the same arguments."""
    whole, chance = seeds_of(kind), random.Random(f"{seed}:{kind}:{number}")
    chosen = whole[number % len(whole)]
    target, data = chosen.target, chosen.files[chosen.target]
    others = [other.files[other.target] for other in whole if not other.once]
    if number >= len(whole):  # the first of each are tried as they are
        chosen = chance.choice([seed for seed in whole if not seed.once] or whole)
        target, data = chosen.target, chosen.files[chosen.target]
        for _ in range(chance.choice((1, 1, 1, 1, 2))):
            try:
                data = KINDS[kind].change(data, chance, others)
            except Exception:  # what keeps the format needs a file that still has it
                data = any_bytes(data, chance, others)
    return target, {**chosen.files, target: data}


class Sandbox:
    """A folder for the files of a case, with a neighbour that nothing may touch."""

    def __init__(self, root: Path) -> None:
        self.root, self.inside, self.neighbour = root, root / "sandbox", root / "neighbour"
        self.neighbour.mkdir(parents=True)
        for name in ("secret.txt", "secret.json", "x.dtd"):
            (self.neighbour / name).write_text(SECRET)
        (self.neighbour / "secret.mp4").write_bytes(video("mp4", "mpeg4"))
        self.watch = _Watch([root, self.neighbour])

    def lay(self, files: dict[str, bytes]) -> Path:
        """Writes the files into an empty folder, and returns it."""
        shutil.rmtree(self.inside, ignore_errors=True)
        folder = self.inside / "data"
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.replace(NEIGHBOUR.encode(), os.fsencode(self.neighbour)))
        if (folder / "beside").is_dir():
            self.watch.add(folder / "beside")
        for name in ("home", "tmp"):
            (self.inside / name).mkdir()
        self.watch.touched()  # what was cleared away
        return folder


class _Watch:
    """Names of the files that anybody, native libraries too, opens, makes or changes in these folders (inotify)."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "no more inotify instances")
        for folder in folders:
            self.add(folder)

    def add(self, folder: Path) -> None:
        """Watches one more folder, also from a child process."""
        everything = 0x2 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200  # modified, opened, moved from and to, made, deleted
        if self._libc.inotify_add_watch(self._file, os.fsencode(folder), everything) < 0:
            raise OSError(ctypes.get_errno(), "inotify cannot watch", str(folder))

    def close(self) -> None:
        """The system has few of these."""
        os.close(self._file)

    def touched(self) -> list[str]:
        names = []
        try:
            while data := os.read(self._file, 2**16):
                while data:
                    _, mask, _, length = struct.unpack_from("iIII", data)
                    name = data[16 : 16 + length].rstrip(b"\0").decode(errors="replace")
                    if not mask & 0x40000000 and name:  # a folder is listed
                        names.append(f"{name} ({'opened' if mask & 0x20 else 'changed'})")
                    data = data[16 + length :]
        except OSError:  # no more
            pass
        return sorted(set(names))


def run_cases(cases: Sequence[tuple[str, int]], *, seed: int, root: Path) -> Iterator[Outcome]:
    """The outcome of each case, in order. Whatever a child does, the parent goes on with the next case."""
    sandbox, queue = Sandbox(root), list(cases)
    try:
        while queue:
            batch, done = queue[:_BATCH], 0
            for outcome in _run_batch(batch, seed, sandbox):
                done += 1
                yield outcome
            queue = queue[done:]
    finally:
        sandbox.watch.close()


def _run_batch(batch: Sequence[tuple[str, int]], seed: int, sandbox: Sandbox) -> Iterator[Outcome]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.setsid()
            _child(batch, seed, sandbox, writer)
        finally:
            os._exit(0)
    os.close(writer)
    waiting, buffer, begun = list(batch), b"", 0.0
    try:
        while waiting:
            ready, _, _ = select.select(
                [reader], [], [], HANG_S + 20 if not begun else max(0.0, begun + HANG_S + 1 - time.monotonic())
            )
            data = os.read(reader, 2**16) if ready else b""
            if not data:  # it hangs or has died
                os.killpg(child, signal.SIGKILL)
                name = "crash" if ready else "hang"
                yield _with(Outcome(*waiting[0], faults={name: _end_of(child)}), sandbox.watch)
                return
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                if line == b"begin":
                    begun = time.monotonic()
                    continue
                begun = 0.0
                waiting.pop(0)
                yield Outcome(**json.loads(line))
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _end_of(child: int) -> str:
    _, status = os.waitpid(child, 0)
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def _with(outcome: Outcome, watch: _Watch) -> Outcome:
    """The outcome with what the watch of the neighbour has seen."""
    touched = [name for name in watch.touched() if not name.startswith("sandbox")]
    changed_names, opened = ([name for name in touched if word in name] for word in ("(changed)", "(opened)"))
    if changed_names:
        outcome.faults["outside"] = ", ".join(changed_names)
    if opened and not outcome.kind.startswith("yolo"):  # a data.yaml may name folders elsewhere
        outcome.faults["secret"] = ", ".join(opened)
    return outcome


# In the child --------------------------------------------------------------------------------------------------------


def _child(batch: Sequence[tuple[str, int]], seed: int, sandbox: Sandbox, writer: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    limit = _status("VmSize") * 1024 + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    logging.disable()
    faulthandler.disable()
    places = {
        "HOME": "home",
        "TMPDIR": "tmp",
        "XDG_CACHE_HOME": "home",
        "XDG_CONFIG_HOME": "home",
        "TORCH_HOME": "home",
    }
    os.environ |= {name: str(sandbox.inside / place) for name, place in places.items()}
    import tempfile

    tempfile.tempdir = None
    audit = _Audit(sandbox.inside)
    for kind, number in batch:
        target, files = changed(kind, number, seed)
        folder = sandbox.lay(files)
        os.chdir(folder)
        del files
        os.write(writer, b"begin\n")
        outcome = _with(judge(kind, number, folder / target, folder, audit), sandbox.watch)
        os.chdir("/")
        os.write(writer, json.dumps(asdict(outcome)).encode() + b"\n")


class _Audit:
    """Collects what Python code does outside the sandbox, while it is on."""

    def __init__(self, inside: Path) -> None:
        self.on, self.seen, self.inside = False, dict[str, str](), str(inside)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = details
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & 3)
            if writes and not isinstance(path, int):
                self._outside(path)
        elif event in _WRITES:
            for path in details[:2]:
                if isinstance(path, (str, bytes, os.PathLike)):
                    self._outside(path)
        elif event in _PROCESSES and details[0] not in _OWN_PROGRAMS:
            self.seen["process"] = f"{event} {details!r}"[:300]
        elif event in _NETWORK:
            self.seen["network"] = f"{event} {details!r}"[:300]
        elif event == "pickle.find_class":
            self.seen["process"] = f"{event} {details!r}"[:300]

    def _outside(self, path: Any) -> None:
        full = os.path.abspath(os.fsdecode(path))
        if not full.startswith(self.inside + os.sep) and full != os.devnull and "__pycache__" not in full:
            self.seen["outside"] = full[:300]


def judge(kind: str, number: int, path: Path, folder: Path, audit: _Audit) -> Outcome:
    """Reads the file in every way of its kind, and says what went wrong."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak of memory starts anew
    audit.seen = {}
    names = (str(folder), *(entry.name for entry in folder.rglob("*") if entry.is_file()))
    faults: dict[str, str] = {}
    accepted, begun = False, time.monotonic()
    for call in KINDS[kind].calls(path, folder):
        audit.on = True
        try:
            result = call()
            audit.on, accepted = False, True
            if _holds_secret(result):
                faults["secret"] = "in the result"
        except BaseException as error:
            audit.on = False
            faults |= _faults_of(error, KINDS[kind], names)
            del error
    seconds, rss_kb = time.monotonic() - begun, _status("VmHWM")
    if seconds > HANG_S:
        faults["hang"] = f"{seconds:.1f} s"
    if rss_kb > MAX_RSS_KB:
        faults["memory"] = f"{rss_kb / 2**20:.2f} GiB"
    return Outcome(kind, number, accepted, faults | audit.seen, round(seconds, 3), rss_kb)


def _holds_secret(result: object) -> bool:
    try:
        return SECRET in repr(result)[:200_000]
    except ValueError:  # a number that Python does not write
        return False


def _faults_of(error: BaseException, kind: Kind, names: Sequence[str]) -> dict[str, str]:
    faults, text = {}, ""
    try:
        text = str(error)
    except Exception:
        faults["unexpected"] = f"{type(error).__name__} without text"
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/vovnet/" in frame.filename]
    place = f"{Path((ours or [last])[-1].filename).name}:{(ours or [last])[-1].lineno}"
    shown = f"{type(error).__name__} at {place}: {text[:200]!a}"
    if not isinstance(error, kind.expected):
        faults["unexpected"] = shown
    elif kind.named and not any(name in text for name in names):
        faults["unnamed"] = shown
    if len(text) > MAX_MESSAGE or "\n" in text or POWER.search(text):
        faults["long"] = f"{len(text)} characters{', with control characters' if POWER.search(text) else ''}; {shown}"
    if SECRET in text:
        faults["secret"] = shown
    return faults


def _status(name: str) -> int:
    """A figure of /proc/self/status, in kB."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0])

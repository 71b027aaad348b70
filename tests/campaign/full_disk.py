"""Every command that writes, on a disk that is full: a sentence, status 1, and earlier results as they were."""

from __future__ import annotations

import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import workplace
from .commands import Check, contents, problem_of_message, vovnet

SECTION = "full disk"
_ROOM = 300  # bytes per file: less than every result


def full_disk(*, only: Sequence[str] | None = None) -> Iterator[Check]:
    """only: some of the commands; None is all."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = workplace.prepare(Path(temporary))
        for name, arguments in _commands().items():
            if only is None or name in only:
                yield Check(SECTION, name, _try(folder, arguments))
        if only is None or "resume" in only:
            yield Check(SECTION, "resume", _resume(folder))


def _commands() -> dict[str, list[str]]:
    few = ["--threads", "1"]
    measure = ["measure", "mobilenet", "--input-size", "32", "--repetitions", "2", "--no-memory", *few]
    evaluate = ["evaluate", "bccd", "data", "--split", "val", "--workers", "0", *few]
    return {
        "predict": ["predict", "images", "--output", "out", *few],
        "predict without drawing": ["predict", "images", "--no-draw", "--output", "out", *few],
        "predict --json": ["predict", "images/0.jpg", "--no-draw", "--json", "out/x.json", "--output", "o2", *few],
        "predict a video": ["predict", "a.mp4", "--output", "out", *few],
        "evaluate": [*evaluate, "--output", "out"],
        "compare": ["compare", "bccd", "--images", "images/0.jpg", "--output", "out", *few],
        "measure": [*measure, "--output", "out"],
        "measure --json": [*measure, "--json", "out/x.json"],
        "data check --json": ["data", "check", "data", "--json", "out/x.json"],
        "data check --fix": ["data", "check", "data", "--fix", "copy"],
        "reproduce": ["reproduce", "table3", "--output", "out"],
        "train": ["train", "config.yaml", "output=out2", "schedule.iterations=1"],
    }


def limited() -> None:
    """Files of this process cannot grow, as on a full disk; the signal that comes with it is ignored."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_ROOM, _ROOM))


def _try(folder: Path, arguments: list[str]) -> str:
    """What is wrong after the command on a full disk, beside results of the same names, or ""."""
    first = vovnet(arguments, folder)
    if first.status and arguments[:2] != ["data", "check"]:
        return f"fails with room: {first.stderr[-300:]!r}"
    for absent in ("copy", "out2", "o2"):
        shutil.rmtree(folder / absent, ignore_errors=True)
    before = contents(folder)
    finished = vovnet(arguments, folder, prepare=_but_for_logs(limited))
    after = contents(folder)
    fault = problem_of_message(finished)
    changed = [name for name, data in before.items() if after.get(name) != data]
    left = [name for name in after.keys() - before.keys() if ".part" in name or name.startswith(("out/", "copy/"))]
    shutil.rmtree(folder / "out", ignore_errors=True)
    return "; ".join(filter(None, [fault, f"changed: {changed}" if changed else "", f"left: {left}" if left else ""]))[
        :400
    ]


def _but_for_logs(limit: Callable[[], None]) -> Callable[[], None]:
    """The streams go to pipes into the logs, because the limit would hold for them too."""

    def prepare() -> None:
        import os

        for stream in (1, 2):
            reader, writer = os.pipe()
            log = os.dup(stream)
            if os.fork() == 0:
                os.close(writer)
                while data := os.read(reader, 2**16):
                    os.write(log, data)
                os._exit(0)
            os.close(reader)
            os.close(log)
            os.dup2(writer, stream)
            os.close(writer)
        limit()

    return prepare


def _resume(folder: Path) -> str:
    """A run whose disk is full at its second checkpoint keeps the first, and goes on from it."""
    arguments = ["train", "config.yaml", "output=run", "resume=true"]
    vovnet([*arguments, "schedule.iterations=1", "schedule.warmup_iterations=0", "schedule.kind=step"], folder)
    if not (folder / "run" / "last.pt").exists():
        return "the run could not begin"
    before = (folder / "run" / "last.pt").read_bytes()
    longer = [*arguments, "schedule.iterations=2", "schedule.warmup_iterations=0", "schedule.kind=step"]
    finished = vovnet(longer, folder, prepare=_but_for_logs(limited))
    if (folder / "run" / "last.pt").read_bytes() != before:
        return "the checkpoint has changed"
    if fault := problem_of_message(finished):
        return fault
    resumed = vovnet(longer, folder)
    return "" if resumed.status == 0 else f"cannot be resumed: {resumed.stderr[-300:]!r}"

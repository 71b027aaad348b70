"""Kills commands at random moments. What is there afterwards is the old result or the new one, and training goes on."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import workplace
from .commands import Check, Finished, contents, vovnet
from .harm import whole

SECTION = "kills"


def kills(counts: Mapping[str, int], *, seed: int) -> Iterator[Check]:
    """counts: command → how often it is killed."""
    trials: dict[str, Callable[[Path, int, random.Random], Iterator[Check]]] = {
        "train": _train, "predict": _predict, "evaluate": _evaluate, "data check --fix": _fix, "measure": _measure,
    }  # fmt: skip
    for name, count in counts.items():
        if count:
            with tempfile.TemporaryDirectory() as folder:
                yield from trials[name](workplace.prepare(Path(folder)), count, random.Random(f"{seed}:{name}"))


def _train(folder: Path, count: int, chance: random.Random) -> Iterator[Check]:
    """A killed run that is resumed ends bit for bit like one that was not."""
    whole = _must(vovnet(["train", "config.yaml", "output=whole", "resume=true"], folder))
    expected = _state(folder / "whole")
    for number in range(count):
        arguments = ["train", "config.yaml", "output=killed", "resume=true"]
        vovnet(arguments, folder, kill_after_s=chance.uniform(0, whole.seconds))
        resumed = vovnet(arguments, folder)
        fault = "" if resumed.status == 0 else f"not resumed: {resumed.stderr[-300:]!r}"
        fault = fault or ("" if _equal(_state(folder / "killed"), expected) else "other weights or another log")
        yield Check(SECTION, f"train {number}", fault)
        shutil.rmtree(folder / "killed", ignore_errors=True)


def _state(folder: Path) -> list[Any]:
    """What a run leaves, but for the times in its log."""
    import torch

    from vovnet.weights.file import load_checkpoint, read_safetensors

    checkpoint = load_checkpoint(folder / "last.pt")
    momentum = [entry["momentum_buffer"] for entry in checkpoint["optimizer"]["state"].values()]
    tensors = [*checkpoint["model"].values(), *checkpoint["ema"].values(), *momentum]
    for name in ("best.safetensors", "last.safetensors"):
        tensors += [tensor for _, tensor in sorted(read_safetensors(folder / name)[0].items())]
    timed = ("images_per_s", "seconds_left")
    lines = (folder / "log.jsonl").read_text().splitlines()
    log = [{key: value for key, value in json.loads(line).items() if key not in timed} for line in lines]
    return [log, *(torch.as_tensor(tensor) for tensor in tensors)]


def _equal(some: Sequence[Any], others: Sequence[Any]) -> bool:
    import torch

    return some[0] == others[0] and len(some) == len(others) and all(map(torch.equal, some[1:], others[1:]))


def _predict(folder: Path, count: int, chance: random.Random) -> Iterator[Check]:
    """Each file is the old one or the new one, and the drawn images can be read."""
    arguments = ["predict", "images", "--output", "out", "--threads", "1", "--batch-size", "1"]
    _must(vovnet([*arguments, "--score-threshold", "0.9"], folder))
    old = contents(folder / "out")
    new_run = _must(vovnet([*arguments, "--score-threshold", "0.2"], folder))
    new = contents(folder / "out")
    for number in range(count):
        _restore(folder / "out", old)
        vovnet([*arguments, "--score-threshold", "0.2"], folder, kill_after_s=chance.uniform(0, new_run.seconds))
        yield Check(SECTION, f"predict {number}", _neither(folder / "out", old, new))


def _evaluate(folder: Path, count: int, chance: random.Random) -> Iterator[Check]:
    arguments = ["evaluate", "bccd", "data", "--split", "train", "--output", "out", "--threads", "1", "--workers", "0"]
    finished = _must(vovnet(arguments, folder))
    old = contents(folder / "out")
    for number in range(count):
        _restore(folder / "out", old)
        vovnet(arguments, folder, kill_after_s=chance.uniform(0, finished.seconds))
        yield Check(SECTION, f"evaluate {number}", _unreadable(folder / "out", old))


def _measure(folder: Path, count: int, chance: random.Random) -> Iterator[Check]:
    arguments = ["measure", "mobilenet", "--input-size", "32", "--repetitions", "3", "--no-memory", "--output", "out"]
    finished = _must(vovnet([*arguments, "--threads", "1"], folder))
    old = contents(folder / "out")
    for number in range(count):
        _restore(folder / "out", old)
        vovnet([*arguments, "--threads", "1"], folder, kill_after_s=chance.uniform(0, finished.seconds))
        yield Check(SECTION, f"measure {number}", _unreadable(folder / "out", old))


def _fix(folder: Path, count: int, chance: random.Random) -> Iterator[Check]:
    """The cleaned copy is absent or complete, and can be written afterwards."""
    for path in (folder / "images").iterdir():
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.2\n")
    for number in range(1500):  # so that copying takes a while
        (folder / "images" / f"{number}.md").write_bytes(bytes(9000))
    (folder / "images" / "classes.txt").write_text("cell\n")
    arguments = ["data", "check", "images", "--fix", "copy", "--workers", "1"]
    before = {path.name for path in folder.iterdir()} | {".stdout", ".stderr", "copy"}
    begun = time.monotonic()
    checked = vovnet(arguments, folder)
    seconds, whole = time.monotonic() - begun, contents(folder / "copy")
    if len(whole) < 1500:
        raise RuntimeError(f"there is no copy to kill: {checked.stderr[-500:]!r}")
    for number in range(count):
        shutil.rmtree(folder / "copy", ignore_errors=True)
        vovnet(arguments, folder, kill_after_s=chance.uniform(0, seconds / 2), armed=lambda: _writes(folder, before))
        copy = contents(folder / "copy") if (folder / "copy").exists() else {}
        fault = "" if copy in ({}, whole) else f"{len(copy)} of {len(whole)} files in the copy"
        if not fault and not copy:
            shutil.rmtree(folder / "copy", ignore_errors=True)
            vovnet(arguments, folder)
            fault = "" if contents(folder / "copy") == whole else "the copy cannot be written after the kill"
        yield Check(SECTION, f"data check --fix {number}", fault)


def _writes(folder: Path, before: Collection[str]) -> bool:
    """Whether the copy, or a hidden folder for it, is there."""
    return (folder / "copy").exists() or any(path.name not in before for path in folder.iterdir())


def _must(finished: Finished) -> Finished:
    if finished.status:
        raise RuntimeError(f"the command failed without being killed: {finished.stderr[-500:]!r}")
    return finished


def _restore(folder: Path, files: Mapping[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _visible(folder: Path) -> dict[str, bytes]:
    """Without what a killed process could not clear away: hidden, and of no name that anybody reads."""
    return {name: data for name, data in contents(folder).items() if not Path(name).name.startswith(".")}


def _neither(folder: Path, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> str:
    found = _visible(folder)
    strange = [name for name, data in found.items() if data not in (old.get(name), new.get(name))]
    lost = [name for name in old if name not in found]
    return f"half: {strange}, lost: {lost}" if strange or lost else ""


def _unreadable(folder: Path, old: Mapping[str, bytes]) -> str:
    """The files that are lost, or are no whole file of their format."""
    found = _visible(folder)
    faults = [f"{name} is lost" for name in old if name not in found]
    for name, data in found.items():
        try:
            whole(name, data)
        except Exception as error:
            faults.append(f"{name}: {error}")
    return "; ".join(faults)[:300]

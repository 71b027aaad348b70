"""Install the wheels of dist/ in bare environments: plain, with each extra alone, and with all: `make environments`.

In the plain one every command that needs an extra must say in one sentence which `pip install` adds what is missing.
That very line then installs the extra into a copy, where the command must work. With --record,
docs/records/environments.json notes what each extra adds: a row says when and with what it was measured, and rows that
a run does not measure stay (null is what was not noted). The exit status is 1 if anything was not as it should be.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bare_environment import Environment, bring_torch
from extras import COLLECTIVE, IMAGE, ROOT, USES, WITHOUT_EXTRAS, Use, extras, in_all, runner_uses

from vovnet.files import write_json
from vovnet.provenance import record_header

RECORD = ROOT / "docs/records/environments.json"
RUNNER = "from vovnet.runtime.command import main; main()"


def problem_of(
    use: Use, done: subprocess.CompletedProcess[str], *, installed: bool, name: str = "vovnet"
) -> str | None:
    """What is wrong with how it ended; None if it is as it should be."""
    line = f'pip install "{name}[{use.extra}]"'
    said = done.stdout if use.program else done.stderr
    if "Traceback" in done.stderr:
        return f"a traceback: {done.stderr.strip().splitlines()[-1]}"
    if use.program:
        return None if done.returncode == 0 and (line in said) != installed else f"said {said.strip()!r}"
    if installed:
        return None if done.returncode == 0 else f"status {done.returncode}: {said.strip()[-300:]}"
    one_sentence = said.count("\n") == 1 and said.startswith("vovnet: ") and line in said
    return None if done.returncode in (1, 2) and one_sentence else f"status {done.returncode}: {said.strip()[-300:]}"


def attempt(environment: Environment, extra: str | None) -> Iterator[str]:
    """The problems of what is tried in an environment: without an extra everything, with one what needs it."""
    for arguments in WITHOUT_EXTRAS if extra is None else ():
        done = environment.run("-m", "vovnet", *arguments)
        if done.returncode or "Traceback" in done.stderr:
            yield f"vovnet {' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()[-300:]}"
    for use in USES:
        if extra in (None, use.extra) or (extra == "all" and use.extra in in_all()):
            done = environment.run(*(("-c", use.program) if use.program else ("-m", "vovnet", *use.arguments)))
            if problem := problem_of(use, done, installed=extra is not None):
                yield f"{use.extra}: {' '.join(use.arguments) or use.program}: {problem}"


def measured(extra: str | None, adds_mb: float, adds_packages: int, found: Sequence[str]) -> dict[str, Any]:
    """A row of the record."""
    return {"extra": extra, "adds_mb": round(adds_mb, 1), "adds_packages": adds_packages, "problems": [*found]}


def try_each(
    plain: Environment, wheel: Path, chosen: Iterable[str | None], find: Callable[[Environment, str | None], list[str]]
) -> Iterator[dict[str, Any]]:
    """The rows of a distribution. find: the problems of an environment with this extra.

    chosen: extras; None is the plain installation, which is made in any case.
    """
    before, packages = plain.megabytes(), plain.packages()
    plain.install(str(wheel))
    names, size = plain.packages(), plain.megabytes()
    name = wheel.name.partition("-")[0].replace("_", "-")
    for extra in chosen:
        if extra is None:
            yield measured(None, size - before, len(names - packages), find(plain, None))
            continue
        environment = plain.copy(plain.folder.with_name(f"{plain.folder.name}-{extra}"))
        environment.install(f"{name}[{extra}]")
        added = len(environment.packages() - names)
        yield measured(extra, environment.megabytes() - size, added, find(environment, extra))
        shutil.rmtree(environment.folder)


def try_vovnet(folder: Path, wheel: Path, chosen: Iterable[str | None], torch_from: Path | None) -> Iterator[Any]:
    """The rows of the record."""
    plain = Environment(folder / "plain")
    bring_torch(plain, torch_from)
    yield from try_each(plain, wheel, chosen, lambda environment, extra: list(attempt(environment, extra)))


def attempt_runner(environment: Environment, extra: str | None, exported: Path) -> Iterator[str]:
    """The problems of an environment of vovnet-runtime. exported: a folder with bccd_small for each runtime."""
    onnx = str(exported / "bccd_small.onnx")
    for arguments in (("--help",), ("info", onnx), ("predict", onnx, str(IMAGE))):
        done = environment.run("-c", RUNNER, *arguments)
        if done.returncode or "Traceback" in done.stderr:
            yield f"{' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()[-300:]}"
    for use in runner_uses(exported):
        if extra not in (None, use.extra):  # some extras bring what others need: supervision has av
            continue
        done = environment.run("-c", *((use.program,) if use.program else (RUNNER, *use.arguments)))
        if problem := problem_of(use, done, installed=use.extra == extra, name="vovnet-runtime"):
            yield f"{use.extra}: {problem}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="these extras of vovnet only; plain, runner")
    parser.add_argument("--skip", nargs="+", default=[], help="extras, of vovnet and of the runner, to leave out")
    parser.add_argument("--torch-from", type=Path, help="folder of packages whose PyTorch is linked, not fetched")
    parser.add_argument("--runner-python", nargs="+", default=[sys.executable], help="Pythons of the runner")
    parser.add_argument("--exported", type=Path, help="bccd_small exported for each runtime; else that is done first")
    parser.add_argument("--record", action="store_true", help="write what was measured to docs/records")
    options = parser.parse_args()
    (wheel,), (runner_wheel,) = ROOT.glob("dist/vovnet-*.whl"), ROOT.glob("dist/vovnet_runtime-*.whl")
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for distribution, row in rows_of(options, folder, wheel, runner_wheel):
            name = f"{distribution} {row['extra'] or 'plain'}, Python {row['python']}"
            print(
                f"{name}: {row['adds_mb']} MB, {len(row['problems'])} problems",
                *row["problems"],
                sep="\n  ",
                flush=True,
            )
            problems += [f"{name}: {problem}" for problem in row["problems"]]
            if options.record:
                note(distribution, row)
    if problems:
        sys.exit("\n".join(problems))


def rows_of(
    options: argparse.Namespace, folder: Path, wheel: Path, runner_wheel: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each distribution and row of the record."""
    header, torch = record_header(), None  # before the record changes
    if options.torch_from is not None:
        (found,) = importlib.metadata.distributions(name="torch", path=[str(options.torch_from)])
        torch = f"{found.version}, linked from another environment"
    ours: list[str | None] = [None, *(name for name in extras() if name not in COLLECTIVE - {"all"})]
    if chosen := [x for x in ours if (x or "plain") in (options.only or [x or "plain"]) and x not in options.skip]:
        made = provenance(wheel, platform.python_version()) | header | {"torch": torch or "fetched for CPUs"}
        for row in try_vovnet(folder, wheel, chosen, options.torch_from):
            yield "vovnet", row | made
    if options.only and "runner" not in options.only:
        return
    exported = options.exported or folder / "exported"
    for runtime in () if options.exported else ("onnx", "openvino", "mnn"):
        command = [sys.executable, "-m", "vovnet", "export", "bccd_small", "--to", runtime]
        subprocess.run([*command, "--output", str(exported)], check=True, stdout=subprocess.DEVNULL)
    theirs = [None, *(name for name in extras(ROOT / "runtime/pyproject.toml") if name not in options.skip)]
    for number, python in enumerate(options.runner_python):
        plain = Environment(folder / f"runner{number}", python)
        version = plain.run("-c", "import platform; print(platform.python_version())").stdout.strip()
        rows = try_each(plain, runner_wheel, theirs, lambda *where: list(attempt_runner(*where, exported)))
        for row in rows:
            yield "vovnet-runtime", row | provenance(runner_wheel, version) | header


def provenance(wheel: Path, python: str) -> dict[str, Any]:
    """Of a row: with what it was measured."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return {"python": python, "wheel_sha256": digest, "system": platform.platform()}


def note(distribution: str, row: Mapping[str, Any]) -> None:
    """Put a row into the record, in the place of that with the same extra and Python."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    order = [None, *(extras() if distribution == "vovnet" else extras(ROOT / "runtime/pyproject.toml"))]

    def key(one: Mapping[str, Any]) -> tuple[Any, Any]:
        return one.get("python"), one["extra"]

    others = [one for one in record.get(distribution, []) if key(one) != key(row) and one["extra"] in order]
    rows = sorted([*others, row], key=lambda one: (one.get("python", ""), order.index(one["extra"])))
    command = shlex.join(["python", "benchmarks/environments.py", *_shown(sys.argv[1:])])
    latest = {"command": command, "commit": row["commit"], "date": row["date"]}
    write_json(RECORD, {**record, **latest, distribution: rows})


def _shown(arguments: Sequence[str]) -> list[str]:
    """The arguments without the folders of this machine."""
    return [Path(word).name if os.sep in word else word for word in arguments]


if __name__ == "__main__":
    main()

"""Install the wheels of dist/ in bare environments: plain, with each extra alone, and with all: `make environments`.

In the plain one every command that needs an extra must say in one sentence which `pip install` adds what is missing.
That very line then installs the extra into a copy, where the command must work. With --record,
docs/records/environments.json notes what each extra adds. The exit status is 1 if anything was not as it should be.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from extras import CLIP, COLLECTIVE, IMAGE, ROOT, USES, WITHOUT_EXTRAS, Use, extras, in_all

from vovnet.files import write_json
from vovnet.provenance import record_header

RECORD = ROOT / "docs/records/environments.json"
CPU_TORCH = ("torch", "torchvision", "--index-url", "https://download.pytorch.org/whl/cpu")
OF_TORCH = ("torch", "torchvision", "torchgen", "functorch", "triton", "nvidia", "cuda")  # the beginnings of names
RUNNER = "from vovnet.runtime.command import main; main()"
TIMEOUT_S = 600


class Environment:
    """A virtual environment and an empty folder to run in.

    python: what makes it.
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder, self.work = folder, folder / "work"
        if not folder.exists():
            subprocess.run([python, "-m", "venv", str(folder)], check=True)
        self.work.mkdir(exist_ok=True)
        windows = sys.platform == "win32"
        self.python = folder / ("Scripts/python.exe" if windows else "bin/python")

    def install(self, *arguments: str) -> None:
        self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments).check_returncode()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What its Python does in its folder, without our own PYTHONPATH and cache."""
        ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        environment = kept | {"VOVNET_CACHE": str(self.folder / "cache"), "PYTHONIOENCODING": "utf-8"}
        return subprocess.run(
            [str(self.python), *arguments], cwd=self.work, env=environment, capture_output=True, text=True,
            encoding="utf-8", errors="replace", timeout=TIMEOUT_S,
        )  # fmt: skip

    def packages(self) -> set[str]:
        listed = self.run("-m", "pip", "list", "--format", "json", "--disable-pip-version-check").stdout
        return {package["name"] for package in json.loads(listed)}

    def megabytes(self) -> float:
        """Without compiled modules, which Python writes as they are imported, and without what ran there."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        kept = (path for path in files if path.suffix != ".pyc" and not path.is_relative_to(self.work))
        return sum(path.stat().st_size for path in kept) / 1e6

    def copy(self, folder: Path) -> Environment:
        """Another environment with the same packages, which takes no room on the disk."""
        ignored = shutil.ignore_patterns("work", "cache")
        shutil.copytree(self.folder, folder, copy_function=os.link, symlinks=True, ignore=ignored)
        return Environment(folder)


def link_torch(source: Path, target: Environment) -> None:
    """Let the environment have the PyTorch of another folder of packages, as if pip had installed it."""
    (site,) = {path for path in target.folder.rglob("site-packages") if path.is_dir()}
    for distribution in importlib.metadata.distributions(path=[str(source)]):
        name = distribution.name.lower()
        if name.startswith(OF_TORCH) and name != "nvidia-ml-py":  # which is of the extra "energy"
            for file in distribution.files or ():
                place = site / file
                if ".." not in file.parts and not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    os.link(source / file, place)


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


def try_vovnet(folder: Path, wheel: Path, only: Sequence[str], torch_from: Path | None) -> tuple[list[Any], list[str]]:
    """The rows of the record, and the problems."""
    plain = Environment(folder / "plain")
    if torch_from is None:
        plain.install(*CPU_TORCH)
    else:
        link_torch(torch_from, plain)
    before = plain.megabytes()
    plain.install(str(wheel))
    names, size = plain.packages(), plain.megabytes()
    rows, problems = [{"extra": None, "adds_mb": round(size - before, 1), "adds_packages": len(names)}], []
    for extra in (None, *(name for name in extras() if name not in COLLECTIVE - {"all"})):
        if only and (extra or "plain") not in only:
            continue
        environment = plain
        if extra is not None:
            environment = plain.copy(folder / extra)
            environment.install(f"vovnet[{extra}]")
            added = len(environment.packages() - names)
            rows.append({"extra": extra, "adds_mb": round(environment.megabytes() - size, 1), "adds_packages": added})
        found = list(attempt(environment, extra))
        problems += [f"{extra or 'plain'}: {problem}" for problem in found]
        print(f"{extra or 'plain'}: {rows[-1]['adds_mb']} MB, {len(found)} problems", *found, sep="\n  ", flush=True)
        if extra is not None:
            shutil.rmtree(environment.folder)
    return rows, problems


def try_runner(folder: Path, wheel: Path, exported: Path, python: str) -> tuple[list[Any], list[str]]:
    """The same for vovnet-runtime. exported: a folder with bccd_small exported for each runtime."""
    plain = Environment(folder / "runner", python)
    before = plain.megabytes()
    plain.install(str(wheel))
    names, size = plain.packages(), plain.megabytes()
    rows, problems = [{"extra": None, "adds_mb": round(size - before, 1), "adds_packages": len(names)}], []
    onnx = str(exported / "bccd_small.onnx")
    uses = [Use("openvino", ("predict", str(exported / "bccd_small_openvino"), str(IMAGE)))]
    uses += [Use("mnn", ("predict", str(exported / "bccd_small_mnn"), str(IMAGE)))]
    uses += [Use("video", ("predict", onnx, str(CLIP)))]
    for extra in (None, *extras(ROOT / "runtime/pyproject.toml")):
        environment = plain
        if extra is not None:
            environment = plain.copy(folder / f"runner-{extra}")
            environment.install(f"vovnet-runtime[{extra}]")
            added = len(environment.packages() - names)
            rows.append({"extra": extra, "adds_mb": round(environment.megabytes() - size, 1), "adds_packages": added})
        found = []
        for arguments in (("--help",), ("info", onnx), ("predict", onnx, str(IMAGE))):
            done = environment.run("-c", RUNNER, *arguments)
            if done.returncode or "Traceback" in done.stderr:
                found.append(f"{' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()[-300:]}")
        for use in uses:
            done = environment.run("-c", RUNNER, *use.arguments)
            if problem := problem_of(use, done, installed=use.extra == extra, name="vovnet-runtime"):
                found.append(f"{use.extra}: {problem}")
        problems += [f"runner {extra or 'plain'}: {problem}" for problem in found]
        print(f"runner {extra or 'plain'}: {rows[-1]['adds_mb']} MB, {len(found)} problems", *found, sep="\n  ")
    return rows, problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="these extras of vovnet only; plain, runner")
    parser.add_argument("--torch-from", type=Path, help="folder of packages whose PyTorch is linked, not fetched")
    parser.add_argument("--runner-python", default=sys.executable, help="the Python of the runner's environments")
    parser.add_argument(
        "--record", action="store_true", help="write docs/records/environments.json, of what --only chooses"
    )
    options = parser.parse_args()
    (wheel,), (runner_wheel,) = ROOT.glob("dist/vovnet-*.whl"), ROOT.glob("dist/vovnet_runtime-*.whl")
    rows, runner_rows, problems = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if not options.only or set(options.only) != {"runner"}:
            rows, problems = try_vovnet(folder, wheel, options.only, options.torch_from)
        if not options.only or "runner" in options.only:
            exported = folder / "exported"
            for runtime in ("onnx", "openvino", "mnn"):
                command = [sys.executable, "-m", "vovnet", "export", "bccd_small", "--to", runtime]
                subprocess.run([*command, "--output", str(exported)], check=True, stdout=subprocess.DEVNULL)
            runner_rows, found = try_runner(folder, runner_wheel, exported, options.runner_python)
            problems += found
    if options.record:
        system = {"system": platform.platform(), "python": platform.python_version()}
        record = {**record_header("make environments"), **system, "vovnet": rows, "vovnet-runtime": runner_rows}
        write_json(RECORD, {**record, "problems": problems})
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()

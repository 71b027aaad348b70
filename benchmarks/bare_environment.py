"""Bare virtual environments, in which the distributions are tried as their users have them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

CPU_TORCH = ("torch", "torchvision", "--index-url", "https://download.pytorch.org/whl/cpu")
OF_TORCH = ("torch", "torchvision", "torchgen", "functorch", "triton", "nvidia", "cuda")  # the beginnings of names
TIMEOUT_S = 1200


class Environment:
    """A virtual environment and an empty folder to run in.

    python: what makes it.
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder, self.work = folder, folder / "work"
        if not folder.exists():
            try:
                subprocess.run([python, "-m", "venv", str(folder)], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                sys.exit(f"{python} makes no virtual environment ({error}): name a Python that starts, with its path")
        self.work.mkdir(exist_ok=True)
        self.programs = folder / ("Scripts" if sys.platform == "win32" else "bin")

    def install(self, *arguments: str) -> None:
        done = self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)
        if done.returncode:
            sys.exit(f"pip install {shlex.join(arguments)}: {done.stderr.strip()[-1000:]}")

    def run(self, *arguments: str, program: str = "python") -> subprocess.CompletedProcess[str]:
        """What one of its programs does in its folder, without our own PYTHONPATH and cache."""
        ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        environment = kept | {"VOVNET_CACHE": str(self.folder / "cache"), "PYTHONIOENCODING": "utf-8"}
        command = [str(self.programs / program), *arguments]
        try:
            return subprocess.run(
                command, cwd=self.work, env=environment, capture_output=True, text=True, encoding="utf-8",
                errors="replace", timeout=TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"stopped after {TIMEOUT_S} s")

    def packages(self) -> set[str]:
        listed = self.run("-m", "pip", "list", "--format", "json", "--disable-pip-version-check").stdout
        return {package["name"] for package in json.loads(listed)}

    def megabytes(self) -> float:
        """Without compiled modules, which Python writes as they are imported, and without what ran there."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        kept = (path for path in files if path.suffix != ".pyc" and not path.is_relative_to(self.work))
        return sum(path.stat().st_size for path in kept) / 1e6

    def copy(self, folder: Path) -> Environment:
        """Another environment with the same packages, which takes no room on the disk.

        Programs other than Python would still use those of the first.
        """
        ignored = shutil.ignore_patterns("work", "cache")
        shutil.copytree(self.folder, folder, copy_function=os.link, symlinks=True, ignore=ignored)
        return Environment(folder)


def bring_torch(target: Environment, source: Path | None) -> None:
    """Let the environment have PyTorch: from a folder of packages, or without one that for CPUs, which is fetched."""
    if source is None:
        target.install(*CPU_TORCH)
    else:
        _link_torch(source, target)


def _link_torch(source: Path, target: Environment) -> None:
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

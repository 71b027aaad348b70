"""The wheels and sdists of both distributions, as `make package` builds them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"vovnet": ROOT, "vovnet_runtime": ROOT / "runtime"}


@dataclass(frozen=True)
class Built:
    """wheel, sdist: name → content of each file, without the folder at the top of the sdist.

    wheel_of_sdist: that of the wheel that the unpacked sdist builds.
    """

    wheel: dict[str, bytes]
    sdist: dict[str, bytes]
    wheel_of_sdist: dict[str, bytes]


@pytest.fixture(scope="session", params=FOLDERS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Built]:
    """The name of a distribution, and its files."""
    pytest.importorskip("hatchling", reason="hatchling builds the packages and is not installed")
    folder = tmp_path_factory.mktemp("dist")
    _hatchling(FOLDERS[request.param], folder)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    _hatchling(unpacked, folder / "again", "-t", "wheel")
    (again,) = (folder / "again").glob("*.whl")
    files = {path.relative_to(unpacked).as_posix(): path for path in unpacked.rglob("*") if path.is_file()}
    contents = {name: path.read_bytes() for name, path in files.items()}
    return request.param, Built(_content(wheel), contents, _content(again))


def _hatchling(folder: Path, output: Path, *more: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(output), *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}

"""What error messages have in common."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import vovnet
from vovnet.cli.main import EXTRA_OF_PACKAGE
from vovnet.errors import counted, install_extra

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in Path(vovnet.__file__).parent.rglob("*.py")}


def test_extras_are_installed_from_the_source_folder() -> None:
    assert install_extra("eval") == "pip install '.[eval]' in the source folder of vovnet"
    assert not [name for name, source in SOURCES.items() if "vovnet[" in source], "the package is on no index"


def test_messages_name_extras_that_exist() -> None:
    used = {extra for source in SOURCES.values() for extra in re.findall(r"install_extra\([\"'](\w+)[\"']\)", source)}
    assert used >= {"eval", "energy", "onnx", "timm", "train", "zeus"}
    assert used <= EXTRAS.keys()


def test_the_extra_of_a_package_installs_it() -> None:
    distributions = {"markdown_it": "markdown-it-py", "pynvml": "nvidia-ml-py"}
    for package, extra in EXTRA_OF_PACKAGE.items():
        names = {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in EXTRAS[extra]}
        assert distributions.get(package, package) in names, package


@pytest.mark.parametrize(("count", "text"), [(0, "0 boxes"), (1, "1 box"), (2, "2 boxes"), (1000, "1000 boxes")])
def test_nouns_agree_with_their_count(count: int, text: str) -> None:
    assert counted(count, "box", "boxes") == text
    assert counted(count, "image") == text.replace("boxes", "images").replace("box", "image")

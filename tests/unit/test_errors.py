"""What error messages have in common."""

from __future__ import annotations

import json
import re
import time
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

import vovnet
from vovnet.cli.main import EXTRA_OF_PACKAGE, _one_sentence
from vovnet.cli.output import complain
from vovnet.engine.config_keys import hint
from vovnet.errors import counted, did_you_mean, install_extra, listed, nearest_beside, unknown_name
from vovnet.runtime import options

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SOURCES = {str(path): path.read_text(encoding="utf-8") for path in Path(vovnet.__file__).parent.rglob("*.py")}


def test_extras_are_installed_by_the_name_of_the_package() -> None:
    """In double quotes: Windows takes single ones as a part of the name."""
    assert install_extra("eval") == 'pip install "vovnet[eval]"'
    assert not [name for name, source in SOURCES.items() if "pip install '" in source]


def test_messages_name_extras_that_exist() -> None:
    used = {
        extra
        for source in SOURCES.values()
        for extra in re.findall(r"(?:install|needs|import)_extra\([\"'](\w+)[\"']", source)
    }
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


WORKER = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n  File x\n    x()\n"
LONG, EVIL = "x" * 1_000_000, "a\x1b[2J\u202e\nvovnet: done"


class Schema(BaseModel):
    batch_size: int = 1


def hint_of(name: str, known: list[str]) -> str:
    del known
    return hint(Schema, name)


def labels_of(name: str, known: list[str]) -> str:
    with pytest.raises(ValueError, match="no class") as raised:
        options.labels_of(name, known)
    return str(raised.value)


@pytest.mark.parametrize(
    "name", [LONG, EVIL, "x" * 150, f"{'.' * 100_000}batch_sise"], ids=["long", "evil", "x", "dots"]
)
@pytest.mark.parametrize(
    "known", [["a"], ["x" * 149 + "y"] * 100_000, [LONG] * 50, [EVIL]], ids=["one", "many", "long", "evil"]
)
@pytest.mark.parametrize(
    "message", [lambda name, known: str(unknown_name("thing", name, known)), did_you_mean, hint_of, labels_of]
)
def test_a_hostile_name_costs_little(message: Callable[[str, list[str]], str], name: str, known: list[str]) -> None:
    began = time.process_time()
    text = message(name, known) if name not in known else ""
    assert time.process_time() - began < 5
    assert len(text) < 600
    assert text.isprintable()


def test_the_nearest_name_beside_a_path(tmp_path: Path) -> None:
    for name in ("cells", "newer.onnx"):
        (tmp_path / name).touch()
    assert nearest_beside(tmp_path / "cels") == f", did you mean '{(tmp_path / 'cells').as_posix()}'?"
    assert nearest_beside(tmp_path / "gone.onnx") == "", "a suffix in common is not alike"
    assert nearest_beside(tmp_path / "no folder/cels") == ""
    assert nearest_beside(tmp_path / "cells/cels") == "", "a file is no folder"
    assert nearest_beside(tmp_path / "cel\0s") == f", did you mean '{(tmp_path / 'cells').as_posix()}'?"


def test_the_nearest_name_and_all_names() -> None:
    assert did_you_mean("resnet5", ["vgg", "resnet50"], "timm/") == ", did you mean 'timm/resnet50'?"
    assert did_you_mean("a", ["vgg"]) == ""
    assert str(unknown_name("model", "a", ["vgg", "alexnet"])) == "no model is called 'a' (there are: vgg, alexnet)"
    assert listed(map(str, range(50)), 3) == "0, 1, 2, … and 47 more"
    assert listed([]) == ""


def pydantic_error() -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        Schema.model_validate({"batch_size": LONG})
    return raised.value


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (MemoryError(), "out of memory; lower micro_batch_size"),
        (RecursionError("maximum recursion depth exceeded"), "something is nested too deeply"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), "a text or a name holds"),
        (SystemError(EVIL), "SystemError: "),
        (KeyError(LONG), "KeyError: "),
        (ValueError(EVIL), "a�[2J� vovnet: done"),
        (ValueError(""), "ValueError (run again"),
        (RuntimeError(LONG), "RuntimeError: "),
        (json.JSONDecodeError("Expecting value", "", 0), "a file is not valid JSON"),
        (zipfile.BadZipFile("File is not a zip file"), "a file is not a valid archive"),
        (pydantic_error(), "batch_size: Input should be a valid integer"),
        (ValueError(f"{WORKER}ValueError: {LONG}"), "xxx"),
        (ValueError(f"{WORKER}ValueError: {EVIL}"), "a�[2J� vovnet: done"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_any_type_is_one_short_sentence(
    error: Exception, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    complain(_one_sentence(error, "train"))
    shown = capsys.readouterr().err
    assert shown.startswith(f"vovnet: {start}")
    assert len(shown) < 1020
    assert shown[:-1].isprintable()
    assert "errors.pydantic.dev" not in shown

"""Imports go down the layers only; `import vovnet` is quick, and its names are a promise."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vovnet

PACKAGE = Path(vovnet.__file__).parent
LAYERS = (
    {"cli", "__main__"},  # what a person runs
    {"paper"},  # the paper's tables, figures and studies
    {"report"},  # results as tables, plots and pages
    {"engine"},  # where the parts meet
    {"weights", "zoo"},  # names and files of models
    {"data", "models", "losses", "metrics", "profiling"},  # peers, strangers to each other
    # pure functions, three dataclasses, an exception
    {"boxes", "masks", "mask_contours", "matching", "structures", "files", "download", "errors", "provenance"},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
STRANGERS = LAYERS[5]
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imported_modules(source: str) -> Iterator[str]:
    """The modules of this package that a file imports, wherever in it: in functions and for type checkers too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "vovnet")


def violations(file: str, source: str) -> list[str]:
    importer = file.removesuffix(".py").split("/")[0]
    found = []
    for name in imported_modules(source):
        imported = name.split(".")[1] if "." in name else "__version__"  # the package itself: for its version
        if imported == "__version__" or imported == importer:
            continue
        down = LAYER[imported] > LAYER[importer]
        beside = LAYER[imported] == LAYER[importer] and importer not in STRANGERS
        if not down and not beside:
            found.append(f"{file} imports {name}")
    return found


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_imports_go_down(file: str) -> None:
    assert violations(file, (PACKAGE / file).read_text()) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("data/voc.py", "from vovnet.zoo import create_model"),
        ("boxes.py", "def f():\n    import vovnet.metrics.voc"),
        ("engine/train.py", "if TYPE_CHECKING:\n    from vovnet.report import plots"),
        ("metrics/voc.py", "from vovnet import engine"),
    ],
)
def test_a_wrong_direction_is_noticed(file: str, source: str) -> None:
    assert len(violations(file, source)) == 1


def test_the_public_names() -> None:
    golden = ["Detections", "Target", "__version__", "create_backbone", "create_model", "load", "measure"]
    assert vovnet.__all__ == golden, "a new public name? then add it here, to the README and to CHANGELOG.md"
    assert dir(vovnet) == golden
    for name in golden:
        assert getattr(vovnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        vovnet.lod  # noqa: B018


@pytest.mark.parametrize("statement", ["import vovnet", "import vovnet.cli.main"])
def test_importing_does_not_wait_for_torch(statement: str) -> None:
    code = f"{statement}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "vovnet" in loaded
    assert not {"torch", "torchvision", "numpy", "matplotlib", "hotcoco", "av", "pydantic"} & set(loaded)


def test_extras_are_imported_late() -> None:
    code = "import vovnet.weights.shipped, vovnet.engine.train, vovnet.report.evaluation, vovnet.data.check, sys\n"
    code += "print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"matplotlib", "hotcoco", "av", "tensorboard", "pandas"} & set(loaded)

"""Imports go down the layers and never in a circle, files and functions stay short, `import vovnet` is quick."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vovnet

PACKAGE = Path(vovnet.__file__).parent
LAYERS = (
    {"cli", "__main__"},  # what a person runs
    {"paper"},  # the paper's tables, figures and studies
    {"report"},  # results as tables, plots and pages
    {"export"},  # detectors as files for other runtimes, and the proof that these find the same
    {"adapters"},  # our backbones and samples in other libraries
    {"planning"},  # a training run chosen from the data and the machine
    {"engine"},  # where the parts meet
    {"weights"},  # files of weights
    {"zoo"},  # names of models
    {"data", "models", "losses", "metrics", "profiling"},  # independent of each other
    {"runtime"},  # runs exported files, without PyTorch
    {"media"},  # images and videos, without PyTorch
    # pure functions and small helpers
    {
        "boxes",
        "masks",
        "matching",
        "polygons",
        "structures",
        "files",
        "errors",
        "names",
        "download",
        "provenance",
        "exchange",
    }
    | {
        "libraries",
        "limits",
        "parsing",
        "printing",
        "folder_lock",
        "freed_memory",
        "urls",
        "bounded_http",
        "records",
        "sizes",
        "run_lengths",
    }
    | {"yaml_parsing", "json_window", "json_entries", "json_writing", "console", "padded_targets", "constants"},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
STRANGERS = [LAYERS[9]]  # these may not import each other
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
        beside = LAYER[imported] == LAYER[importer] and LAYERS[LAYER[importer]] not in STRANGERS
        if not down and not beside:
            found.append(f"{file} imports {name}")
    return found


def test_every_layer_is_there_and_everything_is_in_a_layer() -> None:
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} == LAYER.keys()


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_imports_go_down(file: str) -> None:
    assert violations(file, (PACKAGE / file).read_text()) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("data/readers/voc.py", "from vovnet.zoo import create_model"),
        ("boxes.py", "def f():\n    import vovnet.metrics.voc"),
        ("engine/train.py", "if TYPE_CHECKING:\n    from vovnet.report import plots"),
        ("report/document.py", "from vovnet.paper import tables"),
        ("metrics/voc.py", "from vovnet import engine"),
        ("profiling/speed.py", "from vovnet.models import layers"),
    ],
)
def test_a_wrong_direction_is_noticed(file: str, source: str) -> None:
    assert len(violations(file, source)) == 1


def import_circle(sources: Mapping[str, str]) -> list[str] | None:
    """The files of a circle of imports, if there is one: lazy imports and those for type checkers count."""
    modules = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in sources}
    graph = {}
    for file, source in sources.items():
        names = {name.removeprefix("vovnet.") for name in imported_modules(source)}
        candidates = names | {name.rpartition(".")[0] for name in names}
        graph[file] = {modules[name] for name in candidates & modules.keys()} - {file}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_no_circle_of_imports() -> None:
    sources = {file: (PACKAGE / file).read_text() for file in FILES if file != "__init__.py"}
    assert import_circle(sources) is None


def test_a_circle_is_noticed() -> None:
    sources = {
        "profiling/a.py": "def f():\n    from vovnet.profiling.b import g",
        "profiling/b.py": "from vovnet.profiling import c",
        "profiling/c.py": "if TYPE_CHECKING:\n    from vovnet.profiling.a import f",
    }
    circle = import_circle(sources)
    assert circle is not None
    assert set(circle) == sources.keys()


@pytest.mark.parametrize("file", FILES)
def test_files_and_functions_are_short(file: str) -> None:
    source = (PACKAGE / file).read_text()
    tree = ast.parse(source)
    reason = "More than 350 lines because"
    assert source.count("\n") <= 350 or reason in (ast.get_docstring(tree) or ""), (
        f"split {file} by subject, or give the reason in its docstring: {reason} …"
    )
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: count for name, count in lines.items() if count > 90} == {}


def test_the_architecture_names_what_exists() -> None:
    root = PACKAGE.parents[1]
    page = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = page.split("## Layers")[1].split("## One contract")[0]
    assert set(re.findall(r"`(\w+)`", table)) - {"Target", "Detections"} == LAYER.keys() - {"__main__"}
    paths = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", page)) - {"tensorboard/"}
    assert paths
    assert {path for path in paths if not (PACKAGE / path).exists() and not (root / path).exists()} == set()


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


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["data", "check", "--help"], ["data", "check", "samples/bccd"]]
)
def test_what_needs_no_network_starts_without_torch(arguments: list[str]) -> None:
    code = "import sys\nfrom vovnet.cli.main import main\ntry:\n    main()\nfinally:\n    print('LOADED', *sys.modules)"
    command = [sys.executable, "-c", code, *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loaded = {name.split(".")[0] for name in output.partition("LOADED ")[2].split()}
    assert "vovnet" in loaded
    assert not {"torch", "torchvision"} & loaded


def test_extras_are_imported_late() -> None:
    code = "import sys, torchvision, torch._dynamo\n"  # which import some that they find
    code += "theirs = set(sys.modules)\n"
    code += "import vovnet.engine.detector, vovnet.engine.train, vovnet.report.evaluation, vovnet.data.check\n"
    code += "print(*{name.split('.')[0] for name in sys.modules.keys() - theirs})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "vovnet" in loaded
    assert not {"matplotlib", "hotcoco", "av", "tensorboard", "pandas"} & set(loaded)


def test_another_folder_of_tests_does_not_hide_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__.partition('.')[0]}.trackers"
    (tmp_path / "tests").mkdir()
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file) == PACKAGE.parents[1] / "tests/trackers.py"

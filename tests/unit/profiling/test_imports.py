"""The modules of vovnet.profiling have no import circles, not even through imports in functions or for types."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from vovnet import profiling

FOLDER = Path(profiling.__path__[0])


def imported_siblings(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "vovnet.profiling":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vovnet.profiling."):
            names.add(str(node.module).split(".")[2])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[2] for alias in node.names if alias.name.startswith("vovnet.profiling.")}
    return names


def test_there_are_no_import_circles() -> None:
    imports = {path.stem: imported_siblings(path.read_text()) for path in FOLDER.glob("*.py")}
    assert imports["find_sensor"] >= {"nvml", "rapl", "zeus"}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from vovnet.profiling.a import x",
        "if TYPE_CHECKING:\n    from vovnet.profiling import a",
        "import vovnet.profiling.a",
    ],
)
def test_a_circle_is_noticed(source: str) -> None:
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": imported_siblings(source)}).prepare()

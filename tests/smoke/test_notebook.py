"""The notebook runs from top to bottom, and holds no outputs that could grow old."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples/walkthrough.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["metadata"]["language_info"]["name"]) == (4, "python")
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_it_holds_no_outputs() -> None:
    for cell in cells("code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_each_part_has_a_heading() -> None:
    first, *parts = ["".join(cell["source"]) for cell in cells("markdown")]
    assert first.startswith("# ")
    assert [part.splitlines()[0].split()[0] for part in parts] == ["##"] * len(parts)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("hotcoco", "matplotlib", "onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict[str, Any] = {}
    values = []
    for number, cell in enumerate(cells("code")):
        tree = ast.parse("".join(cell["source"]))
        shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        if shown is not None:  # what a notebook shows below the cell
            values.append(eval(compile(ast.Expression(shown.value), f"cell {number}", "eval"), names))
    printed = capsys.readouterr().out
    assert "8 steps" in printed
    assert "the same names: True" in printed
    assert names["evaluation"].voc.mean_ap11 > 0.8
    assert names["trained"].class_names == ("Platelets", "RBC", "WBC")
    assert values[0].size == (640, 480)

"""The page for other programs: its code runs without vovnet and prints what vovnet finds, its table is the file's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from vovnet.runtime.onnx_runtime import OnnxSession

from ...exported import SAMPLES, bccd_onnx

PAGE = (Path(__file__).parents[3] / "docs" / "onnx.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(tmp_path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "bccd.onnx").write_bytes(bccd_onnx())
    photo = Image.open(min(SAMPLES.iterdir())).convert("RGB")
    photo.save(tmp_path / "photo.jpg")
    forbidden = "import sys\nsys.modules['torch'] = sys.modules['vovnet'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", forbidden + code], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    session = OnnxSession(tmp_path / "bccd.onnx", threads=1)
    photo = Image.open(tmp_path / "photo.jpg")
    resized = np.asarray(photo.resize((300, 300), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
    rows = session.run(resized, 0.3)
    lines = done.stdout.splitlines()
    assert len(lines) == len(rows.scores) > 5
    for line, label, score in zip(lines, rows.labels, rows.scores, strict=True):
        name, shown, _ = line.split(maxsplit=2)
        assert name == session.info.class_names[label]
        assert abs(float(shown) - score) < 1e-5
    assert len([line for line in code.splitlines() if line]) == 12


def test_the_table_of_the_page_is_that_of_the_file() -> None:
    graph = onnx.load_from_string(bccd_onnx()).graph
    kinds = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}
    stated = re.findall(r"^\| (input|output) \| `(\w+)` \| (\w+) \(([\w, ]+)\) \|", PAGE, re.MULTILINE)
    values = [("input", value) for value in graph.input] + [("output", value) for value in graph.output]
    assert [(way, name, kind) for way, name, kind, _ in stated] == [
        (way, value.name, kinds[value.type.tensor_type.elem_type]) for way, value in values
    ]
    for (*_, shape), (_, value) in zip(stated, values, strict=True):
        assert len(shape.split(",")) == len(value.type.tensor_type.shape.dim)

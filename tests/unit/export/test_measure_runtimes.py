"""The table of runtimes: one row for each, whatever happens to the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vovnet.data.formats import open_dataset
from vovnet.errors import UsageError
from vovnet.export.measuring import measure_runtimes as measuring
from vovnet.export.measuring.measure_runtimes import STARTS, Plan, measure_runtimes
from vovnet.export.measuring.runtime_measurement import (
    RuntimeName,
    RuntimeRow,
    RuntimesMeasurement,
    parse_names,
    read_runtimes,
)
from vovnet.export.measuring.worker_process import Worker, WorkerError
from vovnet.files import json_text
from vovnet.weights.find import find_weights

from ..made_up_runtimes import made_up

TIMES_S = {"torch": 0.04, "onnxruntime": 0.02}


class FakeWorker:
    """Finds the boxes of the images, which are in `found` by their shape. "mnn" does not start, "openvino" breaks."""

    started: list[FakeWorker]
    found: Mapping[tuple[int, ...], list[Any]]

    def __init__(self, subject: Mapping[str, Any]) -> None:
        self.subject, self.runtime = subject, subject["runtime"]
        if self.runtime == "mnn":
            raise WorkerError("MNN is not installed")
        self.start_s, self.pid, self.closed, self.first = 0.5 + len(self.started), 2**30, False, {"version": "1.2"}
        self.started.append(self)

    def seconds(self, what: str, passes: int) -> list[float]:
        if self.runtime == "openvino":
            raise WorkerError("SIGSEGV ended its process")
        return [TIMES_S[self.runtime] * (2 if what == "boxes" else 1)] * passes

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if "memory" in request:
            return {"resident_mib": 100.0, "peak_mib": 120.0}
        boxes, labels = self.found[np.load(request["detect"]).shape[:2]]
        return {"boxes": boxes, "labels": labels, "scores": [0.9] * len(boxes)}

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _own_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FakeWorker]:
    file = tmp_path / "made.onnx"
    file.write_bytes(b"12345")
    monkeypatch.setattr(FakeWorker, "started", [], raising=False)
    monkeypatch.setattr(measuring, "Worker", FakeWorker)
    monkeypatch.setattr(measuring, "exported_file", lambda weights, name, folder, **options: file)
    return FakeWorker.started


def measure(*names: str, **plan: Any) -> RuntimesMeasurement:
    return measure_runtimes("bccd", parse_names(names), Plan(repetitions=6, warmup_limit_s=0, threads=1, **plan))


def test_each_runtime_has_a_row_whatever_happens(fakes: list[FakeWorker], tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    result = measure("torch", "mnn", "openvino:int8", "onnxruntime")
    torch_row, mnn, openvino, onnx = result.rows
    assert [row.name for row in result.rows] == ["torch", "mnn", "openvino:int8", "onnxruntime"]
    assert [row.reason for row in result.rows] == [None, "MNN is not installed", "SIGSEGV ended its process", None]
    assert torch_row.boxes is not None
    assert onnx.boxes is not None
    assert onnx.network is not None
    assert onnx.ratio is not None
    assert (torch_row.boxes.median_ms, onnx.boxes.median_ms, onnx.network.median_ms) == (80, 40, 20)
    assert onnx.ratio.median == pytest.approx(0.5)
    assert (onnx.file_bytes, torch_row.file_bytes) == (5, find_weights("bccd").stat().st_size)
    assert (onnx.resident_mib, onnx.peak_mib, onnx.version) == (100, 120, "1.2")
    assert mnn == RuntimeRow("mnn", "float32", reason="MNN is not installed", file=str(made), file_bytes=5)
    assert openvino.boxes is None
    assert openvino.start_s is not None
    assert result.fastest == onnx
    assert all(fake.closed for fake in fakes if fake.runtime != "openvino")


def test_the_start_is_timed_of_several_processes(fakes: list[FakeWorker]) -> None:
    (row,) = measure("torch").rows
    assert row.start_s == (0.5, 1.5, 2.5)
    assert len(fakes) == STARTS
    assert all(fake.closed for fake in fakes)


def test_an_export_that_is_refused_says_why(fakes: list[FakeWorker], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Path:
        raise ValueError("AP falls by 0.2: the export was refused")

    monkeypatch.setattr(measuring, "exported_file", refuse)
    first, second = measure("onnxruntime", "torch").rows
    assert first.reason == "AP falls by 0.2: the export was refused"
    assert second.boxes is not None


def test_accuracy_is_that_of_the_boxes_of_each_runtime(fakes: list[FakeWorker], small_voc: Path) -> None:
    """What finds every object has 1, what finds none has 0."""
    names = ("Platelets", "RBC", "WBC")
    samples = list(open_dataset(small_voc, "val", class_names=names))
    fakes_class = FakeWorker
    # Each image is known by its size, so that an image that is not the sample's gives nothing.
    sizes = [(480 + number, 640) for number in range(len(samples))]
    _resize_images(samples, sizes)
    fakes_class.found = {
        size: [sample.target.boxes.tolist(), sample.target.labels.tolist()]
        for size, sample in zip(sizes, samples, strict=True)
    }
    result = measure("torch", data=small_voc, split="val")
    assert result.rows[0].map == pytest.approx(1)
    assert result.image_source == "images of val of data"
    assert result.images == len(samples)
    fakes_class.found = {size: [[], []] for size in sizes}
    assert measure("torch", data=small_voc, split="val").rows[0].map == 0


def _resize_images(samples: list[Any], sizes: list[tuple[int, int]]) -> None:
    from PIL import Image

    for sample, (height, width) in zip(samples, sizes, strict=True):
        with Image.open(sample.image_path) as image:
            larger = image.convert("RGB").crop((0, 0, width, height))
        larger.save(sample.image_path)
        xml = sample.image_path.parents[1] / "Annotations" / f"{sample.image_path.stem}.xml"
        xml.write_text(xml.read_text().replace("<height>480</height>", f"<height>{height}</height>"))


def test_the_record_is_read_back(tmp_path: Path) -> None:
    measurement = made_up()
    path = tmp_path / "runtimes.json"
    path.write_text(json_text({"command": "vovnet measure", "runtimes": measurement.to_dict()}))
    assert read_runtimes(path) == measurement
    content = json.loads(path.read_text())["runtimes"]
    assert content["rows"][0]["boxes"]["median_ms"] == pytest.approx(40.2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["rows"].clear(), "rows"),
        (lambda record: record["rows"][0].update(file_bytes=-1), "file_bytes"),
        (lambda record: record["rows"][0]["boxes"].update(seconds=[]), "seconds"),
        (lambda record: record.pop("conditions"), "conditions"),
    ],
)
def test_a_record_that_is_wrong_is_refused(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    record = json.loads(json_text(made_up().to_dict()))
    change(record)
    path = tmp_path / "runtimes.json"
    path.write_text(json.dumps({"runtimes": record}))
    with pytest.raises(ValueError, match=f"is not a record of `vovnet measure --runtimes`: .*{said}"):
        read_runtimes(path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("torch", RuntimeName("torch")),
        ("openvino", RuntimeName("openvino", "float32")),
        ("openvino:int8", RuntimeName("openvino", "int8")),
    ],
)
def test_a_name_of_a_row(text: str, name: RuntimeName) -> None:
    assert RuntimeName.parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("openvno", "no runtime is called 'openvno', did you mean 'openvino'"),
        ("openvino:int4", "no precision is called 'int4', did you mean 'int8'"),
        ("openvino:", "no precision is called ''"),
        ("torch:int8", "torch is measured in float32"),
    ],
)
def test_a_wrong_name_of_a_row(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        RuntimeName.parse(text)


@pytest.mark.slow
def test_pytorch_and_onnx_runtime_really(small_voc: Path) -> None:
    result = measure("torch", "onnxruntime", data=small_voc, split="val")
    torch_row, onnx = result.rows
    assert [row.reason for row in result.rows] == [None, None]
    assert torch_row.map == pytest.approx(onnx.map, abs=1e-3)
    assert (torch_row.map or 0) > 0.5
    assert onnx.resident_mib is not None
    assert torch_row.resident_mib is not None
    assert onnx.resident_mib < torch_row.resident_mib / 2, "a runtime's process has imported PyTorch"
    for row in result.rows:
        assert row.boxes is not None
        assert len(row.boxes.seconds) == 6


def test_the_fake_is_like_the_worker() -> None:
    assert {name for name in vars(FakeWorker) if not name.startswith("_")} - {"started", "found"} <= vars(Worker).keys()

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vovnet.profiling.cost import LayerCost, ModelCost
from vovnet.profiling.energy import EnergyResult
from vovnet.profiling.estimate import estimate
from vovnet.profiling.measurement import Accuracy, Conditions, Measurement, read_measurements, write_measurements
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.peak import DevicePeak
from vovnet.profiling.speed import Latency, Ratio
from vovnet.profiling.surroundings import Surroundings

LAYERS = (LayerCost(path="a", kind="Conv2d", multiply_adds=9), LayerCost(path="b", kind="ReLU", other_elements=4))
ONE = Measurement(
    name="a",
    runtime="PyTorch",
    input_shape=(2, 3, 8, 8),
    precision="float32",
    cost=ModelCost("A", ((2, 3, 8, 8),), "float32", LAYERS, {}, None),
    latency=Latency((0.02, 0.03)),
    ratio_to="a",
    ratio=Ratio(1.0, (1.0, 1.0)),
    conditions=Conditions(
        "1a", "2026-01-02", "cpu", "a", 1, "a", {}, DevicePeak("float32", 50, 9), Surroundings(1, None, None, None, ())
    ),
    layer_seconds=(0.01, 0.0),  # a row that only holds parameters takes no time
    memory=MemoryUse("a", 0.0, None, 1.5, "a"),
    energy=EnergyResult(None, reason="no sensor"),
    estimate=estimate(9, 4),
    batches={4: Latency((0.05,))},
    stages={"read": Latency((0.01,))},
    accuracy=Accuracy("a", "test", 3, {"AP": 0.0, "AP50": 1.0}),
)


def test_a_sound_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_measurements([ONE], tmp_path / "record.json")
    assert read_measurements(tmp_path / "record.json") == [ONE]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("latency.seconds", [], "latency.seconds must have a time, got none"),
        ("latency.seconds", [0.02, 0], "latency.seconds must be from 1e-30 to 1e+30, got 0.0"),
        ("latency.seconds", [-1], "latency.seconds must be from 1e-30"),
        ("latency.seconds", [1e-320], "latency.seconds must be from 1e-30"),
        ("latency.seconds.1", float("nan"), "latency.seconds.1: Input should be a finite number"),
        ("batches.4.seconds", [], "batches.4.seconds must have"),
        ("batches", {"0": {"seconds": [1]}}, "batches must be from 1 to"),
        ("stages.read.seconds", [float("inf")], "stages.read.seconds.0: Input should be a finite number"),
        ("layer_seconds", [0.01], "layer_seconds must have one time a layer, 2, got 1"),
        ("layer_seconds", [0.01, -0.01], "layer_seconds must be from 0 to"),
        ("ratio.median", 0, "ratio must be from"),
        ("ratio.interval", [-1, 1], "ratio must be from"),
        ("input_shape", [2, 3, 8, 0], "input_shape must be from 1 to"),
        ("conditions.peak.gflop_per_s", 0, "conditions.peak must be from"),
        ("conditions.peak.gbyte_per_s", -5, "conditions.peak must be from"),
        ("cost.layers.0.multiply_adds", 10**400, "cost.layers.0 must be from 0 to 1e+30, got 1000"),
        ("cost.layers.1.parameters", -1, "cost.layers.1 must be from 0"),
        ("cost.dtype", "float23", "dtype must name a PyTorch number format"),
        ("memory.live_mib", -1, "memory must be from 0"),
        ("energy.energy_j_per_image", -0.5, "energy must be from 0"),
        ("estimate.estimated_j_per_image", -0.5, "estimate must be from 0"),
        ("accuracy.figures.AP", 40.1, "accuracy.figures must be from 0 to 1, got 40.1"),
    ],
)
def test_what_cannot_have_been_measured(tmp_path: Path, place: str, value: Any, message: str) -> None:
    path = tmp_path / "record.json"
    write_measurements([ONE, ONE], path)
    content = json.loads(path.read_text())
    *way, last = [int(key) if key.isdigit() and key != "4" else key for key in place.split(".")]
    inside = content["measurements"][1]
    for key in way:
        inside = inside[key]
    inside[last] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_measurements(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} is no record of `vovnet measure`: ")
    assert "\n" not in sentence
    assert len(sentence) < len(str(path)) + 200
    assert "measurements.1." in sentence or place == "cost.dtype"


def test_a_record_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"measurements": []}')
    with pytest.raises(ValueError, match=r"record\.json is no record of `vovnet measure`: measurements is empty"):
        read_measurements(path)

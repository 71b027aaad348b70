from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vovnet.profiling.energy.measured import EnergyResult
from vovnet.profiling.measurement import read_measurements, write_measurements
from vovnet.profiling.speed import Latency

from .complete import MEASUREMENT


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_measurements([MEASUREMENT], tmp_path / "record.json")
    assert read_measurements(tmp_path / "record.json") == [MEASUREMENT]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("latency.seconds", [], "latency.seconds: Tuple should have at least 1 item"),
        ("latency.seconds", [0.02, 0], "latency.seconds.1: must be at least 1e-30, got 0"),
        ("latency.seconds", [-1], "latency.seconds.0: must be at least 1e-30, got -1"),
        ("latency.seconds", [1e-320], "latency.seconds.0: must be at least 1e-30, got 1e-320"),
        ("latency.seconds", [1e31], "latency.seconds.0: must be at most 1e+30, got 1e+31"),
        ("latency.seconds.1", float("nan"), "latency.seconds.1: Input should be a finite number, got nan"),
        ("batches.4.seconds", [], "batches.4.seconds: Tuple should have at least 1 item"),
        ("batches", {"0": {"seconds": [1]}}, "batches.0.[key]: must be at least 1, got '0'"),
        ("stages.read.seconds", [float("inf")], "stages.read.seconds.0: Input should be a finite number"),
        ("layer_seconds", [0.01], "layer_seconds must have one time for each of the 2 layers, got 1"),
        ("layer_seconds", [0.01, -0.01], "layer_seconds.1: must be at least 0, got -0.01"),
        ("ratio.median", 0, "ratio.median: must be at least 1e-30, got 0"),
        ("ratio.interval", [-1, 1], "ratio.interval.0: must be at least 1e-30, got -1"),
        ("input_shape", [2, 3, 8, 0], "input_shape.3: must be at least 1, got 0"),
        ("conditions.peak.gflop_per_s", 0, "conditions.peak.gflop_per_s: must be at least 1e-30, got 0"),
        ("conditions.peak.gbyte_per_s", -5, "conditions.peak.gbyte_per_s: must be at least 1e-30, got -5"),
        ("cost.layers.0.multiply_adds", 10**400, "cost.layers.0.multiply_adds: must be at most 1e+30, got 1000"),
        ("cost.layers.1.parameters", -1, "cost.layers.1.parameters: must be at least 0, got -1"),
        ("cost.layers.1.memory_access_bound", -1, "cost.layers.1.memory_access_bound: must be at least 0, got -1"),
        ("cost.dtype", "float23", "cost.dtype: dtype must be the name of a PyTorch number format"),
        ("memory.live_mib", -1, "memory.live_mib: must be at least 0, got -1"),
        ("memory.peak_mib", "large", "memory.peak_mib: Input should be a valid number, unable to parse string"),
        ("energy.energy_j_per_image", -0.5, "energy.energy_j_per_image: must be at least 0, got -0.5"),
        ("energy.figure.power_w", -0.5, "energy.figure.power_w: must be at least 0, got -0.5"),
        ("estimate.estimated_j_per_image", -0.5, "estimate.estimated_j_per_image: must be at least 0, got -0.5"),
        ("accuracy.figures.AP", 40.1, "accuracy.figures.AP: must be at most 1, got 40.1"),
    ],
)
def test_values_that_cannot_have_been_measured_are_refused(
    tmp_path: Path, place: str, value: Any, message: str
) -> None:
    path = tmp_path / "record.json"
    write_measurements([MEASUREMENT, MEASUREMENT], path)
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
    assert sentence.startswith(f"{path} is not a record of `vovnet measure`: ")
    assert "\n" not in sentence
    assert len(sentence) < len(str(path)) + 200
    assert "measurements.1." in sentence


def test_a_record_without_measurements(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"measurements": []}')
    with pytest.raises(
        ValueError,
        match=r"record\.json is not a record of `vovnet measure`: measurements: List should have at least 1 item",
    ):
        read_measurements(path)


def test_values_derived_from_the_times_have_their_intervals() -> None:
    latency = Latency(tuple(0.01 * (1 + step % 5 / 10) for step in range(20)))
    measurement = replace(MEASUREMENT, latency=latency)
    fast_ms, slow_ms = latency.interval_ms
    assert fast_ms < latency.median_ms < slow_ms
    assert measurement.images_per_s == pytest.approx(2e3 / latency.median_ms)
    assert measurement.images_per_s_interval == pytest.approx((2e3 / slow_ms, 2e3 / fast_ms))
    assert measurement.gmultiply_adds_per_s == pytest.approx(9e-6 / latency.median_ms)
    assert measurement.gmultiply_adds_per_s_interval == pytest.approx((9e-6 / slow_ms, 9e-6 / fast_ms))
    assert measurement.gflop_per_s_interval == pytest.approx((18e-6 / slow_ms, 18e-6 / fast_ms))
    assert measurement.flops_per_byte == pytest.approx(2 * 9 / (4 * 4))


def test_energy_with_its_intervals_and_without_a_sensor() -> None:
    assert (MEASUREMENT.energy_j_per_image, MEASUREMENT.energy_interval_j) == (0.5, (0.4, 0.6))
    assert (MEASUREMENT.above_idle_j_per_image, MEASUREMENT.above_idle_interval_j) == (-0.1, (-0.2, 0.0))
    for energy in (None, EnergyResult(None, reason="no sensor")):
        measurement = replace(MEASUREMENT, energy=energy)
        assert measurement.energy_j_per_image is measurement.energy_interval_j is None
        assert measurement.above_idle_j_per_image is measurement.above_idle_interval_j is None


@pytest.mark.parametrize("name", ["backbones", "table2", "table3", "table4"])
def test_the_records_of_this_repository_are_read(name: str) -> None:
    path = Path(f"docs/records/{name}.json")
    content = json.loads(path.read_text())["measurements"]
    measurements = read_measurements(path)
    assert [measurement.name for measurement in measurements] == [stored["name"] for stored in content]
    for measurement, stored in zip(measurements, content, strict=True):
        again = json.loads(json.dumps(measurement.to_dict()))
        assert measurement.run == again.pop("run") == stored.pop("run", "eager")
        assert again.keys() == stored.keys()
        assert again["latency"] == stored["latency"]
        assert again["conditions"] == stored["conditions"]
        assert again["images_per_s"] == stored["images_per_s"]

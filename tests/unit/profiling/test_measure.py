from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vovnet
from vovnet.profiling import measure as comparison
from vovnet.profiling.cost import count_cost
from vovnet.profiling.energy.measured import EnergyResult
from vovnet.profiling.energy.sensors import NoSensor
from vovnet.profiling.measure import measure, measure_models
from vovnet.profiling.measurement import Measurement, read_measurements, write_measurements
from vovnet.profiling.peak import DevicePeak

CPU = torch.device("cpu")
SHAPE = (2, 3, 16, 16)


class Net(nn.Sequential):
    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4, 1))


@pytest.fixture(autouse=True)
def peak(monkeypatch: pytest.MonkeyPatch) -> DevicePeak:
    """A known peak. Measuring the real peak takes a second and has tests of its own."""
    known = DevicePeak("float32", 100.0, 10.0)
    monkeypatch.setattr(comparison, "measure_peak", lambda device, precision: known)
    return known


def test_models_in_one_run() -> None:
    steps: list[str] = []
    small, large = measure_models(
        {"small": Net(4), "large": Net(64)},
        {"small": SHAPE, "large": SHAPE},
        device=CPU,
        repetitions=5,
        batch_sizes=[1, 4],
        memory=False,
        estimated=True,
        on_step=steps.append,
    )
    assert small.conditions is large.conditions
    assert small.ratio_to == large.ratio_to == "small"
    assert small.ratio.median == 1
    assert len(large.latency.seconds) == 5
    assert large.cost == count_cost(Net(64), SHAPE)
    assert large.images_per_s == pytest.approx(2e3 / large.latency.median_ms)
    assert large.gflop_per_s == 2 * large.gmultiply_adds_per_s
    assert large.peak_fraction == pytest.approx(large.gflop_per_s / 100)
    assert large.batches is not None
    assert {size: len(latency.seconds) for size, latency in large.batches.items()} == {1: 5, 4: 5}
    assert large.layer_seconds is not None
    assert len(large.layer_seconds) == len(large.cost.layers)
    assert large.estimate is not None
    assert small.estimate is not None
    assert large.estimate.estimated_j_per_image > small.estimate.estimated_j_per_image
    assert large.memory is None
    assert steps[0] == "small: operations"
    assert "time at batch size 4" in steps


def test_bandwidth_counts_all_that_is_read_and_written() -> None:
    measurement = measure(Net(), 16, repetitions=2, memory=False)
    total = measurement.cost.total
    traffic = 4 * (total.memory_access_cost + total.other_elements) / (measurement.latency.median_ms / 1e3)
    assert measurement.bandwidth_fraction == pytest.approx(traffic / 10e9)


def test_measure_stays_a_function_after_its_module_was_imported() -> None:
    importlib.import_module("vovnet.profiling.measure")
    assert vovnet.measure is measure
    assert callable(vovnet.measure)
    with pytest.raises(ValueError, match="expected a torch"):
        vovnet.measure("vovnet39")


def test_measuring_leaves_the_model_alone() -> None:
    model = Net().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = vovnet.measure(model, input_size=16, repetitions=2, memory=False, precision="bfloat16")
    assert isinstance(report, Measurement)
    assert report.name == "Net"
    assert report.precision == "bfloat16"
    assert report.cost.element_bytes == 2
    assert report.input_shape == (1, 3, 16, 16)
    assert model.training
    assert model[0].weight.dtype == torch.float32
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_memory_of_a_clean_process() -> None:
    use = vovnet.measure(nn.Conv2d(3, 64, 3), (512, 256), repetitions=2).memory
    assert use is not None
    assert use.peak_mib is not None
    assert 25 < use.peak_mib < 60  # the output has 33 MB


@pytest.mark.parametrize(("channels", "size"), [(3, 2), (5, 8)])
def test_an_input_that_a_model_cannot_take(channels: int, size: int) -> None:
    message = f"net cannot run on an input of 1×3×{size}×{size} in float32 \\("
    with pytest.raises(ValueError, match=message):
        measure_models({"net": nn.Conv2d(channels, 4, 3)}, {"net": (1, 3, size, size)}, device=CPU)


@pytest.mark.parametrize("kind", [AssertionError, ValueError, KeyError, AttributeError, ZeroDivisionError])
def test_whatever_a_model_raises_for_an_input_comes_with_its_name_and_the_size(kind: type[Exception]) -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise kind

    message = "net cannot run on an input of 1×3×8×8 in float32 \\(" + kind.__name__
    with pytest.raises(ValueError, match=message):
        measure_models({"net": Picky()}, {"net": (1, 3, 8, 8)}, device=CPU)


def test_a_batch_that_a_model_cannot_take_shows_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Single(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 1:
                raise RuntimeError("one image at a time")
            return x + 1

    monkeypatch.setattr(comparison, "time_interleaved", None)
    with pytest.raises(ValueError, match="one image at a time"):
        measure_models({"net": Single()}, {"net": (1, 3, 8, 8)}, device=CPU, batch_sizes=[1, 2])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("vovnet39", {}, "expected a torch.nn.Module to measure, got str"),
        (Net(), {"input_size": 3.5}, r"input_size must be \(height, width\)"),
        (Net(), {"input_size": (3, 4, 5)}, r"input_size must be \(height, width\)"),
        (Net(), {"batch_size": 0}, "at least one image"),
        (Net(), {"batch_sizes": [0]}, "at least one image"),
        (Net(), {"device": "nowhere"}, "there is no device nowhere"),
        (Net(), {"meter": "log.csv"}, "must be given together"),
        (Net().to("meta"), {"device": "cpu"}, "meta"),
    ],
)
def test_what_cannot_be_measured(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(model, **{"input_size": 16, "memory": False, **options})


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_a_scripted_module_is_refused() -> None:
    traced = torch.jit.trace(Net().eval(), torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="scripted module"):
        measure_models({"net": traced}, {"net": SHAPE}, device=CPU)


def test_a_model_compiled_in_place_is_refused() -> None:
    model = Net()
    model.compile(backend="eager")
    with pytest.raises(ValueError, match="measure torch.compile\\(model\\)"):
        measure(model, 16)


def test_the_name_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"board {device.index}")
    assert comparison.device_name(torch.device("cuda:1")) == "board 1"
    assert comparison.device_name(CPU)


def test_a_precision_that_a_model_cannot_run_in() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                raise RuntimeError('"picky" not implemented for this type')
            return x + 1

    with pytest.raises(
        ValueError, match='net cannot run on an input of 2×3×16×16 in float16 \\("picky" not implemented'
    ):
        measure_models({"net": Picky()}, {"net": SHAPE}, device=CPU, precision="float16")


def test_no_models() -> None:
    with pytest.raises(ValueError, match="at least one"):
        measure_models({}, {}, device=CPU)


def test_energy_is_read_from_the_sensor_of_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[object, str]] = []

    def fake(run: Callable[[], int], sensor: object, *, method: str, timeline: None, on_trial: object) -> EnergyResult:
        assert run() == 2
        asked.append((sensor, method))
        return EnergyResult(None, reason="no sensor")

    monkeypatch.setattr(comparison, "find_sensor", lambda device: f"sensor of {device}")
    assert measure(Net(), 16, repetitions=2, memory=False).energy is None
    monkeypatch.setattr(comparison, "measure_energy", fake)
    (measurement,) = measure_models(
        {"net": Net()}, {"net": SHAPE}, device=CPU, repetitions=2, memory=False, energy="auto"
    )
    assert measurement.energy == EnergyResult(None, reason="no sensor")
    assert measurement.energy_j_per_image is None
    log = tmp_path / "log.csv"
    log.write_text("timestamp,watts\n1,2\n")
    measure(Net(), 16, batch_size=2, repetitions=2, memory=False, energy="meter", meter=log)
    assert [method for _, method in asked] == ["auto", "meter"]
    assert asked[0][0] == "sensor of cpu"
    assert "log.csv" in asked[1][0].name  # type: ignore[attr-defined]


def test_without_a_sensor_the_reason_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "find_sensor", lambda device: NoSensor("nothing to read here"))
    assert measure(Net(), 16, repetitions=2, memory=False).energy == EnergyResult(None, reason="nothing to read here")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    measurement = measure(Net(), 16, repetitions=3, memory=False, batch_sizes=[2], estimated=True)
    write_measurements([measurement, replace(measurement, name="twin")], tmp_path / "record.json")
    assert read_measurements(tmp_path / "record.json") == [measurement, replace(measurement, name="twin")]
    content = json.loads((tmp_path / "record.json").read_text())["measurements"][0]
    assert content["images_per_s"] == measurement.images_per_s
    assert content["latency"]["median_ms"] == measurement.latency.median_ms
    assert content["cost"]["total"]["flops"] == measurement.cost.total.flops


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a record of `vovnet measure`"),
        ("{}", "measurements: Field required"),
        ('{"measurements": [{"name": 3}]}', "measurements.0.name: Input should be a valid string"),
    ],
)
def test_a_file_that_is_not_a_record(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_measurements(tmp_path / "other.json")

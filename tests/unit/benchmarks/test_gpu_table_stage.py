"""What the stage tables decides: its order, the batch that fills a card, what is left out, on which card and code."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from vovnet.paper.published import TABLES
from vovnet.profiling.energy.measured import EnergyResult
from vovnet.profiling.energy.recording import Session

from .test_gpu_stages import make_stage


def test_the_most_valuable_measurements_come_first_and_nothing_twice():
    from gpu_stages.tables import plan

    steps = plan("float16")
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    measured = [step.name for step in steps if step.kind != "count"]
    assert measured[:6] == [
        "time lightweight float32 batch one eager",
        "time lightweight float32 batch one graph",
        "energy dsod300_vovnet27_slim float32 batch one graph",
        "energy dsod300_densenet67 float32 batch one graph",
        "energy dsod300_vovnet27_slim float32 batch one eager",
        "energy dsod300_densenet67 float32 batch one eager",
    ]
    assert measured[6] == "time refinedet320 float32 batch one eager"
    kinds = [step.kind for step in steps]
    last_time = len(kinds) - 1 - kinds[::-1].index("time")
    assert kinds[:last_time].count("energy") == 7  # joules take longest: most come after all times
    assert set(kinds[kinds.index("kernels") :]) == {"kernels"}  # a profiler may stay attached
    assert kinds.index("memory") < kinds.index("fill")
    for step in steps:  # a batch is known before it is used
        if step.batch == "fill":
            (group,) = [name for name in ("lightweight", "refinedet320") if step.what in (name, *models_of(name))]
            assert names.index(f"fill {group} {step.precision}") < names.index(step.name)


def models_of(group):
    from gpu_stages.tables import groups

    return groups()[group].models


def test_every_model_of_the_tables_is_measured():
    from gpu_stages.tables import plan

    steps = plan("float16")
    for table in ("table2", "table3", "table4", "table7"):
        for model in {row.model for row in TABLES[table].rows}:
            (group,) = [name for name in ("lightweight", "refinedet320", "refinedet512") if model in models_of(name)]
            for run in ("eager", "graph"):
                assert f"time {group} float32 batch one {run}" in [step.name for step in steps]
            assert f"count {model}" in [step.name for step in steps]
            if group != "refinedet512":  # Table 7 has neither joules nor memory
                assert f"energy {model} float32 batch one graph" in [step.name for step in steps]
                assert f"memory {model} float32 batch one eager" in [step.name for step in steps]


@pytest.mark.parametrize(
    ("speeds", "batch"),
    [
        ({8: (100, 50), 16: (190, 95), 32: (195, 140), 64: (196, 141), 128: (900, 900)}, 32),  # both must be full
        ({8: (100, 50), 16: (101, 51)}, 8),
        ({8: (100, 50), 16: (190, 95)}, 16),  # then memory is over
    ],
)
def test_batch_that_fills_the_card(speeds, batch, tmp_path, monkeypatch):
    from gpu_stages import tables
    from gpu_stages.networks import Networks

    pair = models_of("lightweight")[:2]

    def speed(networks, model, step, size):
        if size not in speeds:
            raise torch.OutOfMemoryError
        return float(speeds[size][pair.index(model)])

    monkeypatch.setattr(tables, "_quick_speed", speed)
    stage = SimpleNamespace(rehearse=False)
    step = tables.Step("fill", "lightweight")
    assert tables._fill(stage, Networks(torch.device("cpu")), step, 1)["batch"] == batch


def test_joules_without_a_sensor_are_an_error_with_the_reason(monkeypatch):
    from gpu_stages import joules

    monkeypatch.setattr(joules, "measure_energy", lambda *a, **k: EnergyResult(None, reason="the sensor is broken"))
    with pytest.raises(OSError, match="no joules: the sensor is broken"):
        joules.JouleMeter(torch.device("cpu"), rehearse=True).measure(lambda: 1)


def test_the_counter_is_tested_once_and_joules_above_idle_are_left_out(monkeypatch):
    from gpu_stages import joules

    tested = []
    test_counter = Session.test_counter
    monkeypatch.setattr(Session, "test_counter", lambda self: tested.append(self) or test_counter(self))
    meter = joules.JouleMeter(torch.device("cpu"), rehearse=True)
    first, second = (meter.measure(lambda: time.sleep(0.01) or 1) for _ in range(2))
    assert len(tested) == 1
    assert (first["method"], second["method"]) == ("counter", "counter")
    assert not [name for name in first if "idle" in name]


@pytest.mark.parametrize("error", [ValueError("cannot run as a CUDA graph"), torch.OutOfMemoryError("full")])
def test_a_model_that_does_not_work_is_left_out_and_the_others_are_timed(error, tmp_path, monkeypatch):
    from gpu_stages import networks, tables
    from gpu_stages.networks import Networks

    failing, working = models_of("lightweight")[:2]
    make_pass = networks.make_pass

    def make(run, name, *arguments, **options):
        if name == failing:
            raise error
        return make_pass(run, name, *arguments, **options)

    monkeypatch.setattr(networks, "make_pass", make)
    stage = make_stage(tmp_path, "tables")
    values = tables._time(stage, Networks(torch.device("cpu")), tables.Step("time", "lightweight"), 1)
    assert list(values["models"]) == [working] == [values["reference"]]
    assert values["left_out"] == {failing: f"{type(error).__name__}: {error}"}
    assert "left out: " in tables._times_text(values)
    monkeypatch.setattr(networks, "make_pass", lambda run, name, *a, **k: make(run, failing))
    with pytest.raises(ValueError, match=f"{working}: {type(error).__name__}"):
        tables._time(stage, Networks(torch.device("cpu")), tables.Step("time", "lightweight"), 1)


def test_kernels_are_what_ran_on_the_device_itself():
    from gpu_stages.tables import kernel_total
    from torch.autograd import DeviceType

    def seen(kind, microseconds, count, *, annotation=False):
        times = {"self_device_time_total": microseconds, "self_cpu_time_total": 1.0}
        return SimpleNamespace(device_type=kind, count=count, is_user_annotation=annotation, **times)

    kernel, launch = seen(DeviceType.CUDA, 500.0, 4), seen(DeviceType.CPU, 500.0, 4)
    step = seen(DeviceType.CUDA, 900.0, 1, annotation=True)
    assert kernel_total([kernel, launch, step], DeviceType.CUDA) == (0.5, 4)
    assert kernel_total([kernel, launch], DeviceType.CPU) == (0.001, 4)
    with pytest.raises(ValueError, match="the profiler saw no kernel"):
        kernel_total([launch], DeviceType.CUDA)


def test_a_key_changes_with_the_code_of_its_stage_and_with_pytorch(monkeypatch):
    from gpu_stages import keys, tables, throughput
    from shared import ROOT

    def files(stage):
        return {path.relative_to(ROOT).as_posix() for path in keys._files(ROOT, stage.SOURCES)}

    assert not [name for name in files(tables) if "onnx" in name or "pareto" in name or "zeus" in name]
    assert {"src/vovnet/profiling/runs.py", "benchmarks/gpu_stages/joules.py"} <= files(tables)
    configs = {f"configs/{variant.config}.yaml" for variant in throughput.VARIANTS}
    modules = {f"src/vovnet/{name}.py" for name in ("zoo", "padded_targets", "structures", "constants")}
    assert configs | modules | {"benchmarks/gpu_stages/voc_data.py"} <= files(throughput)
    before = keys.source_key(ROOT, throughput.SOURCES, {})
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert keys.source_key(ROOT, throughput.SOURCES, {}) != before


def test_the_card_is_the_one_that_pytorch_sees(monkeypatch):
    """In a process of its own, with a stand-in for the card that this machine may lack."""
    from gpu_stages import machine

    card = "types.SimpleNamespace(name='Invented GPU', total_memory=17 << 30, multi_processor_count=16)"
    stand_in = f"import torch, types; torch.cuda.get_device_properties = lambda device: {card}\n"
    program = machine._SEEN
    monkeypatch.setattr(machine, "_SEEN", stand_in + program)
    assert machine.card_name(torch.device("cuda")) == "Invented GPU, 17 GiB, 16 multiprocessors"
    monkeypatch.setattr(machine, "_SEEN", "raise RuntimeError('no driver')")
    with pytest.raises(OSError, match="PyTorch cannot say which card cuda:1 is: RuntimeError: no driver"):
        machine.card_name(torch.device("cuda:1"))

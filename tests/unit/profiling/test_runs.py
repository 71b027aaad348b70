from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vovnet.errors import UsageError
from vovnet.profiling import measure as measuring
from vovnet.profiling import runs
from vovnet.profiling.cost_types import ModelCost
from vovnet.profiling.measure import measure, measure_models
from vovnet.profiling.measurement import Measurement
from vovnet.profiling.onnx.module import OnnxModule
from vovnet.profiling.peak import DevicePeak
from vovnet.profiling.runs import CudaGraphs, Pass, check_runs, choosing_algorithms, make_pass
from vovnet.profiling.subject import Subject

from .graphs import Detects, Net, ReplayedOnCpu

CPU = torch.device("cpu")
SHAPE = (2, 3, 12, 12)


@pytest.fixture
def eager_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.compile` without a C++ compiler, whose start takes many seconds."""
    found: Callable[[str], Any] = torch._dynamo.lookup_backend
    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda name: found("eager"))


def made(run: runs.Run, module: nn.Module, images: Tensor, graphs: CudaGraphs | None = None) -> Pass:
    graphs = graphs or ReplayedOnCpu(CPU)
    with torch.inference_mode():
        return make_pass(run, "net", module.eval(), images, precision="float32", graphs=graphs)


@pytest.mark.parametrize("run", ["eager", "graph"])
@pytest.mark.parametrize("module", [Net(), Detects()], ids=["tensor", "dictionary"])
def test_a_pass_computes_from_the_images_as_they_are(run: runs.Run, module: nn.Module) -> None:
    images = torch.rand(SHAPE)
    before = images.clone()
    one = made(run, module, images)
    assert torch.equal(images, before)
    images.copy_(torch.rand(SHAPE))
    with torch.inference_mode():
        outputs, expected = one.start(), module(images)
    torch.testing.assert_close(outputs, expected)


def test_a_graph_is_captured_after_a_warm_up_and_compared_twice() -> None:
    graphs = ReplayedOnCpu(CPU)
    made("graph", Net(), torch.rand(SHAPE), graphs)
    assert graphs.log == ["warm-up", "capture", "replay", "replay"]


def test_the_outputs_of_a_graph_stay_where_they_are() -> None:
    one = made("graph", Net(), torch.rand(SHAPE))
    with torch.inference_mode():
        assert one.start().data_ptr() == one.start().data_ptr()


def test_a_graph_that_does_not_compute_from_its_input_is_refused() -> None:
    with pytest.raises(ValueError, match="net gives other results in the run graph than eagerly .*leave out the run"):
        made("graph", Net(), torch.rand(SHAPE), ReplayedOnCpu(CPU, frozen=True))


def test_values_that_were_read_while_capturing_are_found_on_other_images() -> None:
    class Branches(nn.Module):
        """What it computes depends on a value, which a graph fixes."""

        fixed: bool | None = None

        def forward(self, x: Tensor) -> Tensor:
            right = bool(x[..., -1].mean() > x[..., 0].mean()) if self.fixed is None else self.fixed
            return x + 1 if right else x - 1

    class Fixes(ReplayedOnCpu):
        def capture(self, function: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
            model.fixed = True
            replay, outputs = super().capture(function)
            model.fixed = None

            def fixed() -> None:
                model.fixed = True
                replay()
                model.fixed = None

            return fixed, outputs

    model, images = Branches(), torch.rand(SHAPE)
    images[..., -1] += 5
    with pytest.raises(ValueError, match="other results"):
        made("graph", model, images, Fixes(CPU))


def test_a_model_that_cannot_be_captured_says_why() -> None:
    class Refuses(ReplayedOnCpu):
        def capture(self, function: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
            try:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")
            finally:
                raise RuntimeError("the capture ended with an error before")  # as leaving a capture does

    message = r"net cannot run as a CUDA graph \(CUDA error: operation not permitted when stream is capturing\): leave"
    with pytest.raises(ValueError, match=message):
        made("graph", Net(), torch.rand(SHAPE), Refuses(CPU))


def test_memory_that_runs_out_is_not_taken_for_a_fault_of_the_model() -> None:
    class Full(ReplayedOnCpu):
        def warm_up(self, function: Callable[[], Any]) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        made("graph", Net(), torch.rand(SHAPE), Full(CPU))


@pytest.mark.parametrize(
    ("outputs", "expected", "difference"),
    [
        ([torch.ones(2)], [torch.ones(2)], 0),
        ([torch.tensor([1.0, 3.0])], [torch.tensor([2.0, 4.0])], 0.25),
        ([torch.tensor([1.0, torch.nan])], [torch.tensor([1.0, torch.nan])], 0),
        ([torch.tensor([1.0, torch.inf])], [torch.tensor([1.0, 1.0])], float("inf")),
        ([torch.ones(3)], [torch.ones(2)], float("inf")),
        ([], [torch.ones(2)], float("inf")),
        ([torch.ones(0)], [torch.ones(0)], 0),
        ([torch.tensor([True, False])], [torch.tensor([True, True])], 1),
        ([torch.tensor([1j])], [torch.tensor([2j])], 0.5),
    ],
)
def test_how_far_outputs_differ(outputs: list[Tensor], expected: list[Tensor], difference: float) -> None:
    assert runs._difference(outputs, expected) == difference


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("quick",), "run must be eager, graph or compile, got 'quick'"),
        (("eager", "eager"), "each once, got eager, eager"),
        ((), "got none"),
        (("eager", "graph"), "a graph needs a CUDA GPU, and the device is cpu: leave out the run graph"),
    ],
)
def test_runs_that_there_are_not(names: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_runs(names, CPU)
    with pytest.raises(UsageError, match=message):
        measure_models({"net": Net()}, {"net": SHAPE}, device=CPU, runs=names)


def test_an_exported_model_has_only_one_way_to_run() -> None:
    module = OnnxModule.__new__(OnnxModule)
    cost = ModelCost("net.onnx", (SHAPE,), "float32", (), {}, None)
    subject = Subject("net.onnx", module, torch.rand(SHAPE), cost, "float32")
    assert subject.in_run("eager", ReplayedOnCpu(CPU)) == subject
    for run in ("graph", "compile"):
        with pytest.raises(UsageError, match="net.onnx is exported, and its runtime has only one way to run it"):
            subject.in_run(run, ReplayedOnCpu(CPU))  # type: ignore[arg-type]


def test_a_graph_needs_cuda_in_python_too() -> None:
    with pytest.raises(UsageError, match="needs a CUDA GPU"):
        measure(Net(), 16, run="graph")


@pytest.mark.usefixtures("eager_compiler")
def test_models_of_one_class_are_compiled_each_for_itself() -> None:
    """PyTorch would compile the first 8 and run the others eagerly."""
    nets = [Net(width).eval() for width in range(1, 11)]
    images = torch.rand(SHAPE)
    passes = [made("compile", net, images) for net in nets]
    assert all(one.compile_s is not None and one.compile_s > 0 for one in passes)
    with torch.inference_mode(), torch.compiler.set_stance("fail_on_recompile"):
        for net, one in zip(nets, passes, strict=True):
            torch.testing.assert_close(one.start(), net(images))


@pytest.mark.usefixtures("eager_compiler")
def test_what_cannot_be_compiled_is_refused() -> None:
    class Hidden(nn.Module):
        @torch.compiler.disable
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    with pytest.raises(ValueError, match="net has nothing that torch.compile can compile: leave out the run compile"):
        made("compile", Hidden(), torch.rand(SHAPE))


def test_a_compiler_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler was found")

    import torch._dynamo

    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda name: failing)
    with pytest.raises(ValueError, match="net cannot be compiled .*no C\\+\\+ compiler was found.*leave out the run"):
        made("compile", Net(), torch.rand(SHAPE))


@pytest.fixture
def graphs_on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[ReplayedOnCpu]:
    """Everything of a measurement with graphs, on the CPU. Returns the objects that captured, in order."""
    created: list[ReplayedOnCpu] = []

    def create(device: torch.device) -> ReplayedOnCpu:
        created.append(ReplayedOnCpu(device))
        return created[-1]

    monkeypatch.setattr(measuring, "CudaGraphs", create)
    monkeypatch.setattr(measuring, "check_runs", lambda runs, device: None)
    monkeypatch.setattr(measuring, "measure_peak", lambda device, precision: DevicePeak("float32", 100.0, 10.0))
    return created


def median_of_pairs(above: Measurement, below: Measurement) -> float:
    pairs = zip(above.latency.seconds, below.latency.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def test_models_side_by_side(graphs_on_cpu: list[ReplayedOnCpu]) -> None:
    rows = measure_models(
        {"a": Net(4), "b": Detects()},
        {"a": SHAPE, "b": SHAPE},
        device=CPU,
        repetitions=4,
        batch_sizes=[1, 3],
        memory=True,
        runs=("eager", "graph"),
    )
    assert [(row.name, row.run) for row in rows] == [("a", "eager"), ("a", "graph"), ("b", "eager"), ("b", "graph")]
    first, graph, other, other_graph = rows
    assert {row.conditions.run for row in rows} == {first.conditions.run}
    assert (first.ratio.median, graph.ratio.median) == (1, 1)  # of the first model, each in its own run
    assert first.run_ratio is not None
    assert first.run_ratio.median == 1
    for one, eager in ((graph, first), (other_graph, other)):
        assert one.run_ratio_to == "eager"
        assert one.run_ratio is not None
        assert one.run_ratio.median == median_of_pairs(one, eager)
    assert other_graph.ratio.median == median_of_pairs(other_graph, graph)
    assert all(row.batches and set(row.batches) == {1, 3} for row in rows)
    assert [row.layer_seconds is None for row in rows] == [False, True, False, True]
    assert graph.cost == first.cost
    assert graph.memory is not None
    assert "measured on CUDA only" in (graph.memory.reason or "")
    main, *sweeps = graphs_on_cpu
    assert len(sweeps) == 2  # each batch size has memory of its own
    assert main.log.count("capture") == 2
    assert all(one.log.count("capture") == 2 for one in sweeps)


def test_energy_is_measured_in_each_run(graphs_on_cpu: list[ReplayedOnCpu], monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[int] = []

    def fake(run: Callable[[], int], sensor: object, **options: Any) -> None:
        assert options["timeline"] == "short"
        assert run() == 2
        replays.append(graphs_on_cpu[0].log.count("replay"))

    monkeypatch.setattr(measuring, "find_sensor", lambda device: "sensor")
    monkeypatch.setattr(measuring, "measure_energy", fake)
    timeline: Any = "short"
    measure_models(
        {"a": Net()},
        {"a": SHAPE},
        device=CPU,
        repetitions=1,
        memory=False,
        energy="auto",
        runs=("eager", "graph"),
        timeline=timeline,
    )
    assert replays[1] == replays[0] + 1


def test_one_run_alone_has_no_ratio_of_runs() -> None:
    (row,) = measure_models({"a": Net()}, {"a": SHAPE}, device=CPU, repetitions=2, memory=False)
    assert (row.run, row.run_ratio, row.run_ratio_to, row.compile_s) == ("eager", None, None, None)
    assert row.conditions.cudnn_benchmark is None


def test_cudnn_tries_its_algorithms_for_every_run_alike() -> None:
    before = torch.backends.cudnn.benchmark
    with choosing_algorithms(torch.device("cuda")) as chosen:
        assert chosen is torch.backends.cudnn.benchmark is True
    assert torch.backends.cudnn.benchmark == before
    with choosing_algorithms(CPU) as chosen:
        assert chosen is None
        assert torch.backends.cudnn.benchmark == before


@pytest.mark.slow
def test_a_model_compiled_by_inductor() -> None:
    images = torch.rand(SHAPE)
    net = Net().eval()
    one = made("compile", net, images)
    with torch.inference_mode():
        torch.testing.assert_close(one.start(), net(images))

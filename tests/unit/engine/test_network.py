"""What a config changes in how a network is trained: norms, memory format, compilation."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vovnet import create_model
from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.distributed import Workers
from vovnet.engine.train import train
from vovnet.engine.training import network as network_module
from vovnet.engine.training.network import place, wrap
from vovnet.engine.training.step import set_norm_momentum
from vovnet.errors import UsageError
from vovnet.models.ghost_norm import GhostBatchNorm, use_ghost_norms
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Target
from vovnet.weights.file import load_checkpoint
from vovnet.zoo import find_detector

ALONE = Workers(0, 1, torch.device("cpu"))
CONFIG = """
model: dsod300_vovnet27_slim
data: {{root: {root}, val: null}}
optimizer: {{learning_rate: 0.01}}
schedule: {{iterations: 1}}
batch_size: 4
micro_batch_size: 4
norm_momentum: 0.01
threads: 1
workers: 0
log_every: 1
tensorboard: false
"""


def config(tmp_path: Path, *overrides: str, root: object = "x") -> TrainConfig:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.format(root=root))
    return load_config(path, overrides)


class Tiny(nn.Module):
    """A network of one convolution and norm, with what training asks of a detector."""

    two_stage = False
    preprocessing = Preprocessing((8, 8))

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"output": self.norm(self.conv(images)).relu()}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """`torch.compile` without a compiler: the graphs it would compile, which run as they are."""
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: Any, **options: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compile = torch.compile
    monkeypatch.setattr(
        network_module.torch, "compile", lambda module, mode: compile(module, backend=backend, fullgraph=True)
    )
    monkeypatch.setattr(network_module, "_check_compiler", lambda *_: None)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", None)  # for graphs only: it loads the compiler
    monkeypatch.setattr(logging.root.manager, "disable", logging.INFO)  # pytest would keep all that the compiler traces
    torch._dynamo.reset()
    yield graphs
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["norm_batch_size=3"], "must be a multiple of norm_batch_size 3; with batch_size 4 and 1 process.* 4 image"),
        (["model=fasterrcnn_vovnet27_slim", "norm_batch_size=2"], "norm_batch_size is for one-stage detectors"),
        (["model=refinedet320_vgg16", "norm_batch_size=2", "model_options={backbone: {}}"], "this one has none"),
        (["model=maskrcnn_vovnet27_slim", "compile=true"], "compile=true is for one-stage detectors"),
        (["compile=graphs"], "compile=graphs needs a CUDA GPU; on cpu set compile=true or compile=false"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(tmp_path: Path, overrides: list[str], message: str) -> None:
    settings = config(tmp_path, *overrides)
    with pytest.raises(UsageError, match=message) as error:
        wrap(place(create_model(settings.model, 2), settings, ALONE), settings, ALONE)
    assert "\n" not in str(error.value)


def test_synchronised_norms_have_no_groups(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="set sync_bn=false or norm_batch_size=null"):
        config(tmp_path, "sync_bn=true", "norm_batch_size=2")
    with pytest.raises(UsageError, match="cannot be compiled: set sync_bn=false or compile=false"):
        config(tmp_path, "sync_bn=true", "compile=true")
    with pytest.raises(ValueError, match="sync_bn=true needs CUDA GPUs"):
        place(Tiny(), config(tmp_path, "sync_bn=true"), ALONE)


def test_a_missing_compiler_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"compile=true needs a C\+\+ compiler on CPUs"):
        wrap(Tiny(), config(tmp_path, "compile=true"), ALONE)
    monkeypatch.setattr(network_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="compile=graphs needs triton"):
        wrap(Tiny(), config(tmp_path, "compile=graphs"), Workers(0, 1, torch.device("cuda")))


@pytest.mark.parametrize(
    ("overrides", "processes", "message"),
    [
        (["micro_batch_size=1"], 1, "each has 4 of 1 image.*: set micro_batch_size=4 norm_batch_size=1, which"),
        (
            ["micro_batch_size=2", "norm_batch_size=1"],
            1,
            "each has 2 of 2 image.*micro_batch_size=4 norm_batch_size=1",
        ),
        (["batch_size=8"], 1, "each has 2 of 4 image.*: set micro_batch_size=8 norm_batch_size=4, which"),
        (["batch_size=16"], 2, "each has 2 of 4 image.*: set micro_batch_size=16 norm_batch_size=4, which"),
        (["batch_size=8"], 2, None),
        (["batch_size=8", "micro_batch_size=8", "norm_batch_size=4"], 1, None),
    ],
)
def test_graphs_add_no_gradients_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], processes: int, message: str | None
) -> None:
    """The gradients of a CUDA graph are overwritten by its next run. Those who follow the advice are not refused."""
    monkeypatch.setattr(network_module.importlib.util, "find_spec", lambda name: name)
    settings, gpus = config(tmp_path, *overrides, "compile=graphs"), Workers(0, processes, torch.device("cuda"))
    with nullcontext() if message is None else pytest.raises(UsageError, match=message):
        network_module._check_compiler(Tiny(), settings, gpus)
    without_norms = Tiny()
    without_norms.norm = nn.Identity()
    with (
        nullcontext() if message is None else pytest.raises(UsageError, match=r"micro_batch_size=\d+, or compile=true")
    ):
        network_module._check_compiler(without_norms, settings, gpus)
    compiled = config(tmp_path, *overrides, "compile=true")
    network_module._check_compiler(Tiny(), compiled, gpus)  # without graphs they may be added up


@pytest.mark.parametrize(("value", "own", "other"), [("null", True, False), ("true", True, False), ("false", False, 1)])
def test_the_memory_format(tmp_path: Path, value: str, own: bool, other: bool) -> None:
    weight = place(Tiny(), config(tmp_path, f"channels_last={value}"), ALONE).conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == own
    assert weight.is_contiguous() == bool(other)


def assert_same_first_step(*folders: Path) -> None:
    """The same names and losses, and averages of the backbone. In float32 a random network determines no more.

    Its last feature maps have one position: the norm of two or four values turns their last digits into ±1.
    """
    logs = [json.loads((folder / "log.jsonl").read_text().splitlines()[0]) for folder in folders]
    for name in ("loss", "class_loss", "box_loss"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-3)
    states = [load_checkpoint(folder / "last.pt")["model"] for folder in folders]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        if name.startswith("backbone.") and "running" in name:
            torch.testing.assert_close(states[1][name], tensor, rtol=1e-2, atol=1e-2)


def test_both_memory_formats_compute_the_same(small_voc: Path, tmp_path: Path) -> None:
    states = []
    for value in ("true", "false"):
        output = tmp_path / value
        train(config(tmp_path, f"channels_last={value}", f"output={output}", "data.val=val", root=small_voc))
        states.append(load_checkpoint(output / "last.pt"))
    momenta = [state["optimizer"]["state"][0]["momentum_buffer"] for state in states]
    assert [tensor.is_contiguous() for tensor in momenta] == [False, True]
    assert_same_first_step(tmp_path / "true", tmp_path / "false")
    assert states[1]["model"]["backbone.stem.1.conv.weight"].is_contiguous()  # after an evaluation too


@pytest.mark.parametrize("model", ["dsod300_vovnet27_slim", "refinedet320_vovnet27_slim"])
def test_one_pass_with_groups_has_the_gradients_of_a_pass_for_each_group(model: str) -> None:
    """Statistics, normalisers of the loss and running averages, all in one pass of 8 and in two of 4."""
    spec, options = find_detector(model), {"width": 32} if model.startswith("refinedet") else {}
    torch.manual_seed(0)
    separate = create_model(model, 3, **options).double().train()
    together = create_model(model, 3, **options).double().train()
    together.load_state_dict(separate.state_dict())
    use_ghost_norms(together, 4)
    images = torch.randn(8, 3, 128, 128, dtype=torch.float64)
    starts = 80 * torch.rand(8, 6, 2)
    boxes = torch.cat([starts, starts + 10 + 30 * torch.rand(8, 6, 2)], dim=2)
    targets = [Target.make(boxes[i, : i % 5], [j % 3 for j in range(i % 5)]) for i in range(8)]  # two without objects
    criterion = spec.make_loss({})
    sums: dict[str, Tensor] = {}
    for passes in range(2):
        part = slice(4 * passes, 4 * passes + 4)
        set_norm_momentum(separate, 0.01, passes)
        losses = criterion(separate(images[part]), targets[part])
        (sum(losses.values()) / 2).backward()
        sums = {name: sums.get(name, 0) + loss.detach() / 2 for name, loss in losses.items()}
    set_norm_momentum(together, 0.01, 0)
    losses = spec.make_loss({"images_per_group": 4})(together(images), targets)
    sum(losses.values()).backward()
    for name, loss in losses.items():
        torch.testing.assert_close(loss.detach(), sums[name], rtol=1e-5, atol=1e-6)
    parameters = dict(together.named_parameters())
    for name, parameter in separate.named_parameters():
        difference = (parameters[name].grad - parameter.grad).norm()
        assert difference <= 1e-5 * parameter.grad.norm() + 1e-12, name
    buffers = dict(together.named_buffers())
    for name, buffer in separate.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, rtol=1e-10, atol=1e-10)


def test_a_run_with_groups_computes_what_micro_batches_do(small_voc: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / override for override in ("micro_batch_size=2", "norm_batch_size=2")]
    for output in outputs:
        train(config(tmp_path, output.name, f"output={output}", root=small_voc))
    assert_same_first_step(*outputs)


def test_a_compiled_network_is_the_one_without_and_goes_on_as_one(tmp_path: Path, traced: list[Any]) -> None:
    """Two passes with another share in the averages each; a third by a network that was made from the state."""
    plain_config, compiled_config = config(tmp_path), config(tmp_path, "compile=true")
    plain, compiled = place(Tiny(), plain_config, ALONE), place(Tiny(), compiled_config, ALONE)
    compiled.load_state_dict(plain.state_dict())
    network = wrap(compiled, compiled_config, ALONE).train()
    for passes in range(3):
        if passes == 2:
            resumed = place(Tiny(), compiled_config, ALONE)
            resumed.load_state_dict(compiled.state_dict())
            plain.zero_grad()
            compiled, network = resumed, wrap(resumed, compiled_config, ALONE).train()
        images = torch.randn(4, 3, 8, 8)
        for model, forward in ((plain, plain), (compiled, network)):
            set_norm_momentum(model, 0.01, passes)
            forward(images)["output"].square().sum().backward()
        results = [(*(p.grad for p in model.parameters()), *model.buffers()) for model in (compiled, plain)]
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        assert len(traced) == 1 or passes == 2  # although the share of a pass changes


@pytest.mark.slow
def test_a_compiled_run_is_the_run_without_and_goes_on_as_one(
    small_voc: Path, tmp_path: Path, traced: list[Any]
) -> None:
    """A step of two passes each; then the compiled run goes on for a step as it is."""
    common, runs = ["batch_size=2", "micro_batch_size=1"], {"plain": "false", "compiled": "true"}
    for name, value in runs.items():
        train(config(tmp_path, *common, f"compile={value}", f"output={tmp_path / name}", root=small_voc))
    assert len(traced) == 1  # although the share of a pass in the averages changes
    assert_same_first_step(*(tmp_path / name for name in runs))
    common = [*common, "schedule.iterations=2", "resume=true", f"output={tmp_path / 'compiled'}"]
    train(config(tmp_path, *common, root=small_voc))
    assert load_checkpoint(tmp_path / "compiled" / "last.pt")["step"] == 2
    steps = [json.loads(line)["step"] for line in (tmp_path / "compiled" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2]


def test_graphs_are_told_of_each_step(
    small_voc: Path, tmp_path: Path, traced: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: told.append(True))
    small = ("batch_size=1", "micro_batch_size=1", "compile=graphs", f"output={tmp_path / 'run'}")
    train(config(tmp_path, *small, root=small_voc))
    assert told == [True]


def test_a_compiled_network_is_shared_by_processes(tmp_path: Path, traced: list[Any]) -> None:
    """Gradients arrive where the optimizer looks for them, with and without an exchange."""
    settings = config(tmp_path, "compile=true", "norm_batch_size=2")
    images = torch.randn(4, 3, 8, 8)
    plain, model = use_ghost_norms(Tiny(), 2), place(Tiny(), settings, ALONE)
    model.load_state_dict(plain.state_dict())
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        network = wrap(model, settings, Workers(0, 2, ALONE.device))
        assert isinstance(network, nn.parallel.DistributedDataParallel)
        with network.no_sync():
            network(images)["output"].square().sum().backward()
        network(images)["output"].sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    plain(images)["output"].square().sum().backward()
    plain(images)["output"].sum().backward()
    assert len(traced) == 1
    for ours, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-4, atol=1e-4)


OTHERS = (
    *("dsod300_densenet67", "refinedet320_vovnet39", "refinedet320_vgg16", "pelee304", "ssd300_mobilenet"),
    "ssdfpn320_vovnet19_tiny",
)
MODELS = ["dsod300_vovnet27_slim", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


@pytest.mark.parametrize("model", MODELS)
def test_a_network_is_one_graph(tmp_path: Path, model: str, traced: list[Any]) -> None:
    """A graph break would let the host run between two kernels, and "graphs" has nothing to record across it."""
    settings = config(tmp_path, f"model={model}", "compile=true", "norm_momentum=null")
    network = wrap(place(create_model(model, 2), settings, ALONE), settings, ALONE).train()
    images = torch.randn(2, 3, *network.preprocessing.image_size)
    outputs = [network(images) for _ in range(2)]  # the traced function has `fullgraph`: a break raises an error
    assert len(traced) == 1
    assert outputs[0]["anchors_cxcywh"] is outputs[1]["anchors_cxcywh"]  # made before, outside of any CUDA graph


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler on CPUs")
def test_a_real_compiler(tmp_path: Path) -> None:
    settings = config(tmp_path, "compile=true", "norm_batch_size=2")
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    plain, compiled = Tiny().train(), place(Tiny(), settings, ALONE).train()
    compiled.load_state_dict(plain.state_dict())
    network = wrap(compiled, settings, ALONE)
    assert isinstance(compiled.norm, GhostBatchNorm)
    plain_norms = use_ghost_norms(plain, 2)
    for passes in range(2):
        results = []
        for model, forward in ((plain_norms, plain_norms), (compiled, network)):
            set_norm_momentum(model, 0.01, passes)
            output = forward(images)["output"]
            output.square().sum().backward()
            results.append((output.detach(), *(p.grad for p in model.parameters()), *model.buffers()))
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert compiled.state_dict().keys() == plain.state_dict().keys()

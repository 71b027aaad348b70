"""Which parameters decay and which learn faster; the formulas of both optimizers by hand; older checkpoints."""

import pytest
import torch
from torch import nn

from vovnet import create_model
from vovnet.engine.config import OptimizerConfig, load_config
from vovnet.engine.train import train
from vovnet.engine.training import optimizer as optimizer_module
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.optimizer import make_optimizer, set_learning_rate
from vovnet.engine.training.state import TrainState
from vovnet.errors import UsageError
from vovnet.models.layers import memory_format_of
from vovnet.weights.file import load_checkpoint
from vovnet.zoo import find_detector


def build(name):
    with torch.device("meta"):
        return create_model(name, 3)


def rules(detector, config):
    """Parameter name → (weight decay, multiple of the learning rate)."""
    model = build(detector)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {}
    for group in make_optimizer(model, find_detector(detector), config).param_groups:
        for parameter in group["params"]:
            name = names.pop(id(parameter))  # each in one group only
            groups[name] = (group["weight_decay"], group.get("rate_factor", 1))
    assert not names  # none is left out
    return groups


@pytest.mark.parametrize("decay_norms", [False, True])
def test_refinedet_with_batch_norm(decay_norms):
    groups = rules("refinedet320_vovnet39", OptimizerConfig(weight_decay=5e-4, decay_norms=decay_norms))
    faster = {name for name, (_, factor) in groups.items() if factor == 2}
    assert faster == {
        f"{step}.{level}.{kind}.bias" for step in ("arm", "odm") for level in range(4) for kind in ("box", "cls")
    }
    norm_decay = 5e-4 if decay_norms else 0
    assert groups["arm.0.box.bias"] == groups["odm.3.cls.bias"] == (0, 2)
    assert groups["arm.0.box.weight"] == groups["odm.3.cls.weight"] == (5e-4, 1)
    for norm in ("backbone.stem.0.norm", "arm.0.block.shortcut.norm", "tcb.2.second.norm", "sixth.branch.0.norm"):
        assert groups[f"{norm}.weight"] == groups[f"{norm}.bias"] == (norm_decay, 1), norm
    assert groups["backbone.stem.0.conv.weight"] == (5e-4, 1)


def test_refinedet_without_batch_norm():
    groups = rules("refinedet320_vgg16", OptimizerConfig(weight_decay=5e-4))
    assert groups["odm.0.cls.bias"] == (0, 2)
    assert groups["tcb.0.first.0.bias"] == groups["backbone.norms.0.scale"] == (0, 1)


@pytest.mark.parametrize("name", ["dsod300_vovnet27_slim", "ssd300_mobilenet"])
def test_ssd_detectors_keep_their_two_groups(name):
    model = build(name)
    optimizer = make_optimizer(model, find_detector(name), OptimizerConfig(decay_norms=True))
    assert [group["rate_factor"] for group in optimizer.param_groups] == [1, 1]
    groups = rules(name, OptimizerConfig(weight_decay=1e-3, decay_norms=True))
    free = {name for name, (decay, _) in groups.items() if decay == 0}
    assert free == {name for name, p in model.named_parameters() if p.ndim == 1 and name.startswith("heads.")}


RULES = [{"match": "heads.*.box.*", "rate": 0.5}, {"match": "heads.*", "decay": 0.25}, {"match": "*.bias", "rate": 3}]


def test_the_first_rule_that_matches_holds_and_what_it_leaves_open_stays():
    config = OptimizerConfig(weight_decay=4.0, decay_norms=True, rules=RULES)
    groups = rules("pelee304", config)
    assert groups["heads.0.box.weight"] == (4, 0.5)
    assert groups["heads.0.box.bias"] == (0, 0.5)  # not decayed in the heads, whatever `decay_norms` says
    assert groups["heads.0.cls.weight"] == groups["heads.0.cls.bias"] == (1, 1)
    assert groups["extras.0.0.bias"] == (4, 3)
    assert groups["extras.0.0.weight"] == groups["backbone.stem.first.norm.weight"] == (4, 1)
    biases = rules("refinedet320_vovnet39", OptimizerConfig(weight_decay=4.0, rules=[{"match": "arm.0.*", "decay": 1}]))
    assert (biases["arm.0.box.bias"], biases["arm.1.box.bias"]) == ((4, 2), (0, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([{"match": "head.*", "rate": 1}], r"no parameter of the model is called 'head\.\*'"),
        ([{"match": "heads.0.box.wieght"}], "did you mean 'heads.0.box.weight'"),
        ([{"match": "heads.*"}, {"match": "heads.*.cls.*"}], r"earlier rules match .* 'heads.\*.cls.\*': put it first"),
    ],
)
def test_rules_that_hold_for_nothing_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        rules("pelee304", OptimizerConfig(rules=wrong))


@pytest.mark.parametrize(
    "name", ["dsod300_vovnet27_slim", "refinedet320_vovnet39", "maskrcnn_resnet50_gn", "fasterrcnn_vovnet39"]
)
@pytest.mark.parametrize("decay_norms", [False, True])
def test_groups_are_in_the_order_of_older_checkpoints(name, decay_norms):
    """Decayed, not decayed, fast: a checkpoint knows parameters only by their place."""
    model, spec = build(name), find_detector(name)
    fast = spec.fast_biases(model)
    rest = [(n, p) for n, p in model.named_parameters() if not any(p is bias for bias in fast)]
    decayed = [p for n, p in rest if p.ndim > 1 or (decay_norms and not n.startswith(spec.never_decayed))]
    free = [p for _, p in rest if not any(p is other for other in decayed)]
    groups = make_optimizer(model, spec, OptimizerConfig(decay_norms=decay_norms)).param_groups
    for group, expected in zip(groups, [decayed, free, *([fast] if fast else [])], strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in expected]


def test_learning_rates():
    name = "refinedet320_vovnet27_slim"
    optimizer = make_optimizer(build(name), find_detector(name), OptimizerConfig())
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25, 0.5]
    set_learning_rate(optimizer, 0.1)  # a multiple of the new rate, not of the old rate
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 0.2]


def steps(kind, gradients, **options):
    weight = nn.Linear(1, 1, bias=False)
    weight.weight.data.fill_(2.0)
    spec = find_detector("ssd300_mobilenet")
    optimizer = make_optimizer(weight, spec, OptimizerConfig(kind=kind, learning_rate=0.1, **options))
    values = []
    for gradient in gradients:
        weight.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        values.append(weight.weight.item())
    return values


def test_sgd_by_hand():
    # v = 0.9 v + g + decay·w; w -= rate·v
    first = 2 - 0.1 * (1 + 0.01 * 2)
    velocity = 0.9 * (1 + 0.01 * 2) + (3 + 0.01 * first)
    assert steps("sgd", [1.0, 3.0], momentum=0.9, weight_decay=0.01) == pytest.approx([first, first - 0.1 * velocity])


def test_rmsprop_by_hand():
    # s = 0.99 s + 0.01 g², with g = gradient + decay·w; w -= rate·g / √s
    g = 1 + 0.01 * 2
    square = 0.01 * g**2
    first = 2 - 0.1 * g / square**0.5
    g = 3 + 0.01 * first
    square = 0.99 * square + 0.01 * g**2
    expected = [first, first - 0.1 * g / square**0.5]
    assert steps("rmsprop", [1.0, 3.0], momentum=0.0, weight_decay=0.01) == pytest.approx(expected, rel=1e-5)


CONFIG = """
model: refinedet320_vovnet27_slim
data: {{root: {root}, val: null}}
optimizer: {{kind: {kind}, learning_rate: 1e-4, momentum: 0}}
schedule: {{iterations: 2}}
batch_size: 2
micro_batch_size: 2
threads: 1
workers: 0
tensorboard: false
output: {output}
"""


def test_resuming_a_run_of_an_older_version(small_voc, tmp_path):
    """Its checkpoint has neither the newer settings nor the newer parameter groups."""
    path = tmp_path / "run.yaml"
    text = CONFIG.format(root=small_voc, kind="sgd", output=tmp_path / "run")
    path.write_text(
        text.replace("refinedet320_vovnet27_slim", "dsod300_vovnet27_slim").replace("momentum: 0", "momentum: 0.9")
    )
    train(load_config(path, ["schedule.iterations=1"]))
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    for key in ("loss", "backbone_weights"):
        del checkpoint["config"][key]
    del checkpoint["config"]["optimizer"]["kind"]
    torch.save(checkpoint, tmp_path / "run" / "last.pt")
    assert train(load_config(path, ["schedule.iterations=1", "resume=true"])).finished
    with pytest.raises(ValueError, match="other settings .loss.use_difficult was null, is false"):
        train(load_config(path, ["schedule.iterations=1", "resume=true", "loss.use_difficult=false"]))


@pytest.mark.parametrize("kind", ["sgd", "rmsprop"])
def test_refinedet_trains_and_resumes(small_voc, tmp_path, kind):
    """Two steps on real images; the checkpoint restores the groups with their own learning rates."""
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(root=small_voc, kind=kind, output=tmp_path / "run"))
    records = []
    assert train(load_config(path), [records.append]).finished
    assert {"arm_class_loss", "arm_box_loss", "class_loss", "box_loss", "loss"} <= records[-1].keys()
    groups = load_checkpoint(tmp_path / "run" / "last.pt")["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-4, 2e-4])
    assert train(load_config(path, ["resume=true"])).steps == 2


def test_mask_rcnn_decays_neither_norms_nor_biases_and_its_biases_learn_twice_as_fast():
    groups = rules("maskrcnn_vovnet27_slim_gn", OptimizerConfig(weight_decay=1e-4))
    norms = {name for name, (decay, factor) in groups.items() if (decay, factor) == (0, 1)}
    biases = {name for name, (decay, factor) in groups.items() if (decay, factor) == (0, 2)}
    assert {"backbone.stem.0.norm.weight", "backbone.stem.0.norm.bias", "fpn.inner_blocks.0.1.weight"} <= norms
    assert {"rpn.head.cls_logits.bias", "roi_heads.box_predictor.bbox_pred.bias"} <= biases
    assert "roi_heads.mask_predictor.mask_fcn_logits.bias" in biases
    assert not norms & biases
    assert groups["roi_heads.box_predictor.bbox_pred.weight"] == (1e-4, 1)


def test_the_ema_follows_weights_and_statistics():
    model = torch.nn.BatchNorm1d(1)
    ema = EMA(model, 0.5)
    for value in (1.0, 2.0, 4.0):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        model.num_batches_tracked += 1
        ema.update_parameters(model)
    # The first update copies; the next two keep 2/11 and 3/12 of the average.
    second = 1 * 2 / 11 + 2 * 9 / 11
    third = second * 3 / 12 + 4 * 9 / 12
    assert ema.module.weight.item() == pytest.approx(third)
    assert ema.module.running_mean.item() == pytest.approx(third)
    assert ema.module.num_batches_tracked.item() == 3


@pytest.mark.parametrize("kind", ["sgd", "rmsprop"])
@pytest.mark.parametrize("formats", [("true", "false"), ("false", "true")])
def test_a_run_that_resumes_in_another_memory_format_keeps_its_momentum(small_voc, tmp_path, kind, formats):
    """Fused SGD wants both in one format, or refuses (on GPUs) or takes the elements for each other (on CPUs)."""
    path = tmp_path / "run.yaml"
    path.write_text(
        CONFIG.format(root=small_voc, kind=kind, output=tmp_path / "run").replace("momentum: 0", "momentum: 0.9")
    )
    train(load_config(path, [f"channels_last={formats[0]}", "schedule.iterations=1"]))
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    config = load_config(path, [f"channels_last={formats[1]}"])
    model = create_model(config.model, 3).to(memory_format=memory_format_of(config.channels_last))
    optimizer = make_optimizer(model, find_detector(config.model), config.optimizer)
    state = TrainState(model, None, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    state.load(checkpoint, tmp_path / "run" / "last.pt")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    changed = 0
    for index, parameter in enumerate(parameters):
        before = checkpoint["optimizer"]["state"][index]["momentum_buffer"]
        buffer = optimizer.state[parameter]["momentum_buffer"]
        assert buffer.stride() == parameter.stride()
        assert torch.equal(buffer, before)
        changed += before.stride() != buffer.stride()
    assert changed > 10


@pytest.mark.parametrize("empty", [True, False])
def test_fused_momentum_starts_with_zeros_after_a_checkpoint_without(monkeypatch, empty):
    """Checkpoints before the first step have none, whichever device they come from."""
    network = nn.Conv2d(3, 4, 3)
    config, spec = OptimizerConfig(), find_detector("ssd300_mobilenet")
    saved = make_optimizer(network, spec, config).state_dict()
    if not empty:
        saved["state"] = {0: {"momentum_buffer": torch.full((4, 3, 3, 3), 5.0)}, 1: {"momentum_buffer": None}}
    monkeypatch.setattr(optimizer_module, "_has_fused_sgd", lambda _: True)
    optimizer = make_optimizer(network, spec, config)
    for state in optimizer.state.values():
        state["momentum_buffer"].fill_(9.0)
    state = TrainState(network, None, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    checkpoint = {"model": network.state_dict(), "ema": None, "optimizer": saved, "scaler": {}, "step": 0}
    state.load(checkpoint | {"best": None, "best_step": None, "window": {"count": 0, "sums": {}}}, "last.pt")
    assert all(group["fused"] for group in optimizer.param_groups)
    assert (optimizer.state[network.weight]["momentum_buffer"] == (0 if empty else 5)).all()
    assert (optimizer.state[network.bias]["momentum_buffer"] == 0).all()

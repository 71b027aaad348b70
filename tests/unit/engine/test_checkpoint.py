"""A checkpoint or a log that somebody else left in the output folder is refused in one sentence, or read around."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vovnet.engine.training import state as train_state
from vovnet.engine.training.checkpoint import check_checkpoint, check_optimizer
from vovnet.engine.training.log import json_lines
from vovnet.engine.training.state import TrainState

PATH = Path("run/last.pt")
MISSING = object()


def make_network(kind="sgd"):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    groups = [{"params": [net.weight]}, {"params": [net.bias], "weight_decay": 0.0}]
    make = torch.optim.SGD if kind == "sgd" else torch.optim.RMSprop
    optimizer = make(groups, lr=0.1, momentum=0.9, weight_decay=1e-4)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return net, optimizer


def make_checkpoint():
    net, optimizer = make_network()
    return {
        "format": "vovnet-detector-1",
        "model": net.state_dict(),
        "ema": None,
        "optimizer": optimizer.state_dict(),
        "scaler": {},
        "step": 3,
        "best": 0.5,
        "best_step": 2,
        "last": None,
        "window": {"count": 1, "sums": {"loss": 2.0}},
        "info": {"name": "x", "options": {}, "class_names": ("a",), "category_ids": (1,)},
        "images": "0" * 64,
        "config": {},
    }


def changed(keys, value):
    checkpoint = copy.deepcopy(make_checkpoint())
    *parents, last = keys
    part = checkpoint
    for key in parents:
        part = part[key]
    if value is MISSING:
        del part[last]
    else:
        part[last] = value
    return checkpoint


def test_a_whole_checkpoint_is_taken():
    check_checkpoint(make_checkpoint(), PATH)
    check_checkpoint(changed(["last"], MISSING), PATH)  # of an older version
    for kind in ("sgd", "rmsprop"):
        _, optimizer = make_network(kind)
        check_optimizer(optimizer.state_dict(), make_network(kind)[1], PATH)
        fresh = make_network(kind)[1]
        fresh.state.clear()
        check_optimizer(fresh.state_dict(), make_network(kind)[1], PATH)


@pytest.mark.parametrize("key", [key for key in make_checkpoint() if key not in ("format", "last")])
@pytest.mark.parametrize("value", [MISSING, [], "x" * 10**6, torch.zeros(2), 10**400, float("nan"), {"\x1b": object()}])
def test_every_part_is_checked(key, value):
    if (key, type(value)) in (("images", str), ("config", dict)):  # compared with the present ones
        value = 5
    with pytest.raises(
        ValueError, match=r"^run/last\.pt is a damaged checkpoint.*choose another output=FOLDER"
    ) as error:
        check_checkpoint(changed([key], value), PATH)
    assert len(str(error.value)) <= 500
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["step"], -1),
        (["step"], 2**70),
        (["step"], True),
        (["step"], 1.5),
        (["best"], float("inf")),
        (["best"], "high"),
        (["best_step"], -3),
        (["window", "count"], 0),
        (["window", "sums", "loss"], float("nan")),
        (["window", "sums", "loss"], torch.zeros(3)),
        (["model", "weight"], torch.full((2, 3), float("nan"))),
        (["model", "weight"], [1, 2]),
        (["model", 5], torch.zeros(1)),
        (["ema"], {"weight": torch.tensor(float("inf"))}),
        (["info", "class_names"], ()),
        (["info", "class_names"], ("a", "b")),
        (["info", "category_ids"], MISSING),
        (["info", "options"], None),
        (["optimizer", "state"], [1]),
        (["optimizer", "param_groups"], {"a": 1}),
        (["scaler"], {"scale": "x"}),
    ],
)
def test_values_inside_are_checked(keys, value):
    with pytest.raises(ValueError, match="is a damaged checkpoint"):
        check_checkpoint(changed(keys, value), PATH)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["state", 0, "momentum_buffer"], torch.zeros(3, 2), "another shape"),
        (["state", 0, "momentum_buffer"], torch.full((2, 3), float("nan")), "not finite"),
        (["state", 0, "momentum_buffer"], torch.zeros(2, 3, dtype=torch.int32), "another type"),
        (["state", 1, "momentum_buffer"], "x" * 10**6, "another type"),
        (["state", 99], {}, "parameter 99 that is not there"),
        (["param_groups", 0, "params"], [0, 1], "other parameters"),
        (["param_groups", 0, "params"], MISSING, "other parameters"),
        (["param_groups", 1, "momentum"], 0.5, "momentum is 0.5, expected 0.9"),
        (["param_groups", 1, "weight_decay"], torch.zeros(3), "other settings"),
        (["param_groups", 0, "maximize"], "x" * 10**6, "other settings"),
        (["param_groups"], [], "other parameters"),
    ],
)
def test_a_state_of_another_optimizer_is_refused(keys, value, message):
    _, optimizer = make_network()
    stated = changed(["optimizer", *keys], value)["optimizer"]
    with pytest.raises(ValueError, match=message) as error:
        check_optimizer(stated, optimizer, PATH)
    assert len(str(error.value)) <= 500


def test_a_run_goes_on_with_the_kernels_of_its_own_device(monkeypatch):
    """A checkpoint of a GPU says "fused", one of a CPU "foreach"."""
    monkeypatch.setattr(train_state, "load_state", lambda *_: None)
    net, _ = make_network()
    groups = [{"params": [net.weight]}, {"params": [net.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=True)
    checkpoint = make_checkpoint()
    for group in checkpoint["optimizer"]["param_groups"]:
        group |= {"fused": True, "foreach": None}
    state = TrainState(net, None, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    state.load(checkpoint, PATH)
    assert [(group["fused"], group["foreach"]) for group in optimizer.param_groups] == [(None, True)] * 2
    assert state.step == 3
    assert state.window.state_dict() == checkpoint["window"]
    assert state.window.means() == {"loss": 2.0}


def test_a_state_of_sgd_is_none_for_rmsprop():
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    _, optimizer = make_network("rmsprop")
    stated = optimizer.state_dict()
    del stated["state"][0]["square_avg"]
    with pytest.raises(ValueError, match="lacks square_avg"):
        check_optimizer(stated, torch.optim.RMSprop(optimizer.param_groups, **settings), PATH)


LINE = json.dumps({"step": 1, "loss": 2.0}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        b'{"step": 2, "lo',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'"text"',
        b"[1]",
        b'{"step": null}',
        b"9" * 5000,
        b"x" * 3_000_000,
    ],
    ids=["half", "bytes", "deep", "text", "list", "null", "number", "long"],
)
@pytest.mark.parametrize("end", [b"", b"\n" + LINE])
def test_a_damaged_log_is_read_around(tmp_path, damage, end):
    path = tmp_path / "log.jsonl"
    path.write_bytes(LINE + b"\n" + damage + end)
    json_lines(path, 1)({"step": 2})
    lines = path.read_text().splitlines()
    assert lines == [LINE.decode()] * (2 if end else 1) + ['{"step": 2}']

"""Checkpoints as training scripts write them: the network's weights are found in their wrappers, and nothing is run."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from vovnet import create_backbone, load
from vovnet.weights.backbone import build_pretrained, read_timm_weights, read_weights
from vovnet.weights.detector import ModelInfo
from vovnet.weights.importing import import_weights

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def states() -> dict[str, tuple[str, State]]:
    """Scheme → the name of a backbone and its weights under the names of that source."""
    import timm
    import torchvision

    torch.manual_seed(0)
    return {
        "timm": ("vovnet19_slim_dw_ese", timm.create_model("ese_vovnet19b_slim_dw", num_classes=3).state_dict()),
        "torchvision": ("resnet50", torchvision.models.resnet50(weights=None, num_classes=3).state_dict()),
    }


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPERS: dict[str, Callable[[State], Any]] = {
    "ddp.pth": lambda s: {"state_dict": under("module.", s)},
    "model_best.pth.tar": lambda s: {"state_dict": s, "arch": "ese_vovnet19b_slim_dw", "epoch": 3, "metric": 71.2},
    "compiled.pth": lambda s: under("_orig_mod.", s),
    "ddp_compiled.pt": lambda s: {"model": under("module._orig_mod.", s), "optimizer": {"state": {}}},
    "compiled_ddp.pth": lambda s: {"model": under("_orig_mod.module.", s)},
    "averaged.pth": lambda s: {"model_ema": under("module.", s) | {"n_averaged": torch.tensor(7)}, "epoch": 1},
    "lightning.ckpt": lambda s: {"epoch": 1, "state_dict": under("model.", s), "hyper_parameters": {"lr": 0.1}},
    "lightning_with_loss.ckpt": lambda s: {"state_dict": under("model.", s) | {"loss.weight": torch.ones(3)}},
    "backbone.bin": lambda s: under("backbone.", s),
    "backbone_and_head.pth.tar": lambda s: {"state_dict": under("backbone.", s) | {"head.fc.weight": torch.ones(3, 4)}},
    "model_of_backbone.pth": lambda s: {"model_state_dict": under("model.backbone.", s)},
    "nested.pth": lambda s: {"model": {"state_dict": s}},
    "deepspeed.pt": lambda s: {"module": s, "optimizer": None, "global_steps": 3},
    "net.pth": lambda s: {"net": under("module.", s), "acc": 93.1, "epoch": 3},
    "ema_alone.pth": lambda s: {"ema": s, "model": None, "optimizer": {"state": {}, "param_groups": []}},
    "without_average.pth": lambda s: {"state_dict": s, "state_dict_ema": None},
}


@pytest.mark.parametrize(
    ("file", "scheme"),
    [*((file, "timm") for file in WRAPPERS), ("ddp.pth", "torchvision"), ("backbone_and_head.pth.tar", "torchvision")],
)
def test_weights_are_found_in_their_wrappers(
    file: str, scheme: str, states: dict[str, tuple[str, State]], tmp_path: Path
) -> None:
    name, state = states[scheme]
    torch.save(state, tmp_path / "plain.pth")
    torch.save(WRAPPERS[file](state), tmp_path / file)
    plain, wrapped = read_weights(tmp_path / "plain.pth"), read_weights(tmp_path / file)
    assert (wrapped.model, wrapped.options, wrapped.pixels) == (plain.model, plain.options, plain.pixels)
    assert wrapped.state.keys() == plain.state.keys()
    assert all(torch.equal(tensor, plain.state[key]) for key, tensor in wrapped.state.items())
    assert wrapped.model == name


@pytest.mark.parametrize("file", ["ddp.pth", "model_best.pth.tar", "ddp_compiled.pt", "lightning.ckpt"])
def test_every_way_in_reads_them(file: str, states: dict[str, tuple[str, State]], tmp_path: Path) -> None:
    import timm

    torch.save(WRAPPERS[file](states["timm"][1]), tmp_path / file)
    report = import_weights(tmp_path / file, tmp_path / "ours.safetensors")
    assert (report.scheme, report.model, report.num_classes) == ("timm", "vovnet19_slim_dw_ese", 3)
    info = ModelInfo("refinedet320_vovnet19_slim_dw_ese", {"width": 16}, ("cat",), (1,))
    _, model = build_pretrained(info, str(tmp_path / file))
    stem = states["timm"][1]["stem.0.conv.weight"]
    assert torch.equal(model.backbone.stem[0].conv.weight, stem)
    with pytest.raises(ValueError, match=r"vovnet weights import"):
        load(tmp_path / file, "cpu")

    net = timm.create_model("resnet18").state_dict()
    torch.save(WRAPPERS[file](net), tmp_path / file)
    tensors, _ = read_timm_weights("resnet18", tmp_path / file)
    assert torch.equal(tensors["conv1.weight"], net["conv1.weight"])


def test_averaged_weights_are_taken_first(states: dict[str, tuple[str, State]], tmp_path: Path) -> None:
    _, state = states["timm"]
    average = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": average}, tmp_path / "both.pth.tar")
    assert torch.equal(
        read_weights(tmp_path / "both.pth.tar").state["stem.0.conv.weight"], average["stem.0.conv.weight"]
    )
    model = AveragedModel(create_backbone("resnet50", style="torchvision"))
    torch.save(model.state_dict(), tmp_path / "averaged.pth")
    assert read_weights(tmp_path / "averaged.pth").model == "resnet50"


def test_of_several_networks_none_is_guessed(states: dict[str, tuple[str, State]], tmp_path: Path) -> None:
    _, state = states["torchvision"]
    path = tmp_path / "distilled.pth"
    torch.save({"teacher": state, "student": state, "epoch": 3}, path)
    with pytest.raises(ValueError, match=r"holds several state dicts \(student, teacher\); save only the one to use"):
        read_weights(path)


def test_another_network_beside_the_backbone_is_refused(states: dict[str, tuple[str, State]], tmp_path: Path) -> None:
    beside = {"neck.lateral.weight": torch.ones(4, 4, 1, 1)}
    torch.save(under("backbone.", states["torchvision"][1]) | beside, tmp_path / "detector.pth")
    with pytest.raises(ValueError, match=r"with at most a classifier, but also has neck\.lateral\.weight$"):
        read_weights(tmp_path / "detector.pth")


@pytest.mark.parametrize("new_format", [True, False])
def test_settings_in_a_checkpoint(
    new_format: bool, states: dict[str, tuple[str, State]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm and torchvision save an argparse.Namespace too. The remedy of the message works as it is printed."""
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": states["timm"][1], "args": argparse.Namespace(lr=0.1)}
    torch.save(content, "checkpoint-3.pth.tar", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=r"objects of argparse\.Namespace\); this writes a file without") as caught:
        read_weights("checkpoint-3.pth.tar")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 500
    code = re.search(r'python -c "(.*)"$', str(caught.value))[1]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert read_weights(tmp_path / "weights.pth").model == "vovnet19_slim_dw_ese"


@pytest.mark.parametrize(
    "name", ["a'); print('owned.pth", 'a" ; touch owned.pth', "`touch owned`.pth", f"{'a' * 230}.pth"]
)
def test_a_command_that_a_name_could_change_is_not_printed(name: str, tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=0.1)}, tmp_path / name)
    with pytest.raises(ValueError, match=r"docs/weights\.md has a command that writes a file without them$") as caught:
        read_weights(tmp_path / name)
    assert len(str(caught.value)) <= 500


class Hostile:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("executed",)


class Settings:
    """A class of the training script."""


@pytest.mark.parametrize("extra", [Hostile(), Settings()])
def test_other_objects_are_named_and_not_run(extra: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"stem.0.conv.weight": torch.ones(1)}, "args": extra}, "a.pth.tar")
    with pytest.raises(
        ValueError, match=r"objects of .*(mkdir|Settings).*\); ask its author for a file with the state"
    ):
        read_weights("a.pth.tar")
    assert not Path("executed").exists()


def test_a_dict_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "endless.pth")
    with pytest.raises(ValueError, match="must hold a tensor under each name, got dict under 'model'"):
        read_weights(tmp_path / "endless.pth")


# --- what an import may replace -----------------------------------------------------------------------------------


def test_an_import_replaces_a_file_only_when_told(states: dict[str, tuple[str, State]], tmp_path: Path) -> None:
    source, output = tmp_path / "theirs.pth", tmp_path / "ours.safetensors"
    torch.save(states["timm"][1], source)
    output.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"ours.safetensors exists already; .* --overwrite"):
        import_weights(source, output)
    assert output.read_bytes() == b"mine"
    torch.save({"stem.0.conv.weight": torch.ones(1)}, source)
    with pytest.raises(ValueError, match="must name its tensors"):
        import_weights(source, output, overwrite=True)
    assert output.read_bytes() == b"mine"
    torch.save(states["timm"][1], source)
    import_weights(source, output, overwrite=True)
    assert read_weights(output).model == "vovnet19_slim_dw_ese"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.safetensors", "theirs.pth"]


def test_a_full_disk_leaves_the_old_file(
    states: dict[str, tuple[str, State]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "theirs.pth", tmp_path / "ours.safetensors"
    torch.save(states["timm"][1], source)
    output.write_bytes(b"mine")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vovnet.files.os.fsync", full)
    with pytest.raises(OSError, match=r"could not write .*ours\.safetensors \(No space left on device\)"):
        import_weights(source, output, overwrite=True)
    assert output.read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2

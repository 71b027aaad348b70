"""timm builds our backbones: they give what ours give, and say what timm's tools ask."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import vovnet
from vovnet.adapters.timm import register
from vovnet.errors import UsageError
from vovnet.names import BACKBONE_NAMES

from ...registries import own_registries as own_registries

timm = pytest.importorskip("timm", reason="timm is not installed (the extra of that name)")
NAMES = (*(name for name in BACKBONE_NAMES if name.startswith("vovnet")), "mobilenet", "peleenet")
SMALL = "vovnet19_tiny"
EACH_KIND = [SMALL, "vovnet27_slim", "vovnet19_slim_ese", "vovnet19_slim_dw_ese", "mobilenet", "peleenet"]
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def registered(own_registries: None) -> None:
    register()


def pair(name: str, **options: Any) -> tuple[nn.Module, nn.Module]:
    """timm's network and ours, with the same parameters."""
    theirs, ours = timm.create_model(name, **options).eval(), vovnet.create_backbone(name, **options).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def test_all_of_ours_that_timm_lacks_are_there() -> None:
    names = register()
    assert set(names) == set(NAMES)
    assert set(names) <= set(timm.list_models())
    assert set(names) & set(timm.list_models("vovnet*")) == {name for name in names if name.startswith("vovnet")}
    assert timm.models.model_entrypoint("resnet50").__module__ == "timm.models.resnet"


def test_a_name_that_timm_has_stays_its_own(own_registries: None) -> None:
    registry = timm.models._registry
    other = timm.models.model_entrypoint("resnet18")
    registry._model_entrypoints["vovnet39"] = other
    assert set(register()) == set(NAMES) - {"vovnet39"}
    assert timm.models.model_entrypoint("vovnet39") is other


@pytest.mark.parametrize("name", EACH_KIND)
def test_outputs_are_ours(name: str) -> None:
    theirs, ours = pair(name, num_classes=5)
    with torch.inference_mode():
        assert torch.equal(theirs(IMAGES), ours(IMAGES))


@pytest.mark.parametrize("name", EACH_KIND)
def test_feature_maps_are_ours(name: str) -> None:
    theirs, ours = pair(name, features_only=True)
    with torch.inference_mode():
        maps, expected = theirs(IMAGES), ours(IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert theirs.feature_info.channels() == [m.shape[1] for m in maps] == list(ours.channels)
    assert theirs.feature_info.reduction() == [64 // m.shape[2] for m in maps] == [4, 8, 16, 32]
    modules = dict(theirs.named_modules())
    assert all(name in modules for name in theirs.feature_info.module_name())


@pytest.mark.parametrize("name", NAMES)
def test_what_timm_says_of_a_network(name: str) -> None:
    with torch.device("meta"):  # which gives no parameter a value
        model, ours = timm.create_model(name), vovnet.create_backbone(name)
    sizes = {key: value.shape for key, value in model.state_dict().items()}
    assert sizes == {key: value.shape for key, value in ours.state_dict().items()}
    settings, modules = model.default_cfg, dict(model.named_modules())
    assert (settings["architecture"], settings["num_classes"], settings["input_size"]) == (name, 1000, (3, 224, 224))
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert modules[settings["first_conv"]] is first
    assert modules[settings["classifier"]] is model.get_classifier()
    assert model.num_features == model.get_classifier().in_features == model.feature_info[-1]["num_chs"]
    assert [row["num_chs"] for row in model.feature_info] == list(ours.channels)
    assert timm.data.resolve_model_data_config(model)["mean"] == (0.485, 0.456, 0.406)


def test_chosen_feature_maps() -> None:
    whole, ours = pair(SMALL, features_only=True)
    chosen = timm.create_model(SMALL, features_only=True, out_indices=(1, -1)).eval()
    last = timm.create_model(SMALL, features_only=True, out_indices=2).eval()
    for model in (chosen, last):
        model.load_state_dict(whole.state_dict())
    maps = ours(IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(chosen(IMAGES), [maps[1], maps[3]], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(last(IMAGES), maps[2:], strict=True))
    assert chosen.feature_info.reduction() == [8, 32]
    with pytest.raises(UsageError, match="out_indices must be from -4 to 3, the feature maps of strides 4, 8, 16, 32"):
        timm.create_model(SMALL, features_only=True, out_indices=(1, 2, 3, 4))


def test_without_a_classifier() -> None:
    theirs = timm.create_model(SMALL, num_classes=0).eval()
    ours = vovnet.create_backbone(SMALL, features_only=True).eval()
    ours.load_state_dict(theirs.state_dict())
    means = ours(IMAGES)[-1].mean(dim=(2, 3))
    assert torch.equal(theirs(IMAGES), means)
    assert torch.equal(theirs.forward_head(theirs.forward_features(IMAGES), pre_logits=True), means)
    assert (theirs.num_classes, theirs.num_features) == (0, means.shape[1])


def test_another_classifier() -> None:
    model = timm.create_model(SMALL).eval()
    model.reset_classifier(7)
    assert model(IMAGES).shape == (2, 7)
    assert model.num_classes == model.get_classifier().out_features == 7
    model.reset_classifier(0)
    assert model(IMAGES).shape == (2, model.num_features)


@pytest.mark.parametrize("name", ["vovnet19_tiny", "vovnet19_slim_dw_ese", "mobilenet", "peleenet"])
@pytest.mark.parametrize("channels", [1, 4])
def test_other_input_channels(name: str, channels: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, in_chans=channels, num_classes=3).eval()
    assert model(torch.rand(1, channels, 64, 64)).shape == (1, 3)
    weight = model.get_submodule(model.default_cfg["first_conv"]).weight
    # As the other convolutions: variance 2 / fan_in, or Caffe's 1 / fan_in.
    gain = float(weight.detach().var()) * weight[0].numel()
    assert gain == pytest.approx(1 if name == "peleenet" else 2, rel=0.35)


def test_dropout_is_for_training_only() -> None:
    model = timm.create_model(SMALL, drop_rate=0.9).eval()
    assert torch.equal(model(IMAGES), model(IMAGES))
    model.train()
    torch.manual_seed(0)
    kept = model.forward_head(torch.ones(4, model.num_features, 2, 2), pre_logits=True)
    assert (kept == 0).float().mean() == pytest.approx(0.9, abs=0.05)


def test_options_of_our_class() -> None:
    theirs, ours = pair("vovnet27_slim", stem="stride", ese="last", num_classes=2)
    assert torch.equal(theirs(IMAGES), ours(IMAGES))
    with pytest.raises(UsageError, match="no option of vovnet27_slim in timm is called 'stm', did you mean 'stem'"):
        timm.create_model("vovnet27_slim", stm="stride")
    with pytest.raises(UsageError, match="no option of vovnet27_slim in timm is called 'maps_only'") as error:
        timm.create_model("vovnet27_slim", maps_only=True)
    assert "maps_only" not in str(error.value).partition("called 'maps_only'")[2]
    with pytest.raises(UsageError, match="global_pool must be 'avg'"):
        timm.create_model("vovnet27_slim", global_pool="max")
    with pytest.raises(RuntimeError, match="No pretrained weights exist for vovnet27_slim"):
        timm.create_model("vovnet27_slim", pretrained=True)


def test_weights_of_ours_load_by_file(tmp_path: Path) -> None:
    ours = vovnet.create_backbone(SMALL).eval()
    file = tmp_path / "ours.safetensors"
    save_file(ours.state_dict(), file)
    assert torch.equal(timm.create_model(SMALL, checkpoint_path=file).eval()(IMAGES), ours(IMAGES))
    source = {"file": str(file)}
    fine_tuned = timm.create_model(SMALL, pretrained=True, pretrained_cfg_overlay=source, num_classes=4, in_chans=1)
    assert torch.equal(fine_tuned.stages[3][0].concat.conv.weight, ours.stages[3][0].concat.conv.weight)
    maps = timm.create_model(SMALL, pretrained=True, pretrained_cfg_overlay=source, features_only=True).eval()
    assert torch.equal(maps(IMAGES)[-1], ours.features(IMAGES)[-1])


def test_tools_of_timm_take_it() -> None:
    from timm.optim import param_groups_layer_decay

    model = timm.create_model(SMALL)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    scales = sorted({group["lr_scale"] for group in groups})
    assert len(scales) == 6  # the stem, four modules, the classifier
    averaged = timm.utils.ModelEmaV3(model)
    assert averaged.module.state_dict().keys() == model.state_dict().keys()
    backbone = vovnet.create_backbone(f"timm/{SMALL}")  # our own adapter of timm's networks
    assert (backbone.strides, backbone.channels) == ((4, 8, 16, 32), tuple(c["num_chs"] for c in model.feature_info))


def test_copies_are_whole() -> None:
    model = timm.create_model(SMALL).eval()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(IMAGES), model(IMAGES))

"""torchvision builds our backbones by name, and its detectors work on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

import vovnet
from vovnet.adapters.torchvision import PyramidBackbone, register
from vovnet.errors import UsageError
from vovnet.weights.backbone import read_weights, save_backbone
from vovnet.weights.translate import BackboneWeights
from vovnet.zoo import BACKBONES

from ...registries import own_registries as own_registries

IMAGES = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def registered(own_registries: None) -> list[str]:
    """What torchvision has itself, before all of ours are added."""
    before = torchvision.models.list_models()
    register()
    return before


def test_all_of_ours_that_torchvision_lacks_are_there(registered: list[str]) -> None:
    names = register()
    assert set(names) == BACKBONES.keys() - set(registered)
    assert "vovnet39" in names
    assert {"resnet50", "densenet161", "vgg16"} <= set(registered) - set(names)
    assert set(torchvision.models.list_models()) == {*registered, *names}
    assert torchvision.models.list_models(include="vovnet*") == sorted(n for n in names if n.startswith("vovnet"))


@pytest.mark.parametrize("name", ["vovnet27_slim", "vovnet19_ese", "peleenet"])
def test_outputs_are_ours(name: str) -> None:
    theirs = torchvision.models.get_model(name, num_classes=4).eval()
    ours = vovnet.create_backbone(name, num_classes=4).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        assert torch.equal(theirs(IMAGES), ours(IMAGES))


def test_weights_are_those_of_create_backbone(tmp_path: Path) -> None:
    ours = vovnet.create_backbone("vovnet19_tiny", num_classes=4).eval()
    file = tmp_path / "ours.safetensors"
    pixels = {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0), "channel_order": "RGB"}
    save_backbone(file, BackboneWeights("ours", "vovnet19_tiny", {}, pixels, ours.state_dict()), {})
    theirs = torchvision.models.get_model("vovnet19_tiny", weights=file).eval()
    assert torch.equal(theirs(IMAGES), ours(IMAGES))
    body = PyramidBackbone("vovnet19_tiny", weights=file).body.eval()
    assert torch.equal(body(IMAGES)[-1], ours.features(IMAGES)[-1])
    assert read_weights(file).model == "vovnet19_tiny"


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'stem'"):
        torchvision.models.get_model("vovnet39", stm="stride")


def test_the_pyramid_is_torchvisions_on_our_maps() -> None:
    backbone = PyramidBackbone("vovnet19_tiny", out_channels=16).eval()
    maps = backbone(IMAGES)
    assert list(maps) == ["0", "1", "2", "3", "pool"]
    assert [tuple(m.shape) for m in maps.values()] == [(1, 16, side, side) for side in (16, 8, 4, 2, 1)]
    ours = backbone.body(IMAGES)
    coarse = backbone.fpn.layer_blocks[3](backbone.fpn.inner_blocks[3](ours[3]))
    assert torch.equal(maps["3"], coarse)


def test_the_pyramid_is_on_any_backbone() -> None:
    pytest.importorskip("timm")
    for name, count in (("timm/resnet18", 4), ("vgg16", 3)):  # strides from 4 and from 8
        backbone = PyramidBackbone(name, out_channels=16)
        assert list(backbone(IMAGES)) == [*backbone.feature_names, "pool"]
        assert len(backbone.feature_names) == count


@pytest.mark.parametrize("detector", [FasterRCNN, MaskRCNN, RetinaNet])
def test_torchvisions_detectors_train_and_detect(detector: type) -> None:
    backbone = PyramidBackbone("vovnet19_tiny", out_channels=16)
    sizes = tuple((side,) for side in (8, 16, 32, 64, 128))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    key = "anchor_generator" if detector is RetinaNet else "rpn_anchor_generator"
    model = detector(backbone, num_classes=3, min_size=64, max_size=64, **{key: anchors})
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[0, 8:40, 8:40] = 1
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1]), "masks": mask}
    losses = model([IMAGES[0]], [target])
    sum(losses.values()).backward()
    assert next(backbone.body.parameters()).grad.abs().sum() > 0
    (found,) = model.eval()([IMAGES[0]])
    assert found["boxes"].shape == (len(found["scores"]), 4)

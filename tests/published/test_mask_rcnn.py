"""Mask R-CNN with group norm: exact parameter counts of every part, and the settings of Table 5's networks."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights
from torchvision.ops import FrozenBatchNorm2d

from vovnet import create_model
from vovnet.models.detectors.contract import DetectionModel
from vovnet.names import MASK_RCNN_BACKBONES

# With 81 logits: parameters of the backbone, the pyramid and all together, and that in millions. Table 5 has the first
# four; it prints no counts.
TABLE_5 = {
    "vovnet39": (21_575_296, 3_018_752, 43_455_093, "43.455"),
    "vovnet57": (35_615_296, 3_018_752, 57_495_093, "57.495"),
    "resnet50": (23_508_032, 3_346_432, 45_715_509, "45.716"),
    "resnet101": (42_500_160, 3_346_432, 64_707_637, "64.708"),
    "vovnet27_slim": (3_012_736, 2_691_072, 24_564_853, "24.565"),
}
# The same on every backbone.
HEADS = {"rpn": 593_935, "box": 15_622_549, "mask": 2_644_561}


def build(name: str, num_classes: int = 80) -> DetectionModel:
    with torch.device("meta"):
        return create_model(name, num_classes)


def parts(model: nn.Module) -> Counter[str]:
    """Parameters of the backbone, the pyramid, the RPN, the box branch and the mask branch."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        path = name.removeprefix("roi_heads.")
        counts[path.split(".")[0].removesuffix("_head").removesuffix("_predictor")] += parameter.numel()
    return counts


def test_every_backbone_is_counted() -> None:
    assert set(TABLE_5) == set(MASK_RCNN_BACKBONES)


@pytest.mark.parametrize("name", TABLE_5)
def test_counts(name: str) -> None:
    backbone, pyramid, total, millions = TABLE_5[name]
    masks, boxes = build(f"maskrcnn_{name}_gn"), build(f"fasterrcnn_{name}_gn")
    assert parts(masks) == {"backbone": backbone, "fpn": pyramid, **HEADS}
    assert parts(masks).total() == total
    assert f"{total / 1e6:.3f}" == millions
    assert parts(masks) - parts(boxes) == {"mask": HEADS["mask"]}


@pytest.mark.parametrize("name", TABLE_5)
def test_group_norm_everywhere_and_nothing_frozen(name: str) -> None:
    model = build(f"maskrcnn_{name}_gn")
    assert list(model.buffers()) == []
    assert all(parameter.requires_grad for parameter in model.parameters())
    for part, count in (("fpn", 8), ("roi_heads.box_head", 4), ("roi_heads.mask_head", 4), ("rpn", 0)):
        norms = [module for module in model.get_submodule(part).modules() if isinstance(module, nn.GroupNorm)]
        assert len(norms) == count, part
    for path, module in model.named_modules():
        assert not isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d), path
        if isinstance(module, nn.GroupNorm):
            assert module.num_groups == (16 if module.num_channels in (80, 112) else 32), path
            assert module.eps == 1e-5, path
        if isinstance(module, nn.Conv2d) and not path.startswith("rpn.") and "predictor" not in path:
            assert module.bias is None, path


def test_variants_of_the_backbones() -> None:
    vovnet, resnet = build("maskrcnn_vovnet39_gn").backbone, build("maskrcnn_resnet50_gn").backbone
    assert isinstance(vovnet.stem_pool, nn.Identity)  # stem "stride"
    assert [module.identity for stage in vovnet.stages for module in stage] == [False, False, False, True, False, True]
    assert resnet.layer2[0].conv1.stride == (1, 1)
    assert resnet.layer2[0].conv2.stride == (2, 2)
    assert isinstance(resnet.bn1, nn.GroupNorm)
    assert isinstance(resnet.layer1[0].downsample[1], nn.GroupNorm)


@pytest.mark.parametrize("name", TABLE_5)
def test_frozen_norms_keep_a_batch_norms_values_as_buffers(name: str) -> None:
    """Without "_gn", each norm of the backbone has a mean, a variance, a weight and a bias, none of them trainable."""
    model, gn = build(f"maskrcnn_{name}"), build(f"maskrcnn_{name}_gn")
    affine = sum(p.numel() for m in gn.backbone.modules() if isinstance(m, nn.GroupNorm) for p in m.parameters())
    assert sum(buffer.numel() for buffer in model.buffers()) == 2 * affine
    assert parts(model)["backbone"] == TABLE_5[name][0] - affine
    assert not any(isinstance(module, nn.GroupNorm | nn.BatchNorm2d) for module in model.modules())


def test_with_frozen_norms_it_has_as_many_parameters_as_torchvisions() -> None:
    stated = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"]  # with 91 logits
    assert parts(build("maskrcnn_resnet50", 90)).total() == stated == 44_401_393

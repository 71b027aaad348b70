"""What it takes to add a backbone."""

import torch
from torch import nn

from vovnet import create_model
from vovnet.engine.model_names import resolve_model
from vovnet.structures import Target
from vovnet.zoo import BACKBONES, find_detector


class Toy(nn.Module):
    """All that a backbone needs: `features_only`, and the names, strides and channels of its feature maps."""

    feature_names = ("c2", "c3", "c4", "c5")
    strides = (4, 8, 16, 32)
    channels = (8, 16, 24, 32)

    def __init__(self, *, features_only: bool = False, norm: str = "batch") -> None:
        super().__init__()
        widths = (3, *self.channels)
        strides = (4, 2, 2, 2)
        self.stages = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], s, s) for i, s in enumerate(strides))

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x)
        return maps


def test_a_new_backbone_is_one_line_of_the_zoo(monkeypatch):
    """Every detector family then works on it: it is built by name, trains and detects."""
    monkeypatch.setitem(BACKBONES, "toy", Toy)
    targets = [Target.make([[10, 10, 60, 70]], [1], masks=torch.ones(1, 128, 128, dtype=torch.uint8))]
    for name in ("refinedet320_toy", "fasterrcnn_toy", "maskrcnn_toy_gn"):
        model = create_model(name, 3).train()
        images = torch.randn(1, 3, 128, 128)
        outputs = model(images, targets) if model.two_stage else model(images)
        losses = find_detector(name).make_loss({})(outputs, targets)
        sum(losses.values()).backward()
        assert all(parameter.grad is not None for parameter in model.backbone.parameters()), name
        (detections,) = model.eval().decode(model(images), [(100, 120)])
        assert detections.image_size == (100, 120)
        assert resolve_model(name, num_classes=2).num_classes == 2

"""ResNet-50 and 101 from torchvision, with the strides of the Caffe networks where the paper's tables need them."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn
from torchvision.models import ResNet as TorchvisionResNet
from torchvision.models.resnet import Bottleneck

from vovnet.models.layers import Norm, check_option, init_weights, make_norm

Style = Literal["caffe", "torchvision"]

# Bottleneck blocks of stages 2 to 5.
BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


class ResNet(TorchvisionResNet):
    """ResNet; C2…C5 are taken after the last ReLU of their stages.

    style: "caffe" has the stride of a stage in its first 1×1 convolution, and a first pooling without padding that
        rounds sizes up (He et al. 2016); Tables 4, 6 and 7 need it. "torchvision" has the stride in the 3×3 convolution
        and pads the pooling; the weights of torchvision and timm and Table 5 need it. Both have the same parameters,
        "caffe" has fewer operations.
    norm: after every convolution, shortcuts included, see `make_norm`. With "group", for Table 5's training from
        scratch, convolutions are initialised with variance 2 / fan_in; otherwise with 2 / fan_out, as in torchvision.
    """

    feature_names = ("c2", "c3", "c4", "c5")
    strides = (4, 8, 16, 32)
    channels = (256, 512, 1024, 2048)

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        *,
        num_classes: int = 1000,
        features_only: bool = False,
        style: Style = "caffe",
        norm: Norm = "batch",
    ) -> None:
        check_option("style", style, Style)
        super().__init__(Bottleneck, list(blocks), num_classes=num_classes, norm_layer=partial(make_norm, norm))
        if norm == "group":
            init_weights(self, "kaiming")
        if features_only:
            self.fc = None
        if style == "caffe":
            self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            for stage in (self.layer2, self.layer3, self.layer4):
                stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features if self.fc is None else self.fc(x.mean(dim=(2, 3)))

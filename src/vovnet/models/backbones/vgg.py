"""VGG-16 as SSD and RefineDet use it: torchvision's convolutions, then fc6 and fc7 as convolutions of 1024 channels."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from vovnet.models.layers import Init, L2Norm, init_weights


class VGG16(nn.Module):
    """The source of RefineDet's first three feature maps: conv4_3 and conv5_3, each after an L2Norm, and fc7.

    There is no batch norm. The L2Norms apply to the returned maps only; the network itself goes on without them. The
    fifth pooling has stride 2 and fc6 has dilation 3, as in SSD's Caffe script with `reduced` and without `dilated`.
    """

    feature_names = ("c3", "c4", "c5")
    strides = (8, 16, 32)
    channels = (512, 512, 1024)

    def __init__(self, *, features_only: bool = True, init: Init = "xavier") -> None:
        super().__init__()
        if not features_only:
            raise ValueError("vgg16 has no classifier here (torchvision's has one), features_only must be True")
        self.features = make_layers(cfgs["D"])
        fc6, fc7 = nn.Conv2d(512, 1024, 3, padding=3, dilation=3), nn.Conv2d(1024, 1024, 1)
        self.fc = nn.Sequential(fc6, nn.ReLU(inplace=True), fc7, nn.ReLU(inplace=True))
        self.norms = nn.ModuleList([L2Norm(512, scale=10.0), L2Norm(512, scale=8.0)])
        init_weights(self, init)

    def forward(self, x: Tensor) -> list[Tensor]:
        before_pool = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                before_pool.append(x)
            x = layer(x)
        conv4_3, conv5_3 = before_pool[3:]
        return [self.norms[0](conv4_3), self.norms[1](conv5_3), self.fc(x)]

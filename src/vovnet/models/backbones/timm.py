"""Any convolutional or hierarchical network of timm as a backbone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vovnet.errors import UsageError, did_you_mean


class TimmBackbone(nn.Module):
    """The maps of strides 8, 16 and 32 of timm's network `name`, with random weights; the last map of each stride.

    The maps are as timm gives them: most after an activation, ConvNeXt's and the transformers' without. A transformer
    that is built for one input size takes no other.

    Raises ModuleNotFoundError without timm, ValueError for a name that it lacks or a network without these strides.
    """

    feature_names = ("c3", "c4", "c5")
    strides = (8, 16, 32)

    def __init__(self, name: str, *, features_only: bool = True) -> None:
        super().__init__()
        if not features_only:
            raise ValueError(f"timm/{name} is without a classifier, features_only must be True")
        try:
            import timm
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"timm/{name} needs an extra: pip install 'vovnet[compare]'", name=error.name
            ) from error
        if not timm.is_model(name):
            near = did_you_mean(name, timm.list_models(), "timm/")
            raise UsageError(f"no backbone is called 'timm/{name}'{near} (timm.list_models() names them all)")
        net: Any = timm.create_model(name, pretrained=False, features_only=True)
        reductions, channels = net.feature_info.reduction(), net.feature_info.channels()
        last = {stride: index for index, stride in enumerate(reductions)}
        if not set(self.strides) <= last.keys():
            raise ValueError(f"a backbone must have maps of strides 8, 16 and 32, timm/{name} has {reductions}")
        self.net = net
        self.indices = tuple(last[stride] for stride in self.strides)
        self.channels = tuple(channels[index] for index in self.indices)
        # Some transformers keep the channels last.
        self.permute = str(getattr(net, "output_fmt", "")).endswith("NHWC")

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.net(x)
        chosen = [maps[index] for index in self.indices]
        return [feature.permute(0, 3, 1, 2).contiguous() for feature in chosen] if self.permute else chosen

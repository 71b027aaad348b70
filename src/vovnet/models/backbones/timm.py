"""Any convolutional or hierarchical network of timm as a backbone."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

from torch import Tensor, nn

from vovnet.errors import UsageError, did_you_mean
from vovnet.libraries import import_extra
from vovnet.models.layers import check_option
from vovnet.models.norms import keep_number_format

Norm = Literal["batch", "frozen"]


class TimmBackbone(nn.Module):
    """timm's network `name` as the source of feature maps of strides 8, 16 and 32, and 4 if it has one; random weights.

    Each is the last feature map of its stride, as timm returns it: most after an activation, those of ConvNeXt and the
    transformers without. A transformer that is built for one input size takes no other.

    norm: "frozen" makes the statistics, weights and biases of batch norms constant.

    Raises ModuleNotFoundError without timm, ValueError for an unknown name or a network without these strides.
    """

    def __init__(self, name: str, *, features_only: bool = True, norm: Norm = "batch") -> None:
        super().__init__()
        if not features_only:
            raise ValueError(f"timm/{name} has no classifier, features_only must be True")
        timm = import_timm(name)
        net: Any = timm.create_model(name, pretrained=False, features_only=True)
        reductions, channels = net.feature_info.reduction(), net.feature_info.channels()
        last = {stride: index for index, stride in enumerate(reductions)}
        if not {8, 16, 32} <= last.keys():
            raise ValueError(f"a backbone must have feature maps of strides 8, 16 and 32, timm/{name} has {reductions}")
        check_option(f"norm of timm/{name}", norm, Norm)
        self.net = keep_number_format(timm.layers.freeze_batch_norm_2d(net)) if norm == "frozen" else net
        self.strides = tuple(stride for stride in (4, 8, 16, 32) if stride in last)
        self.feature_names = tuple(f"c{stride.bit_length() - 1}" for stride in self.strides)
        self.indices = tuple(last[stride] for stride in self.strides)
        self.channels = tuple(channels[index] for index in self.indices)
        self.channels_last = str(getattr(net, "output_fmt", "")).endswith("NHWC")  # as some transformers return maps

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.net(x)
        maps = [maps[index] for index in self.indices]
        return [feature.permute(0, 3, 1, 2).contiguous() for feature in maps] if self.channels_last else maps


def import_timm(name: str) -> ModuleType:
    """The package timm. ModuleNotFoundError if it is not installed, UsageError if it has no such network."""
    timm = import_extra("timm", f"timm/{name}")
    if not timm.is_model(name):
        near = did_you_mean(name, timm.list_models(), "timm/")
        raise UsageError(f"no backbone is called 'timm/{name}'{near} (timm.list_models() names them all)")
    return timm

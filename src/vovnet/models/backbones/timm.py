"""Any convolutional or hierarchical network of timm as a backbone."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from torch import Tensor, nn

from vovnet.errors import UsageError, did_you_mean
from vovnet.weights.file import read_tensors
from vovnet.weights.find import find_file


class TimmBackbone(nn.Module):
    """timm's network `name` as the source of feature maps of strides 8, 16 and 32, and 4 if it has one; random weights.

    norm: "frozen" makes the statistics, weights and biases of batch norms constant.

    Each is the last feature map of its stride, as timm returns it: most after an activation, those of ConvNeXt and the
    transformers without. A transformer that is built for one input size takes no other.

    Raises ModuleNotFoundError without timm, ValueError for an unknown name or a network without these strides.
    """

    def __init__(self, name: str, *, features_only: bool = True, norm: Literal["batch", "frozen"] = "batch") -> None:
        super().__init__()
        if not features_only:
            raise ValueError(f"timm/{name} has no classifier, features_only must be True")
        timm = _timm_with(name)
        net: Any = timm.create_model(name, pretrained=False, features_only=True)
        reductions, channels = net.feature_info.reduction(), net.feature_info.channels()
        last = {stride: index for index, stride in enumerate(reductions)}
        if not {8, 16, 32} <= last.keys():
            raise ValueError(f"a backbone must have feature maps of strides 8, 16 and 32, timm/{name} has {reductions}")
        if norm not in ("batch", "frozen"):
            raise ValueError(f"norm of timm/{name} must be 'batch' or 'frozen', got {norm!r}")
        self.net = timm.layers.freeze_batch_norm_2d(net) if norm == "frozen" else net
        self.strides = tuple(stride for stride in (4, 8, 16, 32) if stride in last)
        self.feature_names = tuple(f"c{stride.bit_length() - 1}" for stride in self.strides)
        self.indices = tuple(last[stride] for stride in self.strides)
        self.channels = tuple(channels[index] for index in self.indices)
        # Some transformers keep the channels last.
        self.permute = str(getattr(net, "output_fmt", "")).endswith("NHWC")

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.net(x)
        chosen = [maps[index] for index in self.indices]
        return [feature.permute(0, 3, 1, 2).contiguous() for feature in chosen] if self.permute else chosen


def read_timm_weights(name: str, source: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights for `TimmBackbone(name).net`, and the mean, std (0–255 scale) and channel order of their images.

    source: a file or an address of weights with timm's names, or one of those on the hub, "timm/resnet50.a1_in1k". A
    file does not tell what images it knows: they are taken for those of the network's usual weights.

    Raises ValueError where tensors are missing, left over or of other shapes, else as `find_file`.
    """
    timm = _timm_with(name)
    on_hub = tuple(f"timm/{known}" for known in timm.list_pretrained(f"{name}.*"))
    tensors, _ = read_tensors(find_file(source, on_hub))
    tagged = str(source).removeprefix("timm/") if source in on_hub else name
    try:
        # Of the feature maps alone timm would not notice tensors that are missing or left over.
        for features_only in (False, True):
            given = {"state_dict": dict(tensors)}  # timm takes the classifier out
            net = timm.create_model(tagged, pretrained=True, features_only=features_only, pretrained_cfg_overlay=given)
    except (RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(f"{source} does not hold the weights of timm/{name}: {why}") from error
    pixels = {key: tuple(255 * value for value in net.pretrained_cfg[key]) for key in ("mean", "std")}
    return net.state_dict(), {**pixels, "channel_order": "RGB"}


def _timm_with(name: str) -> ModuleType:
    """timm, if it is there and knows the network."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"timm/{name} needs an extra: pip install 'vovnet[timm]'", name=error.name) from error
    if not timm.is_model(name):
        near = did_you_mean(name, timm.list_models(), "timm/")
        raise UsageError(f"no backbone is called 'timm/{name}'{near} (timm.list_models() names them all)")
    return timm

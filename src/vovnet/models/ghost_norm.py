"""Ghost batch norm: a pass over many images that has the batch norm statistics of small groups of them.

A GPU is quick with many images at once, and published detectors were trained with the statistics of few. The results
are those of one pass for each group; source: arXiv 1705.08741.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_OF_A_GROUP = (1, 3, 4)  # dimensions of (groups, images, C, H, W); a view in channels_last too


class GhostBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of every `group` consecutive images; see `use_ghost_norms`.

    group: images per group; None: all of the pass.
    momentum: share of a group in the running averages.
    passes: how many passes the averages have seen, if they are to start with the first one instead of 0 and 1, as
        `average_share` describes; None: PyTorch's averages. All passes must have the same number of groups. As a
        tensor, which all layers may share, it can change without a new compilation.

    Raises ValueError for images that are no whole number of groups.
    """

    momentum: float

    def __init__(self, channels: int, group: int | None, **options: Any) -> None:
        super().__init__(channels, **options)
        if self.momentum is None or not self.track_running_stats:
            raise ValueError("norms of groups of images need running averages with a momentum")
        self.group = group
        self.passes: int | Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        size = self.group or len(x)
        groups, rest = divmod(len(x), size)
        if rest or not groups:
            raise ValueError(f"expected a multiple of {size} images, as each norm sees so many, got {len(x)}")
        values = size * x.shape[-2] * x.shape[-1]
        if values == 1:
            raise ValueError("a batch norm needs more than one value per channel: give it more images or larger ones")
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(groups)
        share = share_of_pass(self.momentum, groups, self.passes)
        if groups == 1 and isinstance(share, float):
            statistics = (self.running_mean, self.running_var)
            return F.batch_norm(x, *statistics, self.weight, self.bias, True, share, self.eps)

        grouped = x.unflatten(0, (groups, size))
        if torch.compiler.is_compiling():  # which fuses what follows, and its gradient
            variance, mean = _statistics(grouped)
            output = (grouped - mean) * (variance + self.eps).rsqrt()
            output = output * _row(self.weight, 1) + _row(self.bias, 0)
            output = output.to(x.dtype).flatten(0, 1)
        else:
            with torch.no_grad():
                variance, mean = _statistics(grouped)
            output = _Normalise.apply(x, self.weight, self.bias, mean, (variance + self.eps).rsqrt())
        with torch.no_grad():
            for average, new in ((self.running_mean, mean), (self.running_var, variance * (values / (values - 1)))):
                decay = _decay(self.momentum, groups, new)
                latest = (decay * new.view(groups, -1)).sum(dim=0).to(average.dtype)
                average.lerp_(latest, share if isinstance(share, float) else share.to(average.dtype))
        return output


class GhostBatchNormAct(GhostBatchNorm):
    """What timm's `BatchNormAct2d` is: followed by an activation. Takes the place of `norm`."""

    def __init__(self, norm: Any, group: int | None, **options: Any) -> None:
        super().__init__(norm.num_features, group, **options)
        self.drop, self.act = norm.drop, norm.act

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.act(self.drop(super().forward(x)))
        return output


class _Normalise(torch.autograd.Function):
    """Images (N, C, H, W) less the mean (G, 1, C, 1, 1) of their group, times `scale` likewise, weighed and shifted.

    The gradient is that of scale = 1 / √(variance + eps). Sums and constants are float32 at least, whatever the number
    format of the images; a kernel that writes into `out` rounds its result without another copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, mean, scale)
        factor = scale * _row(weight, 1)
        shift = _row(bias, 0) - mean * factor
        output = torch.empty_like(x)
        torch.addcmul(shift, _like(x, mean), factor, out=_like(output, mean))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        images, gradient = _like(x, mean), _like(gradients[0], mean)
        values = images.shape[1] * images.shape[3] * images.shape[4]
        total = gradient.sum(_OF_A_GROUP, keepdim=True, dtype=mean.dtype)
        moment = (images - mean).mul_(gradient).sum(_OF_A_GROUP, keepdim=True) * scale
        factor = scale * _row(weight, 1)
        slope = factor * scale * moment / -values
        shift = factor * total / -values - slope * mean
        result = torch.empty_like(x)
        # As `addcmul` without `out` would do under autocast only, the first sum is float32.
        wide = torch.empty_like(images, dtype=mean.dtype)
        torch.addcmul(shift, images, slope, out=wide)
        torch.addcmul(wide, gradient, factor, out=_like(result, mean))
        of_weight = None if weight is None else moment.sum(dim=0).flatten().to(weight.dtype)
        of_bias = None if weight is None else total.sum(dim=0).flatten().to(weight.dtype)
        return result, of_weight, of_bias, None, None


def _like(images: Tensor, mean: Tensor) -> Tensor:
    """(N, C, H, W) → (groups, images, C, H, W), as many groups as there are means."""
    return images.unflatten(0, (len(mean), -1))


def _row(values: Tensor | None, default: float) -> Tensor | float:
    return default if values is None else values.view(-1, 1, 1)


def _statistics(grouped: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean (G, 1, C, 1, 1) of the values of each group, float32 at least."""
    wide = grouped.to(torch.promote_types(grouped.dtype, torch.float32))
    return torch.var_mean(wide, _OF_A_GROUP, correction=0, keepdim=True)


def share_of_pass(momentum: float, groups: int, passes: int | Tensor | None) -> float | Tensor:
    """The share of all groups of a pass in running averages, in which each has the share `momentum`.

    passes: see `GhostBatchNorm`.
    """
    kept = 1 - momentum
    share = 1 - kept**groups
    if passes is None:
        return share
    return share / (1 - kept ** (groups * (passes + 1)))


def _decay(momentum: float, groups: int, like: Tensor) -> Tensor:
    """(G, 1): the share of each group in what a pass adds to the running averages; the last group has the largest."""
    if torch.compiler.is_compiling():
        return _make_decay(momentum, groups, like.dtype, like.device)
    return _known_decay(momentum, groups, like.dtype, like.device)


def _make_decay(momentum: float, groups: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    later = torch.arange(groups - 1, -1, -1, dtype=dtype, device=device)  # made there: a copy would wait for the device
    weights = (1 - momentum) ** later
    return (weights / weights.sum()).unsqueeze(1)


_known_decay = lru_cache(maxsize=16)(_make_decay)


def use_ghost_norms(model: nn.Module, group: int | None) -> nn.Module:
    """The model with a `GhostBatchNorm` in the place of each batch norm; names and tensors of its state stay the same.

    group: images whose statistics a norm takes together in training; None: all of the pass.

    Raises ValueError for a model without batch norm, or with one of another kind, such as SyncBatchNorm.
    """
    new: dict[nn.Module, nn.Module] = {}
    for path, norm in model.named_modules():
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if isinstance(norm, nn.SyncBatchNorm):
            raise ValueError("norms of groups of images cannot also take statistics over all processes (SyncBatchNorm)")
        if type(norm) in (nn.BatchNorm2d, GhostBatchNorm):
            new[norm] = _ghost(norm, group, GhostBatchNorm, norm.num_features)
        elif type(norm).__name__ in ("BatchNormAct2d", "GhostBatchNormAct"):
            new[norm] = _ghost(norm, group, GhostBatchNormAct, norm)
        else:
            raise ValueError(
                f"norms of groups of images take the place of BatchNorm2d; {path} is {type(norm).__name__}"
            )
    if not new:
        raise ValueError("norms of groups of images need a model with batch norm; this one has none in training")
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children leaves out a layer's second name
            if child in new:
                setattr(parent, name, new[child])
    return new.get(model, model)


def share_passes(model: nn.Module, device: torch.device) -> None:
    """Give all ghost norms that count passes one tensor for it, so that the next pass needs no new compilation."""
    passes = torch.zeros((), dtype=_count_format(device), device=device)
    for layer in model.modules():
        if isinstance(layer, GhostBatchNorm):
            layer.passes = passes


def _count_format(device: torch.device) -> torch.dtype:
    """MPS has no float64; float32 counts to 16 million, long after the averages have forgotten how they started."""
    return torch.float32 if device.type == "mps" else torch.float64


def count_passes(model: nn.Module, passes: int) -> None:
    """Tell all ghost norms how many passes their running averages have seen, see `GhostBatchNorm`."""
    told: set[int] = set()
    for layer in model.modules():
        if isinstance(layer, GhostBatchNorm):
            if not isinstance(layer.passes, Tensor):
                layer.passes = passes
            elif id(layer.passes) not in told:
                layer.passes.fill_(passes)
                told.add(id(layer.passes))


def _ghost(norm: nn.Module, group: int | None, kind: type[GhostBatchNorm], first: Any) -> GhostBatchNorm:
    options = {"eps": norm.eps, "momentum": norm.momentum, "affine": norm.affine}
    ghost = kind(first, group, track_running_stats=norm.track_running_stats, **options)
    for name, tensor in (*norm.named_parameters(recurse=False), *norm.named_buffers(recurse=False)):
        setattr(ghost, name, tensor)
    ghost.passes = getattr(norm, "passes", None)
    return ghost.train(norm.training)

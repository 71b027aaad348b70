"""The objects of a batch, padded to one size, so that a loss on a GPU need not ask how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vovnet.structures import Target

_LEAST = 8  # objects: few sizes, because a compiled or captured step exists once for each
_LABEL, _FLAGS, _AREA = 4, 5, 6  # columns of packed objects, behind the box
_VALID, _DIFFICULT, _CROWD = 1, 2, 4  # bits of their flags


@dataclass(frozen=True, eq=False)
class PaddedTargets:
    """The objects of N images, each padded to M objects with boxes and labels of 0.

    boxes: (N, M, 4) float32, in pixels of the network's input.
    labels: (N, M) int64.
    valid: (N, M) bool, False for padding.
    difficult, crowd: (N, M) bool, see `Target`.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    difficult: Tensor
    crowd: Tensor

    @classmethod
    def of(cls, targets: Sequence[Target]) -> PaddedTargets:
        """M is a power of two, at least 8, so that batches have few sizes."""
        return cls.unpack(pack(targets))

    @classmethod
    def unpack(cls, packed: Tensor) -> PaddedTargets:
        """The targets of which `pack` made this tensor, on its device."""
        flags = packed[..., _FLAGS]
        valid, difficult, crowd = ((flags & bit) != 0 for bit in (_VALID, _DIFFICULT, _CROWD))
        boxes = packed[..., :_LABEL].contiguous().view(torch.float32)
        return cls(boxes, packed[..., _LABEL].long(), valid, difficult, crowd)

    def to(self, device: torch.device) -> PaddedTargets:
        """The same on a device; from pinned memory without waiting for it."""
        columns = (self.boxes, self.labels, self.valid, self.difficult, self.crowd)
        return PaddedTargets(*(column.to(device, non_blocking=True) for column in columns))


def pack(targets: Sequence[Target]) -> Tensor:
    """The objects of N images, without masks, as one tensor: int32 (N, M, 7), padded with zeros; see `PaddedTargets`.

    One tensor, because each that a loader process sends takes a file descriptor, and each that a GPU gets a copy.
    """
    objects = Target.cat(targets)
    counts = [len(target) for target in targets]
    flags = _VALID + _DIFFICULT * objects.difficult.int() + _CROWD * objects.crowd.int()
    integers = torch.stack([objects.labels.int(), flags, objects.area.float().view(torch.int32)], dim=1)
    rows = torch.cat([objects.boxes.float().view(torch.int32), integers], dim=1)
    longest = max(_LEAST, 1 << (max(counts) - 1).bit_length())
    packed = rows.new_zeros((len(targets), longest, rows.shape[1]))
    for image, of_image in zip(packed, rows.split(counts), strict=True):
        image[: len(of_image)] = of_image
    return packed


def unpack(packed: Tensor, counts: Sequence[int]) -> list[Target]:
    """The targets of which `pack` made this tensor in main memory.

    counts: number of objects of each image.
    """
    floats = packed.view(torch.float32)
    padded = PaddedTargets.unpack(packed)
    return [
        Target(boxes[:count], labels[:count], difficult[:count], crowd[:count], area[:count])
        for boxes, labels, difficult, crowd, area, count in zip(
            padded.boxes, padded.labels, padded.difficult, padded.crowd, floats[..., _AREA], counts, strict=True
        )
    ]

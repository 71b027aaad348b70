"""A small detector that gives masks and takes images of any size, for the tests of what runs one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vovnet.masks import RleMasks, encode
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections

NAMES = ("cell", "dust")
LABELS = torch.tensor([0, 1, 0])
PLACES = torch.tensor([[0.1, 0.1, 0.4, 0.6], [0.5, 0.5, 1.0, 1.0], [0.3, 0.2, 0.8, 0.9]])  # as fractions of the image


def boxes_of(image_size: tuple[int, int]) -> Tensor:
    """Whole pixels (3, 4)."""
    height, width = image_size
    return (PLACES * torch.tensor([width, height, width, height])).round()


def ellipses(image_size: tuple[int, int]) -> Tensor:
    """The largest ellipse in each of the boxes, bool (3, H, W)."""
    height, width = image_size
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    shapes = []
    for x1, y1, x2, y2 in boxes_of(image_size).tolist():
        shapes.append(((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1)
    return torch.stack(shapes)


def rectangles(image_size: tuple[int, int]) -> Tensor:
    """The boxes as masks, bool (3, H, W)."""
    masks = torch.zeros(3, *image_size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes_of(image_size).int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


class EllipseModel(DetectionModel):
    """Finds three ellipses in every image, at fixed places; their scores are what a convolution makes of the pixels."""

    num_classes = len(NAMES)
    masks = True
    preprocessing = Preprocessing((32, 48), mean=(100.0, 110.0, 120.0), std=(50.0, 50.0, 50.0), keep_ratio=True)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, len(PLACES), 3, padding=1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(tuple(images.shape))
        return {"logits": self.layer(images).relu().mean(dim=(2, 3))}

    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float | Tensor = 0.05,
        top_k: int = 100,
    ) -> list[Detections]:
        found = []
        for logits, size in zip(outputs["logits"], image_sizes, strict=True):
            scores = logits.sigmoid()
            order = scores.argsort(descending=True)
            lowest = torch.as_tensor(score_threshold).expand(len(NAMES))[LABELS]
            order = order[scores[order] > lowest[order]][:top_k]
            masks: RleMasks = encode(ellipses(size))[order]
            found.append(Detections(boxes_of(size)[order], LABELS[order], scores[order], size, masks))
        return found

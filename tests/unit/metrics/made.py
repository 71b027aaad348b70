"""Detections and objects by hand, and at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vovnet.structures import Detections, Target

SIDE = 200


def detections_of(*items: tuple[Sequence[float], int, float]) -> Detections:
    """items: box, label, score."""
    boxes = torch.tensor([box for box, _, _ in items], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in items], dtype=torch.int64)
    scores = torch.tensor([score for _, _, score in items], dtype=torch.float32)
    return Detections(boxes, labels, scores, (SIDE, SIDE))


def random_scene(seed: int, images: int = 6, classes: int = 3) -> tuple[list[Detections], list[Target]]:
    """Crowded objects of many sizes and shapes, some difficult or crowds, and detections near them and elsewhere."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(count: int) -> torch.Tensor:
        corner = 140 * torch.rand((count, 2), generator=generator)
        sides = 4 + 150 * torch.rand((count, 2), generator=generator) ** 2
        return torch.cat([corner, (corner + sides).clamp(max=SIDE)], dim=1).round()

    detections, targets = [], []
    for _ in range(images):
        count = int(torch.randint(0, 9, (), generator=generator))
        objects, labels = boxes(count), torch.randint(0, classes, (count,), generator=generator)
        flags = torch.rand((2, count), generator=generator) < 0.1
        targets.append(Target.make(objects, labels, difficult=flags[0], crowd=flags[1]))
        near = objects + 6 * torch.randn((count, 4), generator=generator)
        near = torch.cat([near[:, :2], torch.maximum(near[:, 2:], near[:, :2] + 2)], dim=1)
        found = torch.cat([objects, near, boxes(4)])
        scores = torch.rand(len(found), generator=generator).mul(20).ceil() / 20  # many are equal
        order = scores.argsort(descending=True, stable=True)
        own = torch.cat([labels, labels, torch.randint(0, classes, (4,), generator=generator)])
        detections.append(Detections(found[order], own[order], scores[order], (SIDE, SIDE)))
    return detections, targets

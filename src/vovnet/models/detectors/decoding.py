"""From scores to detections, as SSD and RefineDet do it: per class a threshold, the best, non-maximum suppression."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vovnet.boxes import batched_nms, clip
from vovnet.structures import Detections


def select_detections(
    scores: Tensor,
    boxes_of: Callable[[Tensor, Tensor], Tensor],
    image_sizes: Sequence[tuple[int, int]],
    input_size: tuple[int, int],
    *,
    score_threshold: float,
    nms_threshold: float,
    candidates: int,
    top_k: int,
) -> list[Detections]:
    """Per image and class the scores above the threshold, at most the best `candidates`, NMS; then the best `top_k`.

    scores: (N, A, K) of the foreground classes. boxes_of: gives the boxes (T, 4), in pixels of the network's input of
    `input_size`, for the indices (T,) of image and anchor; only what passes the threshold is asked for. image_sizes:
    (height, width) of each original image; the boxes come out in its pixels, clipped to it, best score first.
    """
    n, _, k = scores.shape
    flat = scores.flatten(1)
    passed = (flat > score_threshold).sum(dim=1)
    most = int(passed.max())
    # The best survive whatever comes below them, so a few of the highest scores decide as all of them would.
    count = min(most, 8 * top_k)
    while True:
        ranked, place = flat.topk(count, dim=1)  # (N, T)
        image, rank = (ranked > score_threshold).nonzero(as_tuple=True)
        chosen, anchor, label = ranked[image, rank], place[image, rank] // k, place[image, rank] % k
        group = image * k + label
        if count > candidates:
            first = _place_in_group(group, n * k) < candidates
            image, anchor, label, group, chosen = (t[first] for t in (image, anchor, label, group, chosen))
        boxes = boxes_of(image, anchor)
        # The groups are told apart by shifting them, so a box far outside would cost the others their precision, and
        # negative coordinates would reach into the group before.
        input_height, input_width = input_size
        side = max(input_size)
        near = boxes.clamp(-side, 2 * side) + side
        # In float32 the shift of a late group, of a large batch of many classes, would round its small boxes.
        keep = batched_nms(near.double(), chosen.double(), group, nms_threshold)  # best score first
        if ((passed <= count) | (image[keep].bincount(minlength=n) >= top_k)).all():
            break
        count = min(most, 4 * count)
    boxes, chosen, label, image = boxes[keep], chosen[keep], label[keep], image[keep]

    detections = []
    for index, (height, width) in enumerate(image_sizes):
        mine = (image == index).nonzero().squeeze(1)[:top_k]
        scale = boxes.new_tensor([width / input_width, height / input_height] * 2)
        pixels = clip(boxes[mine] * scale, (height, width))
        detections.append(Detections(pixels, label[mine], chosen[mine], (height, width)))
    return detections


def _place_in_group(group: Tensor, num_groups: int) -> Tensor:
    """How many of the same group stand before each."""
    order = group.argsort(stable=True)
    counts = group.bincount(minlength=num_groups)
    starts = counts.cumsum(0) - counts
    place = torch.empty_like(group)
    place[order] = torch.arange(len(group), device=group.device) - starts[group[order]]
    return place

"""From scores to detections, as SSD and RefineDet do it: per class a threshold, the best, non-maximum suppression."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    num_anchors, k = scores.shape[1:]
    passed = scores > score_threshold
    if candidates < num_anchors and int(passed.sum(dim=1).max()) > candidates:
        ranked, anchor_of = scores.topk(candidates, dim=1)  # (N, T, K)
        image, rank, label = (ranked > score_threshold).nonzero(as_tuple=True)
        anchor, chosen = anchor_of[image, rank, label], ranked[image, rank, label]
    else:
        image, anchor, label = passed.nonzero(as_tuple=True)
        chosen = scores[image, anchor, label]
    boxes = boxes_of(image, anchor)
    # The groups are told apart by shifting them, so a box far outside would cost the others their precision, and
    # negative coordinates would reach into the group before.
    input_height, input_width = input_size
    side = max(input_size)
    near = boxes.clamp(-side, 2 * side) + side
    keep = batched_nms(near, chosen, image * k + label, nms_threshold)  # best score first
    boxes, chosen, label, image = boxes[keep], chosen[keep], label[keep], image[keep]

    detections = []
    for index, (height, width) in enumerate(image_sizes):
        mine = (image == index).nonzero().squeeze(1)[:top_k]
        scale = boxes.new_tensor([width / input_width, height / input_height] * 2)
        pixels = clip(boxes[mine] * scale, (height, width))
        detections.append(Detections(pixels, label[mine], chosen[mine], (height, width)))
    return detections

"""From scores and boxes to detections, as in SSD and RefineDet: threshold and NMS per class, then the best of all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from vovnet.boxes import batched_nms, clip, rescale
from vovnet.models.anchors import AnchorGrid
from vovnet.models.detectors.contract import DetectionModel
from vovnet.structures import Detections


class OneStageDetector(DetectionModel):
    """A detector whose outputs hold a box and the score of each class for every default box.

    anchors: its default boxes.
    """

    anchors: AnchorGrid
    score_threshold = 0.01
    nms_threshold = 0.45

    @abstractmethod
    def boxes_and_scores(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (N, A, 4) in pixels of the network's input, not clipped, and scores (N, A, K) without the background.

        Consists of operations on whole tensors, so it can be exported together with `forward`.
        """

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        input_size: tuple[int, int] | None = None,
        score_threshold: float | Tensor | None = None,
        nms_threshold: float | None = None,
        candidates: int | None = None,
        top_k: int | None = None,
    ) -> list[Detections]:
        """See `DetectionModel.decode` and, for the thresholds, `select_detections`. None is the detector's default."""
        boxes, scores = self.boxes_and_scores(outputs)
        return select_detections(
            scores,
            boxes,
            image_sizes,
            input_size or self.preprocessing.image_size,
            score_threshold=self.score_threshold if score_threshold is None else score_threshold,
            nms_threshold=self.nms_threshold if nms_threshold is None else nms_threshold,
            candidates=candidates or self.candidates,
            top_k=top_k or self.top_k,
        )


def select_detections(
    scores: Tensor,
    boxes: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    input_size: tuple[int, int],
    *,
    score_threshold: float | Tensor,
    nms_threshold: float,
    candidates: int,
    top_k: int,
) -> list[Detections]:
    """The detections of each image, highest score first, in pixels of the original image and clipped to it.

    In each image and class, NMS sees the `candidates` highest scores above the threshold. The `top_k` highest of all
    classes remain.

    scores: (N, A, K), without the background.
    boxes: (N, A, 4) in pixels of the network's input.
    score_threshold: for all classes, or (K,) for each.
    image_sizes, input_size: (height, width) of each original image and of the network's input.
    """
    if isinstance(score_threshold, Tensor):
        scores, score_threshold = scores.where(scores > score_threshold, 0), 0.0
    n, _, k = scores.shape
    side = max(input_size)
    flat = scores.flatten(1)  # (N, A·K)
    passed = (flat > score_threshold).sum(dim=1)  # (N,)
    most = int(passed.max())
    # NMS never lets a lower score suppress a higher one, so the highest scores alone give the same result, provided
    # that enough of them survive. If too few do, look at more.
    count = min(most, 8 * top_k)
    while True:
        ranked, index = flat.topk(count, dim=1)  # (N, T)
        image, rank = (ranked > score_threshold).nonzero(as_tuple=True)
        score, index = ranked[image, rank], index[image, rank]
        anchor, label = index // k, index % k
        group = image * k + label
        if count > candidates:
            first = _rank_in_group(group, n * k) < candidates
            image, anchor, label, group, score = (t[first] for t in (image, anchor, label, group, score))
        box = boxes[image, anchor]
        # batched_nms shifts each group by more than the largest coordinate. A box far outside the image would make the
        # shifts so large that the others lose precision, and negative coordinates would reach into the group before. In
        # float32, the shift of a late group of a large batch with many classes would round small boxes.
        near = (box.clamp(-side, 2 * side) + side).double()
        keep = batched_nms(near, score.double(), group, nms_threshold)
        if ((passed <= count) | (image[keep].bincount(minlength=n) >= top_k)).all():
            break
        count = min(most, 4 * count)
    box, score, label, image = box[keep], score[keep], label[keep], image[keep]

    detections = []
    for number, image_size in enumerate(image_sizes):
        own = (image == number).nonzero().squeeze(1)[:top_k]
        pixels = clip(rescale(box[own], input_size, image_size), image_size)
        detections.append(Detections(pixels, label[own], score[own], image_size))
    return detections


def _rank_in_group(group: Tensor, num_groups: int) -> Tensor:
    """For each element, how many elements before it are of the same group."""
    order = group.argsort(stable=True)
    counts = group.bincount(minlength=num_groups)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(group)
    rank[order] = torch.arange(len(group), device=group.device) - starts[group[order]]
    return rank

"""What PyTorch says of a two-stage detector besides its detections: which of them are ties, and what its masks are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vovnet.boxes import clip, rescale
from vovnet.export.parity import BeforeNms, MaskBounds
from vovnet.export.proposal_ties import CORNER_TIE, Proposals, TooManyTiesError, possible_proposals
from vovnet.masks import paste
from vovnet.models.detectors.mask_rcnn import LEVELS, MIN_SIDE, PADDED_MULTIPLE, MaskRCNN
from vovnet.structures import Detections

_CHUNK = 1000  # proposals at a time
_BAND = 2e-3  # by which a probability of a mask may be off


@torch.inference_mode()
def two_stage_before_nms(model: MaskRCNN, pixels: Tensor, size: tuple[int, int], floor: float) -> BeforeNms | None:
    """What the second stage makes of all proposals that there may be, above the score `floor` and before its NMS.

    pixels: uint8 (1, 3, H, W), of the network's input size.
    size: (height, width) of the original image.

    None if too many proposals are tied.
    """
    input_size = (pixels.shape[-2], pixels.shape[-1])
    outputs = model(model.preprocessing.normalize(pixels))
    try:
        proposals = _possible(model, outputs, input_size)
    except TooManyTiesError:
        return None
    heads, maps = model.roi_heads, {level: outputs[level] for level in LEVELS}
    padded = (input_size[0] + -input_size[0] % PADDED_MULTIPLE, input_size[1] + -input_size[1] % PADDED_MULTIPLE)
    pooled = (heads.box_roi_pool(maps, [part], [padded]) for part in proposals.boxes.split(_CHUNK))
    parts = [heads.box_predictor(heads.box_head(part)) for part in pooled]
    logits, deltas = (torch.cat(part).float() for part in zip(*parts, strict=True))
    scores = logits.softmax(dim=-1)[:, 1:]
    boxes = heads.box_coder.decode(deltas, [proposals.boxes]).reshape(len(scores), -1, 4)
    index, labels = (scores > floor).nonzero(as_tuple=True)
    boxes = clip(boxes[index, labels + 1], input_size)
    sides = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1)
    certain = proposals.certain[index] & (sides >= MIN_SIDE + CORNER_TIE)
    large = sides >= MIN_SIDE - CORNER_TIE
    index, labels, boxes = index[large], labels[large], clip(rescale(boxes[large], input_size, size), size)
    return BeforeNms(Detections(boxes, labels, scores[index, labels], size).cpu(), certain[large].cpu())


def _possible(model: MaskRCNN, outputs: dict[str, Tensor], input_size: tuple[int, int]) -> Proposals:
    rpn, anchors = model.rpn, outputs["anchors"]
    boxes = clip(rpn.box_coder.decode(outputs["anchor_deltas"][0], [anchors]).reshape(-1, 4), input_size)
    per_cell = rpn.anchor_generator.num_anchors_per_location()[0]
    counts = [outputs[level].shape[-2:].numel() * per_cell for level in LEVELS]
    counts.append(len(anchors) - sum(counts))
    return possible_proposals(
        list(zip(boxes.split(counts), outputs["objectness_logits"][0].split(counts), strict=True)),
        before=rpn.pre_nms_top_n(),
        after=rpn.post_nms_top_n(),
        nms_threshold=rpn.nms_thresh,
        least_side=rpn.min_size,
    )


@torch.inference_mode()
def mask_bounds(model: MaskRCNN, image: Tensor, found: Detections) -> MaskBounds:
    """Between which masks each mask of an exported file must lie, if PyTorch predicts it in the same box.

    image: uint8 (3, H, W), of the network's input size.
    """
    height, width = image.shape[-2:]
    pixels = model.preprocessing.normalize(image[None])
    padded = F.pad(pixels, (0, -width % PADDED_MULTIPLE, 0, -height % PADDED_MULTIPLE))
    maps = model.fpn(dict(zip(LEVELS, model.backbone(padded), strict=True)))
    size = found.image_size
    probabilities = torch.zeros(0, 28, 28)
    if len(found):
        boxes = clip(rescale(found.boxes.to(pixels.device), size, (height, width)), (height, width))
        logits = model._mask_logits(maps, [boxes])
        probabilities = logits[torch.arange(len(found)), found.labels + 1].float().sigmoid().cpu()
    return MaskBounds(
        paste(probabilities, found.boxes, size, threshold=0.5 + _BAND),
        paste(probabilities, found.boxes, size, threshold=0.5 - _BAND),
    )

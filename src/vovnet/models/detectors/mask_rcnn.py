"""Mask R-CNN and Faster R-CNN on a feature pyramid, built from torchvision's parts with the settings of Table 5.

A region proposal network (RPN) proposes boxes that may hold an object, on the pyramid P2…P6. The second stage pools the
features inside each proposal (RoIAlign on P2…P5), classifies it, moves its box and, in Mask R-CNN, predicts its mask.
Sources: Mask R-CNN (arXiv 1703.06870), its training from scratch with group norm (arXiv 1803.08494, 1811.08883).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from vovnet.boxes import batched_nms, clip, rescale
from vovnet.errors import unknown_name
from vovnet.masks import RleMasks, paste
from vovnet.models.anchors import detectron_anchors
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.proposals import best_proposals
from vovnet.models.preprocessing import Preprocessing, with_pixels
from vovnet.structures import Detections, Target

Anchors = Literal["torchvision", "detectron"]

LEVELS = ("p2", "p3", "p4", "p5")  # P6 serves the RPN only
STRIDES = (4, 8, 16, 32, 64)
ANCHOR_SIZES = (32, 64, 128, 256, 512)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height to width
WIDTH = 256
BOX_CELLS, MASK_CELLS = 7, 14
BOX_FEATURES = 1024
PROPOSALS = 1000  # per level before NMS, and of all levels after it; twice as many in training
PADDED_MULTIPLE = 32
REMEMBERED_SIZES = 16  # of batches, whose anchors take 4 MB each at 800 × 1333 pixels
MIN_SIDE = 0.01  # pixels; torchvision drops smaller boxes
MEAN = (102.9801, 115.9465, 122.7717)  # of maskrcnn-benchmark and Detectron


class MaskRCNN(DetectionModel):
    """A backbone's C2…C5, a feature pyramid, and the two stages on it.

    channels: of C2…C5.
    group_norm: group norm with 32 groups after every convolution of pyramid and heads, and four convolutions before the
        fully connected layer of the box head. False, for imported backbones with frozen batch norm: no norm, and a box
        head of two fully connected layers.
    masks: False is Faster R-CNN.
    rois: proposals per image that the second stage learns from, at most a quarter of them positive.
    anchors: whose convention the anchors follow, see `detectron_anchors`.

    Outputs:
        "anchors" (A, 4); "objectness_logits" (N, A) and "anchor_deltas" (N, A, 4) of the RPN
        "proposals" (R, 4) of all images together, "proposals_per_image" (N,)
        "class_logits" (R, K+1), background first; "box_deltas" (R, 4·(K+1))
        "p2" … "p5", the feature maps from which `decode` predicts masks
    On a GPU the host waits for it where a number is not known before: of proposals that are large enough and that NMS
    keeps, and of positives and negatives that are sampled, for each image. Targets should be in main memory.

    With targets the proposals are a sample, and there are also:
        "proposal_labels" (R,), 0 for background
        "proposal_objects" (R,), for each proposal the index of its object among those of its image that are no crowds
        "mask_logits" (R⁺, K+1, 28, 28) of the R⁺ positive proposals, if the model has masks
    """

    two_stage = True
    score_threshold = 0.05
    nms_threshold = 0.5
    candidates = PROPOSALS
    top_k = 100
    smallest_anchor = min(ANCHOR_SIZES)

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        num_classes: int,
        preprocessing: Preprocessing,
        *,
        group_norm: bool = True,
        masks: bool = True,
        rois: int = 512,
        anchors: Anchors = "torchvision",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.preprocessing = preprocessing
        self.masks = masks
        self.backbone = backbone
        norm: Callable[..., nn.Module] | None = partial(nn.GroupNorm, 32) if group_norm else None
        self.fpn = FeaturePyramidNetwork(list(channels), WIDTH, LastLevelMaxPool(), norm)
        self.rpn = RegionProposalNetwork(
            AnchorGenerator(tuple((size,) for size in ANCHOR_SIZES), (ANCHOR_RATIOS,) * len(ANCHOR_SIZES)),
            RPNHead(WIDTH, len(ANCHOR_RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2 * PROPOSALS, "testing": PROPOSALS},
            post_nms_top_n={"training": 2 * PROPOSALS, "testing": PROPOSALS},
            nms_thresh=0.7,
        )
        if anchors == "detectron":
            levels = zip(ANCHOR_SIZES, STRIDES, strict=True)
            cells = [detectron_anchors(size, stride, ANCHOR_RATIOS) for size, stride in levels]
            self.rpn.anchor_generator.cell_anchors = cells
        if group_norm:
            pooled = (WIDTH, BOX_CELLS, BOX_CELLS)
            box_head: nn.Module = FastRCNNConvFCHead(pooled, [WIDTH] * 4, [BOX_FEATURES], norm_layer=norm)
        else:
            box_head = TwoMLPHead(WIDTH * BOX_CELLS**2, BOX_FEATURES)
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(list(LEVELS), BOX_CELLS, sampling_ratio=2),
            box_head,
            FastRCNNPredictor(BOX_FEATURES, num_classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=rois,
            positive_fraction=0.25,
            bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
            score_thresh=self.score_threshold,
            nms_thresh=self.nms_threshold,
            detections_per_img=self.top_k,
            mask_roi_pool=MultiScaleRoIAlign(list(LEVELS), MASK_CELLS, sampling_ratio=2) if masks else None,
            mask_head=MaskRCNNHeads(WIDTH, [WIDTH] * 4, 1, norm_layer=norm) if masks else None,
            mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, num_classes + 1) if masks else None,
        )
        self._latest_anchors: dict[tuple[Any, ...], Tensor] = {}
        self._init_heads()

    def forward(self, images: Tensor, targets: Sequence[Target] | None = None) -> dict[str, Tensor]:
        """images: (N, 3, H, W), preprocessed, of any size; targets: in training, see `Target.image_size`."""
        whole = (images.shape[-2], images.shape[-1])
        sizes = [target.image_size or whole for target in targets] if targets is not None else [whole] * len(images)
        padded = _pad(images, sizes)
        maps = self.fpn(dict(zip(LEVELS, self.backbone(padded), strict=True)))  # p2 … p5 and the pooled one for the RPN
        objectness, anchor_deltas, anchors, proposals = self._propose(maps, sizes)
        labels, objects = [], []
        if targets is not None:
            proposals, objects, labels, _ = self.roi_heads.select_training_samples(
                [boxes.detach() for boxes in proposals], _torchvision_targets(targets, images.device)
            )
        pooled = self.roi_heads.box_roi_pool(maps, proposals, [padded.shape[-2:]] * len(images))  # (R, 256, 7, 7)
        class_logits, box_deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        outputs = {
            "anchors": anchors,
            "objectness_logits": objectness,
            "anchor_deltas": anchor_deltas,
            "proposals": torch.cat(proposals),
            "proposals_per_image": torch.tensor([len(boxes) for boxes in proposals]),
            "class_logits": class_logits,
            "box_deltas": box_deltas,
            **{level: maps[level] for level in LEVELS},
        }
        if targets is not None:
            outputs |= {"proposal_labels": torch.cat(labels), "proposal_objects": torch.cat(objects)}
            if self.masks:
                positive = [boxes[label > 0] for boxes, label in zip(proposals, labels, strict=True)]
                outputs["mask_logits"] = self._mask_logits(maps, positive)
        return outputs

    def _propose(
        self, maps: dict[str, Tensor], sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Objectness (N, A), deltas (N, A, 4), anchors (A, 4), and the proposals (·, 4) of each image."""
        levels = list(maps.values())
        logits, deltas = self.rpn.head(levels)
        per_level = [logit[0].numel() for logit in logits]
        # In half precision, pixel coordinates above 256 would be rounded.
        logits, deltas = (tensor.float() for tensor in concat_box_prediction_layers(logits, deltas))
        anchors = self._anchors([(level.shape[-2], level.shape[-1]) for level in levels], like=deltas)
        n = len(sizes)
        boxes = self.rpn.box_coder.decode(deltas.detach(), [anchors] * n).view(n, -1, 4)
        logits = logits.view(n, -1)
        proposals = best_proposals(
            boxes,
            logits.detach(),
            sizes,
            per_level,
            before=self.rpn.pre_nms_top_n(),
            after=self.rpn.post_nms_top_n(),
            nms_threshold=self.rpn.nms_thresh,
            least_side=self.rpn.min_size,
        )
        return logits, deltas.view(n, -1, 4), anchors, proposals

    def _anchors(self, sizes: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
        """Anchors (A, 4) of feature maps of these (height, width), made once for each of the latest sizes."""
        key = (*sizes, like.dtype, like.device)
        anchors = self._latest_anchors.pop(key, None)
        if anchors is None:
            generator = self.rpn.anchor_generator
            generator.set_cell_anchors(like.dtype, like.device)
            # The generator would compute strides from rounded sizes: 61 instead of 64 for P6 of a side of 800 pixels.
            anchors = torch.cat(generator.grid_anchors(sizes, [(stride, stride) for stride in STRIDES]))
            if len(self._latest_anchors) == REMEMBERED_SIZES:
                del self._latest_anchors[next(iter(self._latest_anchors))]
        self._latest_anchors[key] = anchors  # the last in order
        return anchors

    def _mask_logits(self, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Mask logits (D, K+1, 28, 28) of the D boxes of all images, given image by image."""
        stride = STRIDES[0]
        height, width = maps["p2"].shape[-2:]
        pooled = self.roi_heads.mask_roi_pool(maps, boxes, [(height * stride, width * stride)] * len(boxes))
        return self.roi_heads.mask_predictor(self.roi_heads.mask_head(pooled))  # (D, 256, 14, 14) → (D, K+1, 28, 28)

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        input_size: tuple[int, int] | None = None,
        score_threshold: float | Tensor = 0.05,
        nms_threshold: float = 0.5,
        top_k: int = 100,
    ) -> list[Detections]:
        """See `DetectionModel.decode`. Scores are softmax probabilities; each class has its own box of a proposal."""
        counts = outputs["proposals_per_image"].tolist()
        proposals, deltas = outputs["proposals"].split(counts), outputs["box_deltas"].float().split(counts)
        scores = outputs["class_logits"].float().softmax(dim=-1)[:, 1:].split(counts)  # (·, K) of each image
        input_sizes = [input_size or self.preprocessing.input_size(size) for size in image_sizes]
        boxes, detections = [], []
        per_image = zip(proposals, deltas, scores, input_sizes, image_sizes, strict=True)
        for proposal, delta, score, size, image_size in per_image:
            index, label = (score > score_threshold).nonzero(as_tuple=True)
            per_class = self.roi_heads.box_coder.decode(delta, [proposal])
            per_class = per_class.reshape(len(proposal), self.num_classes + 1, 4)
            box, score = clip(per_class[index, label + 1], size), score[index, label]
            not_empty = ((box[:, 2:] - box[:, :2]) >= MIN_SIDE).all(dim=1).nonzero().squeeze(1)
            keep = not_empty[batched_nms(box[not_empty], score[not_empty], label[not_empty], nms_threshold)][:top_k]
            boxes.append(box[keep])
            pixels = clip(rescale(box[keep], size, image_size), image_size)
            detections.append(Detections(pixels, label[keep], score[keep], image_size))
        return self._with_masks(detections, boxes, outputs) if self.masks else detections

    def _with_masks(
        self, detections: list[Detections], boxes: list[Tensor], outputs: dict[str, Tensor]
    ) -> list[Detections]:
        """The detections with their masks; `boxes` are theirs in pixels of the network's input."""
        if not sum(map(len, boxes)):
            return [replace(image, masks=RleMasks((), image.image_size)) for image in detections]
        logits = self._mask_logits({level: outputs[level] for level in LEVELS}, boxes)
        label = torch.cat([image.labels for image in detections])
        probabilities = logits[torch.arange(len(label), device=label.device), label + 1].float().sigmoid()
        per_image = zip(detections, probabilities.cpu().split([len(box) for box in boxes]), strict=True)  # (·, 28, 28)
        return [replace(image, masks=paste(mask, image.boxes.cpu(), image.image_size)) for image, mask in per_image]

    def _init_heads(self) -> None:
        """Initialise what torchvision leaves at PyTorch's defaults.

        Class logits are drawn from N(0, 0.01²), box deltas from N(0, 0.001²), the fully connected layers of the box
        head uniformly from ±√(3 / fan_in) as by Caffe2's "XavierFill". All biases are 0.
        """
        heads = self.roi_heads
        for layer in heads.box_head.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.normal_(heads.box_predictor.cls_score.weight, std=0.01)
        nn.init.normal_(heads.box_predictor.bbox_pred.weight, std=0.001)
        for name, parameter in heads.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)


def _pad(images: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """The images with zeros below and to the right of each one's (height, width), up to multiples of 32."""
    height, width = images.shape[-2:]
    images = F.pad(images, (0, -width % PADDED_MULTIPLE, 0, -height % PADDED_MULTIPLE))
    if any(size != (height, width) for size in sizes):
        images = images.clone()
        for image, (bottom, right) in zip(images, sizes, strict=True):  # sizes in a tensor would wait for the device
            image[:, bottom:] = 0
            image[:, :, right:] = 0
    return images


def _torchvision_targets(targets: Sequence[Target], device: torch.device) -> list[dict[str, Tensor | None]]:
    """The objects that are no crowds, with labels from 1. The sampler needs the key "masks", whatever its value."""
    objects = (target[~target.crowd] for target in targets)
    return [
        {
            "boxes": t.boxes.to(device, non_blocking=True),
            "labels": (t.labels + 1).to(device, non_blocking=True),
            "masks": None,
        }
        for t in objects
    ]


def biases_outside_norms(model: nn.Module) -> list[nn.Parameter]:
    """The biases of convolutions and fully connected layers, which learn at twice the rate."""
    layers = (layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear))
    return [bias for layer in layers if isinstance(bias := layer.bias, nn.Parameter)]


def mask_rcnn(
    num_classes: int,
    *,
    make_backbone: Callable[..., nn.Module],
    masks: bool,
    group_norm: bool,
    backbone: Mapping[str, Any] | None = None,
    pixels: Mapping[str, Any] | None = None,
    image_size: tuple[int, int] = (800, 1333),
    rois: int = 512,
    anchors: Anchors = "torchvision",
) -> MaskRCNN:
    """Mask R-CNN, or Faster R-CNN without `masks`, on a backbone's C2…C5.

    make_backbone: builds the backbone with the options `backbone`; its norm is "group" or, without `group_norm`,
        "frozen", unless they say otherwise.
    pixels: `mean`, `std`, `channel_order` and `antialias` of `Preprocessing`, for weights that need others.
    image_size: length of the shorter side and upper limit of the longer one.
    rois, anchors: see `MaskRCNN`.
    """
    if anchors not in get_args(Anchors):
        raise unknown_name("set of anchors", anchors, get_args(Anchors))
    norm = "group" if group_norm else "frozen"
    net: Any = make_backbone(**{"norm": norm, **(backbone or {}), "features_only": True})
    size: Any = tuple(image_size) if isinstance(image_size, list) else image_size  # a list in a config
    preprocessing = with_pixels(Preprocessing(size, mean=MEAN, keep_ratio=True), pixels)
    return MaskRCNN(
        net, net.channels, num_classes, preprocessing, group_norm=group_norm, masks=masks, rois=rois, anchors=anchors
    )

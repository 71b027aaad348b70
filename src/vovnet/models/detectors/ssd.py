"""DSOD300: an SSD with dense prediction, made to be trained from scratch.

Source of the structure: DSOD (arXiv 1708.01241) and its Caffe scripts. VoVNet-27-slim takes the place of DSOD's
DenseNet with nothing else changed (arXiv 1904.09730, §4.2, Table 2): its stages 3, 4, 5 are the first of six maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vovnet.boxes import batched_nms, clip, decode
from vovnet.models.anchors import AnchorLevel, make_anchors
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.layers import ConvNormAct, Init, L2Norm, NormActConv, init_weights
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections

# DSOD300_pascal: min and max size, aspect ratios, step of each map. The last step is 300 although a 2×2 map of a 300
# input would have 150, so three of its four cells lie outside the image; the published models were trained so.
ANCHORS_VOC = (
    AnchorLevel(30, 60, (2,), 8),
    AnchorLevel(60, 111, (2, 3), 16),
    AnchorLevel(111, 162, (2, 3), 32),
    AnchorLevel(162, 213, (2, 3), 64),
    AnchorLevel(213, 264, (2,), 100),
    AnchorLevel(264, 315, (2,), 300),
)
# DSOD300_coco: smaller boxes, everything else the same.
ANCHORS_COCO = (
    AnchorLevel(21, 45, (2,), 8),
    AnchorLevel(45, 99, (2, 3), 16),
    AnchorLevel(99, 153, (2, 3), 32),
    AnchorLevel(153, 207, (2, 3), 64),
    AnchorLevel(207, 261, (2,), 100),
    AnchorLevel(261, 315, (2,), 300),
)
ANCHORS = {"voc": ANCHORS_VOC, "coco": ANCHORS_COCO}


class DenseExtra(nn.Module):
    """DSOD's next map: half of it learnt, half the previous map pooled ("learning half, reusing half")."""

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        self.reuse = nn.Sequential(nn.MaxPool2d(2, stride=2, ceil_mode=True), NormActConv(c_in, width, 1))
        self.learn = nn.Sequential(NormActConv(c_in, width, 1), NormActConv(width, width, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.reuse(x), self.learn(x)], dim=1)  # (N, c, H, W) → (N, 2·width, ⌈H/2⌉, ⌈W/2⌉)


class DSODHead(nn.Module):
    """L2Norm, then a 3×3 convolution with batch norm for the boxes and one for the classes of one map."""

    def __init__(self, channels: int, per_cell: int, num_logits: int) -> None:
        super().__init__()
        self.l2norm = L2Norm(channels, scale=20.0)
        self.box = ConvNormAct(channels, 4 * per_cell, 3, act=False, eps=1e-3)
        self.cls = ConvNormAct(channels, num_logits * per_cell, 3, act=False, eps=1e-3)
        for conv in (self.box.conv, self.cls.conv):
            nn.init.normal_(conv.weight, std=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.l2norm(x)
        return self.box(x), self.cls(x)


class SSD(DetectionModel):
    """Feature maps of a backbone, further maps, one head a map, default boxes.

    num_classes: foreground classes K. The outputs "class_logits" (N, A, K+1) have the background first; "box_deltas"
    is (N, A, 4) and "anchors_cxcywh" (A, 4) in pixels of the network's input.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_channels: Sequence[int],
        extra_widths: Sequence[int],
        anchors: Sequence[AnchorLevel],
        num_classes: int,
        preprocessing: Preprocessing,
        init: Init = "xavier",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.preprocessing = preprocessing
        self.anchor_levels = tuple(anchors)
        self.backbone = backbone
        channels = list(feature_channels)
        self.extras = nn.ModuleList()
        for width in extra_widths:
            self.extras.append(DenseExtra(channels[-1], width))
            channels.append(2 * width)
        init_weights(self.extras, init)
        self.heads = nn.ModuleList(
            DSODHead(c, level.per_cell, num_classes + 1) for c, level in zip(channels, anchors, strict=True)
        )
        self._anchors: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (N, 3, H, W), preprocessed."""
        n = len(images)
        maps = list(self.backbone(images))[-(len(self.heads) - len(self.extras)) :]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        deltas, logits = [], []
        for head, feature in zip(self.heads, maps, strict=True):
            box, cls = head(feature)  # (N, 4·P, H, W), (N, (K+1)·P, H, W)
            deltas.append(box.permute(0, 2, 3, 1).reshape(n, -1, 4))
            logits.append(cls.permute(0, 2, 3, 1).reshape(n, -1, self.num_classes + 1))
        return {
            "class_logits": torch.cat(logits, dim=1),
            "box_deltas": torch.cat(deltas, dim=1),
            "anchors_cxcywh": self._anchors_of(maps, images),
        }

    def _anchors_of(self, maps: Sequence[Tensor], images: Tensor) -> Tensor:
        """The default boxes (A, 4), made once for each input size and device."""
        height, width = images.shape[-2:]
        key = (height, width, images.device)
        if key not in self._anchors:
            sizes = [(m.shape[-2], m.shape[-1]) for m in maps]
            self._anchors[key] = make_anchors(self.anchor_levels, sizes, (height, width)).to(images.device)
        return self._anchors[key]

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float = 0.01,
        nms_threshold: float = 0.45,
        candidates: int = 400,
        top_k: int = 200,
    ) -> list[Detections]:
        """Softmax; per class scores above the threshold, best `candidates`, NMS; best `top_k` of all classes.

        image_sizes: (height, width) of each original image; the boxes come out in its pixels, clipped to it.
        """
        scores = outputs["class_logits"].float().softmax(dim=-1)[..., 1:]  # (N, A, K)
        _, num_anchors, k = scores.shape
        scores, anchor = scores.topk(min(candidates, num_anchors), dim=1)  # (N, T, K)
        image, rank, label = (scores > score_threshold).nonzero(as_tuple=True)
        anchor, scores = anchor[image, rank, label], scores[image, rank, label]
        boxes = decode(outputs["box_deltas"][image, anchor].float(), outputs["anchors_cxcywh"][anchor])
        # The groups are told apart by shifting them, so a box far outside would cost the others their precision.
        input_height, input_width = self.preprocessing.image_size
        near = boxes.clamp(-max(input_height, input_width), 2 * max(input_height, input_width))
        keep = batched_nms(near, scores, image * k + label, nms_threshold)  # best score first
        boxes, scores, label, image = boxes[keep], scores[keep], label[keep], image[keep]

        detections = []
        for index, (height, width) in enumerate(image_sizes):
            mine = (image == index).nonzero().squeeze(1)[:top_k]
            scale = boxes.new_tensor([width / input_width, height / input_height] * 2)
            pixels = clip(boxes[mine] * scale, (height, width))
            detections.append(Detections(pixels, label[mine], scores[mine], (height, width)))
        return detections

"""The contract that every detector keeps, so that training, evaluation and prediction need no special cases.

    outputs = model(images)                          # dict of tensors, the same keys in training and evaluation
    losses = loss(outputs, targets)                  # dict of scalars; see `vovnet.zoo.DetectorSpec.make_loss`
    detections = model.decode(outputs, image_sizes)  # boxes in pixels of the original images

What differs between detectors is data: the attributes below, and the detector's row in `vovnet.zoo.SPECS`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections


class DetectionModel(nn.Module):
    """A network that turns preprocessed images into a dict of tensors, and that dict into detections.

    num_classes: foreground classes K. In class logits, index 0 is the background.
    preprocessing: how images are turned into inputs of `forward`.
    two_stage: in training, `forward` takes the targets as a second argument, to sample proposals for the second stage.
    masks: whether `decode` returns masks, and training needs them.
    input_multiple: `forward` takes inputs whose height and width are any multiples of this; None if it is made for the
        size that `preprocessing` gives.
    score_threshold, nms_threshold, top_k: what `decode` uses unless it is told otherwise.
    candidates: boxes of a class among which NMS selects, at most.
    smallest_anchor: side of the smallest square anchor, in pixels of the network's input; None without anchors.
    """

    num_classes: int
    preprocessing: Preprocessing
    two_stage: bool = False
    masks: bool = False
    input_multiple: int | None = None
    score_threshold: float
    nms_threshold: float
    candidates: int
    top_k: int
    smallest_anchor: float | None = None

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (N, 3, H, W), preprocessed. The keys are the same in training and evaluation."""

    @abstractmethod
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        input_size: tuple[int, int] | None = None,
        score_threshold: float | Tensor = 0.01,
        top_k: int = 200,
    ) -> list[Detections]:
        """The detections of each image, highest score first, in pixels of the original image and clipped to it.

        outputs: what `forward` returned for these images.
        image_sizes: (height, width) of each original image.
        input_size: (height, width) to which the images were resized; None is `preprocessing.input_size` of each image.
        score_threshold: only detections with a higher score are kept; one for all classes, or (K,) one for each.
        top_k: at most so many detections per image.
        """

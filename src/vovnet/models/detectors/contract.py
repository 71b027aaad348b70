"""The one contract that every detector keeps, so that training, evaluation and prediction know no special case."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections


class DetectionModel(nn.Module):
    """A network from preprocessed images to a dict of tensors, and from that dict to detections.

    num_classes: foreground classes K; preprocessing: what `forward` expects to have been done to an image.
    two_stage: `forward` takes the targets as a second argument in training, to sample proposals for the second stage.
    masks: whether `decode` gives masks, and training needs them.
    input_multiple: the network takes any input whose height and width are multiples of it; None: only the size that
        `preprocessing` gives.
    """

    num_classes: int
    preprocessing: Preprocessing
    two_stage: bool = False
    masks: bool = False
    input_multiple: int | None = None

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images: (N, 3, H, W), preprocessed. The keys are the same in training and evaluation."""

    @abstractmethod
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float = 0.01,
        top_k: int = 200,
    ) -> list[Detections]:
        """What was found in each image, in pixels of the original image of (height, width), best score first."""

"""The network that is exported: pixels in, boxes and scores out, and the description that goes with it."""

from __future__ import annotations

from torch import Tensor, nn

import vovnet
from vovnet.errors import UsageError
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.runtime.export_info import ExportInfo
from vovnet.weights.detector import LoadedModel
from vovnet.weights.digest import weights_digest


class PixelsToBoxes(nn.Module):
    """uint8 RGB images (N, 3, H, W) at network size → boxes (N, A, 4) in pixels of the input, scores (N, A, K).

    Normalisation is part of it, so that whoever runs the exported file cannot get mean or channel order wrong.
    """

    def __init__(self, model: OneStageDetector) -> None:
        super().__init__()
        self.model = model.eval()
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.boxes_and_scores(self.model(self.model.preprocessing.normalize(images)))


def check_exportable(model: DetectionModel, name: str, to: str, precision: str) -> None:
    """UsageError for a detector that this form or precision cannot hold, with what can. name: of the detector."""
    if model.two_stage and (to not in ("onnx", "openvino") or precision != "float32"):
        raise UsageError(
            f"{name} cannot be exported to {to} in {precision}, because it computes the boxes of its proposals inside "
            "the network, which needs float32 and operations that MNN lacks: use --to onnx or --to openvino with "
            "--precision float32"
        )


def describe_export(loaded: LoadedModel, precision: str) -> ExportInfo:
    """The description of a detector that is exported in this precision."""
    model, info = loaded.model, loaded.info
    preprocessing = model.preprocessing
    return ExportInfo(
        detector=info.name,
        class_names=info.class_names,
        category_ids=info.category_ids,
        image_size=preprocessing.image_size,
        keep_ratio=preprocessing.keep_ratio,
        antialias=preprocessing.antialias,
        score_threshold=model.score_threshold,
        nms_threshold=model.nms_threshold,
        candidates=model.candidates,
        top_k=model.top_k,
        masks=model.masks,
        precision=precision,
        weights_sha256=weights_digest(model.state_dict()),
        vovnet=vovnet.__version__,
        record=dict(loaded.record),
        score_thresholds=loaded.score_thresholds,
    )

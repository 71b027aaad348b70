"""A detector that PyTorch runs, and `load`, which opens any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vovnet.engine.distributed import choose_device
from vovnet.engine.predicting.predictor import Predictor, Running
from vovnet.freed_memory import keep_freed_memory
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.preprocessing import Preprocessing
from vovnet.runtime.thresholds import ScoreThreshold
from vovnet.structures import Detections
from vovnet.weights.asked_once import asked_once
from vovnet.weights.detector import load_weights


@asked_once()
def load(
    source: str | Path, device: str = "auto", *, runtime: str | None = None, threads: int | None = None
) -> Predictor:
    """A detector that is ready to predict.

    source: the name of shipped weights such as "bccd", a file, a run's folder, a URL or a name on the Hugging Face Hub
        such as "hf:owner/name"; or an exported detector: "model.onnx", "model_openvino/", "model_mnn/".
    device: of PyTorch. Exported detectors run on the CPU.
    runtime: "torch", "onnxruntime", "openvino" or "mnn". None is PyTorch for weights, and for an exported file the
        runtime that it was made for. "auto" is for weights on the CPU their fastest export that passed its test on
        this machine, and PyTorch if there is none.
    threads: CPU threads of an exported detector; None is the runtime's own choice.

    Raises UsageError for what does not go together, such as a GPU and an exported file.
    """
    from vovnet.engine.predicting.runtimes import open_export

    return open_export(source, device, runtime=runtime, threads=threads) or load_network(source, device)


def load_network(source: str | Path, device: str = "auto") -> Detector:
    """A detector of weights, which PyTorch runs."""
    loaded = load_weights(source)
    info = loaded.info
    return Detector(
        loaded.model,
        info.class_names,
        info.category_ids,
        loaded.record,
        score_thresholds=loaded.score_thresholds,
        device=device,
    )


class Detector(Predictor):
    """A trained PyTorch model with the names of its classes.

    The model is moved to `device`, converted to channels_last and set to evaluation mode. See `Predictor`.
    """

    def __init__(
        self,
        model: DetectionModel,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        metadata: Mapping[str, Any] | None = None,
        *,
        score_thresholds: Sequence[float] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(class_names, category_ids, metadata, score_thresholds)
        self.device = choose_device(str(device))
        if self.device.type == "cpu":
            keep_freed_memory()
        self.running = Running()
        self._model = model.to(self.device).to(memory_format=torch.channels_last).eval()

    @property
    def model(self) -> DetectionModel:
        return self._model

    @property
    def preprocessing(self) -> Preprocessing:
        return self._model.preprocessing

    @property
    def masks(self) -> bool:
        return self._model.masks

    def _detect_batch(
        self,
        images: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: ScoreThreshold | None,
        top_k: int | None,
    ) -> list[Detections]:
        height, width = input_size = (images[0].shape[-2], images[0].shape[-1])
        usual = all(self.preprocessing.input_size(size) == input_size for size in image_sizes)
        try:
            # Nested, so that the tensors of a step are freed before the next batch.
            return self.decode(
                self.forward(self._to_batch(images)),
                image_sizes,
                input_size=None if usual else input_size,
                score_threshold=score_threshold,
                top_k=top_k,
            )
        except torch.OutOfMemoryError:
            raise MemoryError(
                f"{self.device} has too little memory for {len(images)} images of {height}×{width} at once; "
                "lower the batch size"
            ) from None

    def prepare(self, images: Sequence[Tensor]) -> Tensor:
        """uint8 RGB images (3, H, W) → a normalised batch (N, 3, *preprocessing.input_size) on the device.

        Raises ValueError if the images get different input sizes; a detector that keeps the aspect ratio may do that.
        """
        resized = [self.preprocessing.resize(image) for image in images]
        if len(sizes := {image.shape[1:] for image in resized}) > 1:
            shown = ", ".join(f"{height}×{width}" for height, width in sorted(sizes))
            raise ValueError(
                f"the images of a batch must have one input size, got {shown}: prepare them one by one, or use detect"
            )
        return self._to_batch(resized)

    @torch.inference_mode()
    def _to_batch(self, resized: Sequence[Tensor]) -> Tensor:
        return self.preprocessing.normalize(torch.stack(list(resized)).to(self.device))

    @torch.inference_mode()
    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """The outputs of the network for a batch from `prepare`."""
        return self.model(batch)

    @torch.inference_mode()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        input_size: tuple[int, int] | None = None,
        score_threshold: ScoreThreshold | None = None,
        top_k: int | None = None,
    ) -> list[Detections]:
        """Outputs of `forward` → detections on the CPU, in pixels of the original images.

        image_sizes: (height, width) of the original images.
        input_size: (height, width) of the batch; None is what `preprocessing` gives.
        score_threshold, top_k: None is the model's own default.
        """
        each = isinstance(score_threshold, Sequence)
        threshold = torch.tensor(score_threshold, device=self.device) if each else score_threshold
        options = {"input_size": input_size, "score_threshold": threshold, "top_k": top_k}
        chosen: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        return [detections.cpu() for detections in self.model.decode(outputs, image_sizes, **chosen)]

"""Thresholds of classes and chosen classes: the same detections, and no mask is computed of what they drop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vovnet.engine.detector import Detector, load
from vovnet.engine.predicting import exported
from vovnet.engine.predicting.predictor import Predictor
from vovnet.masks import RleMasks
from vovnet.models.detectors.mask_rcnn import MaskRCNN
from vovnet.runtime import detector as runner

from ...small_two_stage import CLASSES, make_small, photos, small_onnx

VALUES = (0.05, 0.55, 0.7)
EVERY = {"score_threshold": 0.05, "top_k": 10**6}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    path.write_bytes(small_onnx())
    return path


def pytorch(file: Path) -> Detector:
    loaded = make_small()
    return Detector(loaded.model, loaded.info.class_names, loaded.info.category_ids)


def exported_file(file: Path) -> Predictor:
    return load(file, threads=1)


def count_masks(detector: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The list that gets the number of masks of each computation."""
    counts: list[int] = []
    if isinstance(detector, Detector):
        model = detector.model
        assert isinstance(model, MaskRCNN)

        def count(module: nn.Module, inputs: tuple[torch.Tensor], output: object) -> None:
            counts.append(len(inputs[0]))

        model.roi_heads.mask_head.register_forward_hook(count)
    else:
        count_calls(counts, exported, monkeypatch)
    return counts


def count_calls(counts: list[int], module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paste_codes = module.paste_codes

    def paste(probabilities: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int]) -> tuple[bytes, ...]:
        counts.append(len(boxes))
        return paste_codes(probabilities, boxes, image_size)

    monkeypatch.setattr(module, "paste_codes", paste)


def codes(masks: RleMasks | None) -> tuple[bytes, ...]:
    assert masks is not None
    return masks.counts


@pytest.mark.parametrize("make", [pytorch, exported_file])
@pytest.mark.parametrize("classes", [None, "dog", ["person", "kite"]])
def test_only_what_is_kept_gets_a_mask(
    file: Path, make: Callable[[Path], Predictor], classes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, detector = photos()[0], make(file)
    every = detector.predict(image, **EVERY)
    wanted = [name for name in CLASSES if classes is None or name in classes]
    passed = every.scores > torch.tensor(VALUES)[every.labels]
    passed &= torch.tensor([name in wanted for name in every.names])
    expected = every[passed]
    assert 3 < len(expected) < len(every) - 3
    detector.score_thresholds = VALUES
    counts = count_masks(detector, monkeypatch)
    found = detector.predict(image, classes=classes)
    assert counts == [len(expected)]
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.scores, expected.scores)
    assert found.names == expected.names
    assert codes(found.masks) == codes(expected.masks)


def test_the_runner_computes_no_more(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, detector = photos()[0].permute(1, 2, 0).numpy(), runner.load(file, threads=1)
    every = detector.predict(image, **EVERY)
    expected = every[np.flatnonzero(every.scores > np.array(VALUES, np.float32)[every.labels])]
    detector.score_thresholds = VALUES
    counts: list[int] = []
    count_calls(counts, runner, monkeypatch)
    found = detector.predict(image)
    assert counts == [len(expected)]
    assert found.to_coco() == expected.to_coco()


@pytest.mark.parametrize("make", [pytorch, exported_file])
def test_in_tiles_a_class_is_found_as_if_its_threshold_were_that_of_all(
    file: Path, make: Callable[[Path], Predictor]
) -> None:
    detector, image = make(file), photos()[0]
    detector.score_thresholds = VALUES
    together = detector.predict(image, tiles=400, top_k=10**6)
    assert len(set(together.names)) > 1
    for name, value in zip(CLASSES, VALUES, strict=True):
        alone = detector.predict(image, tiles=400, top_k=10**6, score_threshold=value)
        own, other = (torch.tensor([each == name for each in of.names], dtype=torch.bool) for of in (together, alone))
        assert torch.equal(together.boxes[own], alone.boxes[other])
        assert codes(together[own].masks) == codes(alone[other].masks)

"""Detectors predict and evaluate in tiles, and find each object once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.engine.evaluate import evaluate
from vovnet.engine.multi_scale import MultiScale, Scale
from vovnet.engine.predicting.predictor import Predictor, Running
from vovnet.errors import UsageError
from vovnet.masks import decode, encode
from vovnet.runtime.detector import load
from vovnet.runtime.tiles import Tiling, tiles_hint
from vovnet.structures import Detections, Target

from ..runtime.tiny_detector import write_tiny

SIZE = (300, 400)
OBJECTS = [(5, 5, 17, 20), (90, 90, 112, 108), (60, 10, 290, 280), (300, 120, 340, 160), (395, 290, 400, 300)]
LABELS = [0, 1, 0, 1, 1]


class AsTheyAre:
    """Resizes nothing."""

    image_size, keep_ratio, least_pixels = (100, 100), True, 100**2

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        return image_size

    def resize(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        return image


class Perfect(Predictor):
    """Finds what an image shows of the objects. Each pixel of an image says where it is, see `positions`."""

    device, running = torch.device("cpu"), Running()

    def __init__(self, *, masks: bool = False) -> None:
        super().__init__(("a", "b"), (1, 2), None)
        self.seen: list[tuple[int, ...]] = []
        self._masks = masks

    @property
    def model(self) -> NoReturn:
        raise NotImplementedError

    @property
    def preprocessing(self) -> AsTheyAre:
        return AsTheyAre()

    @property
    def masks(self) -> bool:
        return self._masks

    def _detect_batch(
        self,
        images: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float | None,
        top_k: int | None,
    ) -> list[Detections]:
        self.seen.append((len(images), *images[0].shape[1:]))
        return [self._find(image) for image in images]

    def _find(self, image: Tensor) -> Detections:
        height, width = image.shape[1:]
        high, middle, low = image[:, 0, 0].tolist()
        y, x = divmod(65536 * high + 256 * middle + low, 4096)
        corner, objects = torch.tensor([x, y, x, y]), torch.tensor(OBJECTS).float()
        parts = (objects - corner).clamp(min=0).minimum(torch.tensor([width, height] * 2))
        shown = (parts[:, 2:] - parts[:, :2]).prod(dim=1) / (objects[:, 2:] - objects[:, :2]).prod(dim=1)
        order = shown.argsort(descending=True)
        order = order[shown[order] > 0.1]
        boxes, masks = parts[order], None
        if self.masks:
            bitmaps = torch.zeros((len(boxes), height, width), dtype=torch.bool)
            for bitmap, (x1, y1, x2, y2) in zip(bitmaps, boxes.int().tolist(), strict=True):
                bitmap[y1:y2, x1:x2] = True
            masks = encode(bitmaps)
        return Detections(boxes, torch.tensor(LABELS)[order], shown[order].float() * 0.9, (height, width), masks)


def positions() -> Tensor:
    number = torch.arange(SIZE[0])[:, None] * 4096 + torch.arange(SIZE[1])
    return torch.stack([number // 65536, number // 256 % 256, number % 256]).to(torch.uint8)


def found(detections: Detections) -> list[tuple[tuple[float, ...], int]]:
    return sorted(zip(map(tuple, detections.boxes.tolist()), detections.labels.tolist(), strict=True))


EXPECTED = sorted((tuple(map(float, box)), label) for box, label in zip(OBJECTS, LABELS, strict=True))


@pytest.mark.parametrize("overlap", [None, 0.0, 0.5])
def test_each_object_is_predicted_once_and_batches_are_bounded(overlap: float | None) -> None:
    detector = Perfect()
    prediction = detector.predict(positions(), tiles=100, overlap=overlap, batch_size=4)
    assert found(prediction) == EXPECTED
    assert prediction.image_size == SIZE
    windows = len(list(Tiling(100, 0.2 if overlap is None else overlap).tiles(SIZE)))
    assert detector.seen[0] == (1, *SIZE)
    assert [size for _, *size in detector.seen[1:]] == [[100, 100]] * (len(detector.seen) - 1)
    assert max(number for number, *_ in detector.seen) == 4
    assert sum(number for number, *_ in detector.seen) == windows + 1


def test_options_hold_for_the_merged_detections() -> None:
    detector = Perfect()
    assert len(detector.predict(positions(), tiles=100, top_k=2)) == 2
    assert set(detector.predict(positions(), tiles=100, classes="a").labels.tolist()) == {0}
    assert len(detector.predict(positions(), tiles=100, score_threshold=0.95)) == 0
    assert [len(result.boxes) for result in detector.stream([positions()] * 2, tiles=100)] == [5, 5]


def test_an_image_no_larger_than_a_tile_is_detected_as_without_tiles() -> None:
    detector = Perfect()
    assert found(detector.predict(positions(), tiles=400)) == EXPECTED
    assert detector.seen == [(1, *SIZE)]


def test_masks_are_moved_into_the_image() -> None:
    prediction = Perfect(masks=True).predict(positions(), tiles=100)
    assert prediction.masks is not None
    assert prediction.masks.size == SIZE
    for bitmap, (x1, y1, x2, y2) in zip(decode(prediction.masks), prediction.boxes.int().tolist(), strict=True):
        assert bitmap[y1:y2, x1:x2].all()
        assert bitmap.sum() == (y2 - y1) * (x2 - x1)


def test_nonsense_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        Perfect().stream("missing.jpg", tiles=31)
    with pytest.raises(ValueError, match="overlap must lie in 0…0.9"):
        Perfect().predict(positions(), tiles=64, overlap=1)
    with pytest.raises(ValueError, match="give tiles as well"):
        Perfect().predict(positions(), overlap=0.1)


def make_dataset(tmp_path: Path) -> DetectionDataset:
    path = tmp_path / "a.png"
    Image.fromarray(positions().permute(1, 2, 0).numpy()).save(path)
    sample = Sample(path, "a", Target.make(OBJECTS, LABELS))
    return DetectionDataset(tmp_path, "voc", "test", ("a", "b"), (1, 2), (sample, sample))


def test_an_image_file_is_held_only_if_it_is_asked_for(tmp_path: Path) -> None:
    path = make_dataset(tmp_path)[0].image_path
    assert Perfect().predict(path, tiles=100).pixels is None
    (kept,) = Perfect().stream(path, tiles=100, keep_images=True)
    assert torch.equal(kept.pixels, positions())


def test_evaluation_in_tiles(tmp_path: Path) -> None:
    dataset, detector = make_dataset(tmp_path), Perfect()
    result = evaluate(detector, dataset, batch_size=3, workers=0, tiling=Tiling(100, 0.25))
    assert max(number for number, *_ in detector.seen) == 3
    assert result.coco.figures["AP"] == pytest.approx(1)
    assert [found(detections) for detections in result.detections] == [EXPECTED] * 2
    assert result.to_dict()["tiles"] == {"size": 100, "overlap": 0.25}
    assert evaluate(Perfect(), dataset, workers=0).to_dict()["tiles"] is None


def test_tiles_do_not_go_with_other_tests(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    with pytest.raises(UsageError, match="does not go with soft-NMS"):
        evaluate(Perfect(), dataset, workers=0, tiling=Tiling(100), soft_nms=True)
    with pytest.raises(UsageError, match="does not go with a multi-scale test"):
        evaluate(Perfect(), dataset, workers=0, tiling=Tiling(100), multi_scale=MultiScale((Scale(320),)))


def test_an_exported_file_finds_the_same_in_the_runner(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from vovnet.engine.detector import load as load_any

    path = write_tiny(tmp_path / "tiny.onnx")
    image = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    image[:, 50:] //= 4
    for options in ({"tiles": 32}, {"tiles": 40, "overlap": 0.5}, {"tiles": 90}):
        ours = load_any(path).predict(image, score_threshold=0.2, **options)
        theirs = load(path).predict(image, score_threshold=0.2, **options)
        np.testing.assert_array_equal(ours.boxes.numpy(), theirs.boxes)
        np.testing.assert_array_equal(ours.scores.numpy(), theirs.scores)
        assert ours.labels.tolist() == theirs.labels.tolist()
        assert len(ours) > (options["tiles"] < 90)


def test_weights_that_were_trained_on_tiles_say_so() -> None:
    record = {"config": {"data": {"tiles": {"size": 640, "overlap": 0.25}}}}
    hint = tiles_hint(record, None)
    assert hint is not None
    assert "--tiles 640 --overlap 0.25" in hint
    assert tiles_hint(record, 320) is None
    for stated in (None, {}, {"a": 1}, {"size": 1}):
        assert tiles_hint({"config": {"data": {"tiles": stated}}}, None) is None
    assert tiles_hint({}, None) is tiles_hint({"config": None}, None) is None

"""`Detector.detect`: batches of one input size, in order, as if each image were alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vovnet.engine.detector import Detector
from vovnet.masks import decode
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections

from .masking import NAMES, EllipseModel, ellipses

# The third and the fifth are resized to the input sizes of others.
SIZES = [(40, 60), (60, 40), (80, 120), (20, 3000), (30, 20), (41, 60)]


def random_image(size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(size[0])
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


@pytest.fixture
def model() -> EllipseModel:
    return EllipseModel()


@pytest.fixture
def detector(model: EllipseModel) -> Detector:
    return Detector(model, NAMES, (1, 2))


def assert_same(first: Detections, second: Detections) -> None:
    assert first.image_size == second.image_size
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.labels, second.labels)
    torch.testing.assert_close(first.scores, second.scores, rtol=1e-5, atol=1e-6)
    assert first.masks == second.masks


@pytest.mark.parametrize("resized_before", [False, True])
def test_images_of_one_input_size_go_together_and_none_is_padded(
    model: EllipseModel, detector: Detector, resized_before: bool
) -> None:
    images = [random_image(size) for size in SIZES]
    if resized_before:
        results = detector.detect([model.preprocessing.resize(image) for image in images], SIZES)
    else:
        results = detector.detect(images)
    assert model.seen == [(2, 3, 32, 48), (2, 3, 48, 32), (1, 3, 1, 48), (1, 3, 32, 47)]
    assert [detections.image_size for detections in results] == SIZES
    for detections, image in zip(results, images, strict=True):
        assert_same(detections, *detector.detect([image]))


def test_masks_are_of_the_original_images(detector: Detector) -> None:
    for detections, size in zip(detector.detect([random_image(size) for size in SIZES]), SIZES, strict=True):
        assert detections.masks is not None
        assert detections.masks.size == size
        expected = {tuple(mask.flatten().tolist()) for mask in ellipses(size).int()}
        assert {tuple(mask.flatten().tolist()) for mask in decode(detections.masks)} == expected


def test_a_warped_batch_is_one_batch_as_it_is(model: EllipseModel, detector: Detector) -> None:
    model.preprocessing = Preprocessing((24, 32))
    images = [random_image(size) for size in SIZES]
    results = detector.detect(images)
    assert model.seen == [(len(SIZES), 3, 24, 32)]
    expected = detector.decode(detector.forward(detector.prepare(images)), SIZES)
    for detections, other in zip(results, expected, strict=True):
        assert torch.equal(detections.scores, other.scores)
        assert_same(detections, other)


def test_no_images_no_detections(detector: Detector) -> None:
    assert detector.detect([]) == []


def test_each_image_needs_a_size(detector: Detector) -> None:
    with pytest.raises(ValueError, match="expected one image size per image, got 1 for 2 images"):
        detector.detect([random_image((32, 48))] * 2, [(320, 480)])


class Noting(EllipseModel):
    """Notes the options of each call of `decode`."""

    def __init__(self) -> None:
        super().__init__()
        self.options: list[dict[str, object]] = []

    def decode(
        self, outputs: dict[str, Tensor], image_sizes: list[tuple[int, int]], **options: object
    ) -> list[Detections]:
        self.options.append(options)
        return super().decode(outputs, image_sizes)


def test_the_model_decides_what_the_caller_leaves_open() -> None:
    detector = Detector(Noting(), NAMES, (1, 2))
    detector.detect([random_image((40, 60))])
    detector.detect([random_image((40, 60))], score_threshold=0.0, top_k=3)
    assert detector.model.options == [{}, {"score_threshold": 0.0, "top_k": 3}]


def test_decode_learns_of_an_input_size_that_is_not_the_models_own() -> None:
    detector = Detector(Noting(), NAMES, (1, 2))
    other, own = detector.detect([random_image((64, 80)), random_image((32, 48))], [(640, 800), (320, 480)])
    assert detector.model.seen == [(1, 3, 64, 80), (1, 3, 32, 48)]
    assert detector.model.options == [{"input_size": (64, 80)}, {}]
    assert (other.image_size, own.image_size) == ((640, 800), (320, 480))

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vovnet.engine.inference import detect_images
from vovnet.masks import decode
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections

from .masking import EllipseModel, ellipses

# The third and the fifth come to the input sizes of others.
SIZES = [(40, 60), (60, 40), (80, 120), (20, 3000), (30, 20), (41, 60)]


def picture(size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(size[0])
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


@pytest.fixture
def model() -> EllipseModel:
    return EllipseModel().eval()


def run(model: EllipseModel, images: list[Tensor], sizes: list[tuple[int, int]]) -> list[Detections]:
    def detect_batch(images: list[Tensor], sizes: list[tuple[int, int]]) -> list[Detections]:
        return model.decode(model(model.preprocessing.normalize(torch.stack(images))), sizes)

    return detect_images(images, sizes, detect_batch)


def assert_same(one: Detections, other: Detections) -> None:
    assert one.image_size == other.image_size
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.labels, other.labels)
    torch.testing.assert_close(one.scores, other.scores, rtol=1e-5, atol=1e-6)
    assert one.masks == other.masks


def test_images_of_one_input_size_go_together_and_none_is_padded(model: EllipseModel) -> None:
    resized = [model.preprocessing.resize(picture(size)) for size in SIZES]
    found = run(model, resized, SIZES)
    assert model.seen == [(2, 3, 32, 48), (2, 3, 48, 32), (1, 3, 1, 48), (1, 3, 32, 47)]
    assert [one.image_size for one in found] == SIZES
    for one, image, size in zip(found, resized, SIZES, strict=True):
        assert_same(one, *run(model, [image], [size]))


def test_masks_are_of_the_original_images(model: EllipseModel) -> None:
    found = run(model, [model.preprocessing.resize(picture(size)) for size in SIZES], SIZES)
    for one, size in zip(found, SIZES, strict=True):
        assert one.masks is not None
        assert one.masks.size == size
        expected = {tuple(mask.flatten().tolist()) for mask in ellipses(size).int()}
        assert {tuple(mask.flatten().tolist()) for mask in decode(one.masks)} == expected


def test_a_warped_batch_is_one_batch_as_it_is(model: EllipseModel) -> None:
    model.preprocessing = Preprocessing((24, 32))
    images = [model.preprocessing.resize(picture(size)) for size in SIZES]
    found = run(model, images, SIZES)
    assert model.seen == [(len(SIZES), 3, 24, 32)]
    with torch.no_grad():
        expected = model.decode(model(model.preprocessing(images)), SIZES)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.scores, other.scores)
        assert_same(one, other)


def test_no_images_no_detections(model: EllipseModel) -> None:
    assert run(model, [], []) == []

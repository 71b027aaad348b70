from pathlib import Path

import numpy as np
import pytest
import torch

from vovnet.data.batches.resizing import ResizeAugmentation
from vovnet.data.images import read_image
from vovnet.masks import RleMasks, encode
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Target


def bounding_box(mask):
    ys, xs = mask.nonzero(as_tuple=True)
    return torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()


def target_of(masks, **flags):
    boxes = torch.stack([bounding_box(mask) for mask in masks])
    return Target.make(boxes, range(len(masks)), masks=encode(masks), **flags)


def random_mask(height, width, rng):
    """A blob, a bar down to a pixel thin, a thin slanted line, or single pixels; never nothing."""
    y, x = np.mgrid[:height, :width] + 0.5
    left, right, top, bottom = *np.sort(rng.uniform(0, width, 2)), *np.sort(rng.uniform(0, height, 2))
    match rng.integers(4):
        case 0:
            across, down = (2 * x - left - right) / max(right - left, 2), (2 * y - top - bottom) / max(bottom - top, 2)
            mask = across**2 + down**2 < 1
        case 1:
            mask = (x > int(left)) & (x < int(right) + 1) & (y > int(top)) & (y < int(bottom) + 1)
        case 2:
            mask = np.zeros((height, width), dtype=bool)
            positions = np.linspace(0, 1, 1000)
            mask[(top + positions * (bottom - top)).astype(int), (left + positions * (right - left)).astype(int)] = True
        case _:
            mask = rng.random((height, width)) < 0.01
    mask[int(top), int(left)] |= not mask.any()
    return torch.from_numpy(mask)


def resized(target, size, short_side, flip=0.0, seed=0, long_side=10_000):
    image = torch.zeros((3, *size), dtype=torch.uint8)
    augment = ResizeAugmentation((short_side,), long_side, flip)
    return augment(image, target, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(("low", "high", "tolerance"), [(0.1, 1, 1.5), (1, 3, 0.501)])
def test_boxes_stay_around_their_masks(seed, low, high, tolerance):
    """A shrunk mask is up to a pixel longer or shorter than the box, half a pixel more where it comes to a point."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 160, 2).tolist()
    before = target_of(torch.stack([random_mask(height, width, rng) for _ in range(5)]))
    image, after = resized(before, (height, width), max(2, int(rng.uniform(low, high) * min(height, width))), 0.5, seed)
    assert image.shape == (3, *after.image_size)
    assert isinstance(after.masks, torch.Tensor)
    assert after.masks.dtype == torch.uint8
    assert after.masks.shape == (5, *after.image_size)
    assert set(after.masks.unique().tolist()) <= {0, 1}
    for box, mask in zip(after.boxes, after.masks, strict=True):
        torch.testing.assert_close(bounding_box(mask), box, atol=tolerance, rtol=0)


@pytest.mark.parametrize("short_side", [30, 40, 66, 90, 133])
def test_masks_keep_their_area(short_side):
    """Masks get neither fatter nor thinner on average; at a single position the pixels are too coarse to tell."""
    y, x = torch.meshgrid(torch.arange(100) + 0.5, torch.arange(120) + 0.5, indexing="ij")
    discs = [(x - 50 - shift / 3) ** 2 + (y - 50 + shift / 7) ** 2 < 33**2 for shift in range(30)]
    slabs = [(x + y > 70 + shift) & (x + y < 130 + shift) for shift in range(30)]
    for before in (torch.stack(discs), torch.stack(slabs)):
        _, after = resized(target_of(before), (100, 120), short_side)
        assert after.masks.float().mean() == pytest.approx(before.float().mean().item(), rel=0.01)


def test_thin_objects_do_not_vanish():
    """A line one pixel thick, shrunk to a sixth: it may break only beside the thick part of the same mask."""
    mask = torch.zeros((1, 120, 240), dtype=torch.uint8)
    mask[0, 50, 20:200] = 1
    mask[0, 20:80, 180:230] = 1
    _, after = resized(target_of(mask), (120, 240), 20)
    assert isinstance(after.masks, torch.Tensor)
    assert after.masks[0, :, 4:28].any(dim=0).all()
    assert after.masks[0, :, 4:28].sum() <= 2 * 24  # and it is no wider than it must be


def test_the_image_is_what_prediction_sees():
    photo = read_image(min(Path("samples/photos").glob("*.jpg")))
    for short, long in ((200, 333), (200, 210), (900, 2000)):
        image, target = ResizeAugmentation((short,), long, 0.0)(photo, Target.make(), np.random.default_rng(0))
        preprocessing = Preprocessing((short, long), keep_ratio=True)
        assert target.image_size == preprocessing.input_size(photo.shape[-2:])
        assert torch.equal(image, preprocessing.resize(photo))


def test_flip_mirrors_image_boxes_and_masks():
    mask = torch.zeros((1, 40, 60), dtype=torch.uint8)
    mask[0, 10:30, 5:20] = 1
    photo = (mask * 255).expand(3, -1, -1)
    image, target = ResizeAugmentation((40,), 60, flip=1.0)(photo, target_of(mask), np.random.default_rng(0))
    assert target.boxes.tolist() == [[40, 10, 55, 30]]
    assert torch.equal(target.masks, image[:1] // 255)
    assert torch.equal(image.flip(2), photo)


def test_the_longer_side_has_a_limit():
    _, target = resized(Target.make([[0, 0, 3000, 20]], [0]), (20, 3000), 800, long_side=1333)
    assert target.image_size == (9, 1333)
    torch.testing.assert_close(target.boxes, torch.tensor([[0.0, 0, 1333, 9]]))


def test_short_sides_and_flips_are_drawn_from_the_generator():
    image, augment = torch.zeros((3, 40, 60), dtype=torch.uint8), ResizeAugmentation((20, 30, 40), 100)
    target = Target.make([[0, 0, 10, 10]], [0])
    seen = [augment(image, target, np.random.default_rng([7, seed]))[1] for seed in range(40)]
    again = [augment(image, target, np.random.default_rng([7, seed]))[1] for seed in range(40)]
    assert {target.image_size for target in seen} == {(20, 30), (30, 45), (40, 60)}
    assert 8 <= sum(bool(target.boxes[0, 0] > 0) for target in seen) <= 32
    assert [(a.image_size, a.boxes.tolist()) for a in seen] == [(b.image_size, b.boxes.tolist()) for b in again]


def test_flags_follow_and_objects_of_which_nothing_is_left_go():
    masks = torch.zeros((3, 40, 60), dtype=torch.uint8)
    masks[0, :10, :10] = masks[2, 20:, 30:] = 1
    boxes = [[-5, -5, 10, 10], [60, 0, 70, 10], [30, 20, 60, 40]]
    target = Target.make(boxes, [4, 5, 6], crowd=[False, False, True], masks=encode(masks), area=[1, 2, 3])
    _, after = resized(target, (40, 60), 20)
    assert after.boxes.tolist() == [[0, 0, 5, 5], [15, 10, 30, 20]]
    assert after.labels.tolist() == [4, 6]
    assert after.crowd.tolist() == [False, True]
    assert after.area.tolist() == [1, 3]
    assert [bounding_box(mask).tolist() for mask in after.masks] == after.boxes.tolist()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_images_without_objects(flip):
    _, with_masks = resized(Target.make(masks=RleMasks((), (40, 60))), (40, 60), 20, flip)
    assert with_masks.masks.shape == (0, 20, 30)
    assert with_masks.boxes.shape == (0, 4)
    _, without = resized(Target.make(), (40, 60), 20, flip)
    assert without.masks is None
    assert without.image_size == (20, 30)

from dataclasses import replace

import numpy as np
import pytest
import torch

from vovnet.data.transforms import SSDAugmentation
from vovnet.masks import encode
from vovnet.structures import Target

from .one_pass_augmentation import OnePassAugmentation

PLAIN = {"photometric": 0.0, "expand": 1.0, "crop_min_scale": 1.0, "flip": 0.0}


def image_and_target(height=60, width=80):
    """A grey image with one white rectangle at x 20…40, y 10…30, and its box."""
    image = torch.full((3, height, width), 100, dtype=torch.uint8)
    image[:, 10:30, 20:40] = 255
    return image, Target.make([[20, 10, 40, 30]], [2])


def augmentation(size=(60, 60), **options):
    return SSDAugmentation(size, (123.0, 117.0, 104.0), **(PLAIN | options))


def white_box(image):
    """The bounding box of what is nearly white."""
    ys, xs = (image.min(dim=0).values > 200).nonzero(as_tuple=True)
    return torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()


def test_plain_is_a_warp():
    image, target = augmentation((30, 40))(*image_and_target(), np.random.default_rng(0))
    assert image.shape == (3, 30, 40)
    assert image.dtype == torch.uint8
    torch.testing.assert_close(target.boxes, torch.tensor([[10.0, 5, 20, 15]]))


@pytest.mark.parametrize("seed", range(40))
def test_boxes_stay_on_their_objects(seed):
    """Through expansion, crop, warp and all flips the box still bounds the white rectangle, or what the crop left."""
    augment = augmentation((300, 300), expand=2.0, crop_min_scale=0.5, flip=0.5, flip_vertical=0.5, transpose=0.5)
    image, target = augment(*image_and_target(240, 320), np.random.default_rng(seed))
    if len(target):  # else a crop has thrown the object out
        scale = 300 / 320
        torch.testing.assert_close(target.boxes[0], white_box(image), atol=4 / scale, rtol=0)
        assert (target.boxes >= 0).all()
        assert (target.boxes <= 300).all()
        assert target.labels.tolist() == [2]


def test_same_seed_same_result_and_other_seed_another():
    augment = SSDAugmentation((60, 60), (123.0, 117.0, 104.0))
    first = [augment(*image_and_target(), np.random.default_rng([1, seed])) for seed in range(8)]
    again = [augment(*image_and_target(), np.random.default_rng([1, seed])) for seed in range(8)]
    for (a, ta), (b, tb) in zip(first, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(ta.boxes, tb.boxes)
    assert not all(torch.equal(first[0][0], image) for image, _ in first[1:])


@pytest.mark.parametrize("option", ["flip", "flip_vertical", "transpose"])
def test_flipping_twice_is_nothing(option):
    augment = augmentation((64, 64), **{option: 1.0})
    once = augment(*image_and_target(64, 64), np.random.default_rng(0))
    twice = augment(*once, np.random.default_rng(0))
    original = augmentation((64, 64))(*image_and_target(64, 64), np.random.default_rng(0))
    assert not torch.equal(once[0], original[0])
    assert torch.equal(twice[0], original[0])
    assert torch.equal(twice[1].boxes, original[1].boxes)


def test_expansion_surrounds_the_image_with_the_mean():
    augment = augmentation((120, 160), expand=4.0)
    seen = []
    for seed in range(20):
        image, target = augment(*image_and_target(), np.random.default_rng(seed))
        corner = image[:, 0, 0].tolist()
        shrunk = (target.boxes[0, 2] - target.boxes[0, 0]).item() < 39
        seen.append(shrunk)
        if shrunk and corner != [100, 100, 100]:
            assert corner == [123, 117, 104]
    assert 4 <= sum(seen) <= 16  # half of them


def test_a_crop_keeps_objects_whose_centre_it_holds():
    augment = augmentation((60, 60), crop_min_scale=0.3)
    counts = [len(augment(*image_and_target(), np.random.default_rng(seed))[1]) for seed in range(60)]
    assert set(counts) == {0, 1}  # the sampler without an IoU limit may lose the object
    assert sum(counts) > 40


def test_image_without_objects_is_never_cropped():
    image, _ = image_and_target()
    augment = augmentation((60, 80), crop_min_scale=0.3)
    for seed in range(10):
        result, target = augment(image, Target.make(), np.random.default_rng(seed))
        assert len(target) == 0
        assert torch.equal(white_box(result), torch.tensor([20.0, 10, 40, 30]))


def test_colours_change_but_geometry_does_not():
    augment = augmentation((60, 80), photometric=1.0)
    plain, _ = augmentation((60, 80))(*image_and_target(), np.random.default_rng(0))
    changed = []
    for seed in range(10):
        image, target = augment(*image_and_target(), np.random.default_rng(seed))
        assert target.boxes.tolist() == [[20.0, 10.0, 40.0, 30.0]]
        changed.append((image.float() - plain.float()).abs().mean().item())
    assert min(changed) > 1


def test_flags_follow_their_objects():
    image, _ = image_and_target()
    target = Target.make([[20, 10, 40, 30], [0, 0, 5, 5]], [0, 1], difficult=[True, False], crowd=[False, True])
    _, result = augmentation((60, 80), flip=1.0)(image, target, np.random.default_rng(0))
    assert result.difficult.tolist() == [True, False]
    assert result.crowd.tolist() == [False, True]
    assert result.boxes.tolist() == [[40.0, 10.0, 60.0, 30.0], [75.0, 0.0, 80.0, 5.0]]


def test_masks_are_left_out():
    """Detectors that take warped images find boxes only."""
    image, target = image_and_target()
    masks = encode((image[:1] > 200).to(torch.uint8))
    seen, result = augmentation((60, 80), flip=1.0)(image, replace(target, masks=masks), np.random.default_rng(0))
    expected, same = augmentation((60, 80), flip=1.0)(image, target, np.random.default_rng(0))
    assert result.masks is None
    assert torch.equal(seen, expected)
    assert torch.equal(result.boxes, same.boxes)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(40, 40), (30, 50)])
def test_the_planned_augmentation_is_that_of_one_pass(size, antialias):
    """Bit for bit, and with as many random numbers, so that runs can be repeated and resumed across versions."""
    shapes, objects = np.random.default_rng(0), torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.3, 0.1, 0.9, 0.3]])
    for seed in range(60):
        height, width = shapes.integers(1, 120, 2)
        image = torch.from_numpy(shapes.integers(0, 256, (3, height, width), dtype=np.uint8))
        target = Target.make(objects[: seed % 3] * torch.tensor([width, height] * 2), [4, 7][: seed % 3])
        options = {
            "flip_vertical": 0.5,
            "transpose": 0.5,
            "antialias": antialias,
            "photometric": [0.5, 1.0, 0.0][seed % 3],
        }
        options |= {"expand": [4.0, 1.0, 8.0][seed % 3], "crop_min_scale": [0.3, 0.05, 1.0][seed // 3 % 3]}
        rngs = [np.random.default_rng(seed) for _ in range(2)]
        expected, wanted = OnePassAugmentation(size, (123.0, 117.0, 104.0), **options)(image, target, rngs[0])
        drawn, found = SSDAugmentation(size, (123.0, 117.0, 104.0), **options)(image, target, rngs[1])
        assert torch.equal(drawn, expected), seed
        assert torch.equal(found.boxes, wanted.boxes)
        assert torch.equal(found.labels, wanted.labels)
        assert rngs[0].random() == rngs[1].random()

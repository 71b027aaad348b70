"""What the device draws is what a loader process draws, within rounding: run here on the CPU, on photographs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from vovnet.data.batches import device_drawing
from vovnet.data.batches.device_drawing import ImagePart, LeaveToDevice, collate_parts, draw_images
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.data.loading import BatchStream, training_batches
from vovnet.data.transforms import Colours, SSDAugmentation
from vovnet.errors import UsageError
from vovnet.structures import Target

from ....other_device import OTHER, other_device

MEAN = (123.0, 117.0, 104.0)
NAMES = ("bilinear", "box", "nearest", "bicubic", "lanczos")
PHOTOS = (
    sorted(Path("samples/photos").glob("*.[jp][pn]g"))[:3] + sorted(Path("samples/bccd/JPEGImages").glob("*.jpg"))[:1]
)


@pytest.fixture(scope="module")
def photos() -> list[Tensor]:
    return [read_image(path) for path in PHOTOS]


def planned(augmentation: SSDAugmentation, image: Tensor, seed: int, **changes: object) -> ImagePart:
    height, width = image.shape[-2:]
    target = Target.make([[width * 0.2, height * 0.2, width * 0.7, height * 0.8]], [0])
    plan, _ = augmentation.plan((height, width), target, np.random.default_rng(seed))
    plan = replace(plan, **changes)
    return ImagePart(plan.part_of(image).permute(1, 2, 0), plan, augmentation)


def both(augmentation: SSDAugmentation, images: list[Tensor], seeds: range, **changes: object) -> tuple[Tensor, Tensor]:
    """The images as drawn by Pillow, one by one, and as drawn at once."""
    chosen = [images[seed % len(images)] for seed in seeds]
    parts = [planned(augmentation, image, seed, **changes) for image, seed in zip(chosen, seeds, strict=True)]
    expected = [augmentation.draw(image, part.plan) for image, part in zip(chosen, parts, strict=True)]
    return torch.stack(expected), draw_images(collate_parts(parts))


def difference(expected: Tensor, drawn: Tensor) -> Tensor:
    assert drawn.shape == expected.shape
    assert drawn.dtype == torch.uint8
    return (drawn.int() - expected.int()).abs()


@pytest.mark.parametrize("antialias", [True, False], ids=["pillow", "opencv"])
@pytest.mark.parametrize("interpolation", range(5), ids=NAMES)
def test_every_interpolation(photos: list[Tensor], interpolation: int, antialias: bool) -> None:
    augmentation = SSDAugmentation((150, 150), MEAN, flip_vertical=0.5, transpose=0.5, antialias=antialias)
    differences = difference(*both(augmentation, photos, range(24), interpolation=interpolation)).float()
    assert differences.mean() < 0.5
    # The nearest of two pixels that are equally near is Pillow's choice, which hangs on its rounding errors.
    assert (differences > 2).float().mean() < (0.05 if interpolation == 2 and antialias else 1e-3)


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (60, 60), (700, 700)])
@pytest.mark.parametrize("antialias", [True, False], ids=["pillow", "opencv"])
def test_every_size(photos: list[Tensor], size: tuple[int, int], antialias: bool) -> None:
    """Sides that shrink, grow, or do both; OpenCV's area differs where one of them grows."""
    augmentation = SSDAugmentation(size, MEAN, photometric=0.0, antialias=antialias)
    for interpolation in (0, 1, 3):
        differences = difference(*both(augmentation, photos, range(6), interpolation=interpolation)).float()
        assert (differences > 2).float().mean() < 1e-3


@pytest.mark.parametrize("flips", range(8))
def test_every_flip(photos: list[Tensor], flips: int) -> None:
    changes = {name: bool(flips >> bit & 1) for bit, name in enumerate(("flip", "flip_vertical", "transpose"))}
    augmentation = SSDAugmentation((80, 80), MEAN, photometric=0.0, transpose=0.5)
    expected, drawn = both(augmentation, photos, range(6), interpolation=0, **changes)
    assert difference(expected, drawn).max() <= 1
    if flips:
        plain, _ = both(
            augmentation, photos, range(6), interpolation=0, flip=False, flip_vertical=False, transpose=False
        )
        assert difference(plain, drawn).float().mean() > 2


@pytest.mark.parametrize("contrast_last", [True, False])
@pytest.mark.parametrize(
    "colours",
    [
        Colours(),
        Colours(brightness=-31.7),
        Colours(contrast=1.4319),
        Colours(saturation=0.5513),
        Colours(saturation=1.4713),
        Colours(hue=-24.8),
        Colours(hue=17.3),
        Colours(28.93, 0.6117, 1.3819, -9.71),
        Colours(-19.21, 1.4931, 0.7117, 25.13),
    ],
)
def test_every_colour_and_both_orders(photos: list[Tensor], colours: Colours, contrast_last: bool) -> None:
    """Pixel by pixel, without a warp; steps of Pillow's HSV included."""
    colours = replace(colours, contrast_last=contrast_last)
    image = torch.cat([photo[:, :96, :96] for photo in photos], dim=2)
    size = (image.shape[1], image.shape[2])
    augmentation = SSDAugmentation(size, MEAN, expand=1.0, crop_min_scale=1.0, flip=0.0)
    differences = difference(*both(augmentation, [image], range(1), colours=colours))
    assert (differences > 0).float().mean() < 1e-3
    if colours == Colours(contrast_last=contrast_last):
        assert differences.max() == 0


def test_all_colours_there_are() -> None:
    """A cube of all colours whose levels are multiples of five, through HSV and back."""
    levels = torch.arange(0, 256, 5, dtype=torch.uint8)
    image = torch.cartesian_prod(levels, levels, levels).reshape(len(levels), -1, 3).permute(2, 0, 1)
    size = (image.shape[1], image.shape[2])
    augmentation = SSDAugmentation(size, MEAN, expand=1.0, crop_min_scale=1.0, flip=0.0)
    for colours in (Colours(hue=1e-9), Colours(hue=11.41, saturation=1.2017), Colours(hue=-23.63, saturation=0.8017)):
        differences = difference(*both(augmentation, [image], range(1), colours=colours))
        assert (differences > 0).float().mean() < 1e-4


@pytest.mark.parametrize("expand", [1.0, 4.0, 16.0])
def test_expansion_and_crops_in_the_border(photos: list[Tensor], expand: float) -> None:
    small = [photo[:, :60, :90] for photo in photos]
    augmentation = SSDAugmentation((64, 64), MEAN, expand=expand, crop_min_scale=0.05)
    expected, drawn = both(augmentation, small, range(120), interpolation=0)
    differences = difference(expected, drawn).float()
    assert differences.mean() < 0.1
    assert (differences > 2).float().mean() < 1e-3
    border = torch.tensor([123, 117, 104], dtype=torch.uint8)[:, None, None]
    empty = (expected == border).flatten(1).all(dim=1)
    assert torch.equal(drawn[empty], expected[empty])
    assert empty.any() == (expand > 1)


def test_a_batch_that_lies_in_the_border_only() -> None:
    augmentation = SSDAugmentation((20, 30), MEAN)
    image = torch.zeros((3, 9, 9), dtype=torch.uint8)
    parts = [planned(augmentation, image, seed, part=(0, 0, 0, 0), crop_size=(4, 7), offset=(0, 0)) for seed in (0, 1)]
    undrawn = collate_parts(parts)
    assert undrawn.pixels.shape == (1, 3)
    assert draw_images(undrawn).flatten(2).unique(dim=2).tolist() == [[[123], [117], [104]]] * 2


def test_groups_change_nothing(photos: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that are too large to be drawn together are drawn in turn."""
    augmentation = SSDAugmentation((50, 70), MEAN)
    _, together = both(augmentation, photos, range(12))
    parts = [planned(augmentation, photos[seed % len(photos)], seed) for seed in range(12)]
    monkeypatch.setattr(device_drawing, "_MOST_VALUES", 2**20)
    undrawn = collate_parts(parts)
    assert 2 < len(undrawn.groups) <= 12
    assert [group.images[0] for group in undrawn.groups[1:]] == [group.images[1] for group in undrawn.groups[:-1]]
    assert difference(together, draw_images(undrawn)).max() <= 1  # sums in another order


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.tuples(st.integers(1, 48), st.integers(1, 48)),
    seed=st.integers(0, 2**32 - 1),
    antialias=st.booleans(),
)
def test_any_image_and_any_plan(height: int, width: int, size: tuple[int, int], seed: int, antialias: bool) -> None:
    """A plain image keeps one colour inside, whatever happens to it, and both paths agree."""
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(np.full((3, height, width), rng.integers(0, 256), np.uint8))
    augmentation = SSDAugmentation(size, MEAN, flip_vertical=0.5, transpose=0.5, expand=8.0, antialias=antialias)
    expected, drawn = both(augmentation, [image], range(seed, seed + 3), interpolation=0)
    assert difference(expected, drawn).max() <= 2


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), antialias=st.booleans())
def test_a_plan_without_changes_gives_the_image(seed: int, antialias: bool) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 50, 2))
    image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    options = {"photometric": 0.0, "expand": 1.0, "crop_min_scale": 1.0, "flip": 0.0}
    augmentation = SSDAugmentation((height, width), MEAN, **options, antialias=antialias)
    parts = [planned(augmentation, image, seed, interpolation=kind) for kind in range(5)]
    assert (draw_images(collate_parts(parts)) == image).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_both_paths(workers: int) -> None:
    """The same images, crops, flips and boxes, whoever draws; `to` draws on the device."""
    dataset = open_dataset("samples/bccd", "train")
    augmentation = SSDAugmentation((128, 128), MEAN, transpose=0.5)
    stream = BatchStream(len(dataset), batch_size=4, micro_batch_size=4, steps=3, seed=5)
    options = {"pin_memory": False}
    expected = list(training_batches(dataset, augmentation, stream, workers=0, **options))
    undrawn = list(training_batches(dataset, LeaveToDevice(augmentation), stream, workers=workers, **options))
    assert [len(batch.images) for batch in undrawn] == [4, 4, 4]
    for batch, wanted in zip(undrawn, expected, strict=True):
        assert batch.images.shape == (4, 3, 0, 0)
        drawn = batch.to(torch.device("cpu"))
        assert drawn.undrawn is None
        assert (drawn.names, drawn.counts) == (wanted.names, wanted.counts)
        assert torch.equal(drawn.packed_objects, wanted.packed_objects)
        differences = difference(wanted.images, drawn.images).float()
        assert differences.mean() < 0.5
        assert (differences > 2).float().mean() < 0.05


def test_drawing_is_not_done_in_half_precision(photos: list[Tensor]) -> None:
    parts = [planned(SSDAugmentation((64, 64), MEAN), photo, 3) for photo in photos]
    undrawn = collate_parts(parts)
    plain = draw_images(undrawn)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(draw_images(undrawn), plain)


def test_a_batch_travels_in_two_tensors(photos: list[Tensor]) -> None:
    """Every tensor that a loader process sends takes a file descriptor, and every copy to a GPU its time."""
    undrawn = collate_parts([planned(SSDAugmentation((64, 64), MEAN), photo, 3) for photo in photos])
    assert [field for field, value in undrawn._asdict().items() if isinstance(value, Tensor)] == ["pixels", "plans"]
    sizes = [part.pixels.shape[:2].numel() for part in (planned(SSDAugmentation((64, 64), MEAN), p, 3) for p in photos)]
    assert len(undrawn.pixels) == sum(sizes) + 1


def test_a_large_image_shrinks_like_pillows(photos: list[Tensor]) -> None:
    """By a factor of ten and more, where every filter takes many pixels."""
    large = Image.fromarray(photos[0].permute(1, 2, 0).numpy()).resize((1500, 900), Image.Resampling.BICUBIC)
    image = torch.from_numpy(np.array(large)).permute(2, 0, 1)
    augmentation = SSDAugmentation((70, 80), MEAN, photometric=0.0, expand=1.0, crop_min_scale=1.0)
    for interpolation in (0, 1, 3, 4):
        differences = difference(*both(augmentation, [image], range(1), interpolation=interpolation))
        assert differences.max() <= 2


@pytest.mark.parametrize("antialias", [True, False], ids=["pillow", "opencv"])
def test_a_gpu_need_not_wait(photos: list[Tensor], antialias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes are known before the pixels come, and all constants are made on the device."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # not for torch's "meta"
    augmentation = SSDAugmentation((40, 40), MEAN, transpose=0.5, antialias=antialias)
    undrawn = collate_parts([planned(augmentation, photo, seed) for seed, photo in enumerate(photos)])
    expected = draw_images(undrawn)
    with other_device() as waits:
        moved = undrawn.to(OTHER)
        waits.clear()  # of memory that is not pinned
        drawn = draw_images(moved)
        assert not waits
        assert torch.equal(drawn.cpu(), expected)


def test_a_device_without_float64_is_refused(photos: list[Tensor]) -> None:
    undrawn = collate_parts([planned(SSDAugmentation((40, 40), MEAN), photos[0], 0)])
    with pytest.raises(UsageError, match="mps does not have: set draw_images=workers"):
        undrawn.to(torch.device("mps"))


def test_pinned_memory_is_drawn_like_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinning, which needs a GPU, goes through the whole batch and turns tuples into lists."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor, *_: tensor.clone())
    dataset = open_dataset("samples/bccd", "train")
    stream = BatchStream(len(dataset), batch_size=4, micro_batch_size=4, steps=1)
    augment = LeaveToDevice(SSDAugmentation((64, 64), MEAN))
    (batch,) = training_batches(dataset, augment, stream, workers=0, pin_memory=False)
    pinned = pin_memory(batch)
    assert pinned.undrawn.pixels is not batch.undrawn.pixels
    assert torch.equal(pinned.to(torch.device("cpu")).images, batch.to(torch.device("cpu")).images)

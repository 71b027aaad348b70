"""The resize without PyTorch gives the pixels of the resize with it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vovnet.models.preprocessing import Preprocessing
from vovnet.runtime.resize import input_size, resize, to_input

from .described import INFO

SAMPLES = Path(__file__).parents[3] / "samples"
SIZES = [
    ((480, 640), (300, 300)),
    ((1, 1), (300, 300)),
    ((1, 700), (304, 304)),
    ((700, 1), (320, 320)),
    ((299, 301), (300, 300)),
    ((301, 300), (300, 300)),
    ((20, 31), (512, 512)),
    ((1200, 9), (5, 400)),
    ((4, 2000), (700, 3)),
    ((640, 480), (1, 1)),
    ((37, 300), (300, 300)),
    ((76, 207), (522, 153)),
]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_torch(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    return preprocessing.resize(torch.tensor(pixels).permute(2, 0, 1)).permute(1, 2, 0).numpy()


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    assert first.dtype == second.dtype == np.uint8
    assert first.shape == second.shape
    return np.abs(first.astype(int) - second)


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("antialias", [True, False])
def test_at_most_one_grey_level_from_torch(before, after, antialias):
    pixels = noise(*before)
    off = difference(
        resize(pixels, after, antialias=antialias), with_torch(pixels, Preprocessing(after, antialias=antialias))
    )
    assert off.max() <= 1
    if not antialias:  # few values lie so near a half that the order of the additions decides
        assert (off > 0).mean() < 5e-3


def test_many_sizes_without_antialiasing():
    random = np.random.default_rng(1)
    values = differing = 0
    for _ in range(300):
        before, after = np.exp(random.uniform(0, np.log(300), (2, 2))).astype(int).tolist()
        pixels = noise(*before)
        off = difference(
            resize(pixels, after, antialias=False), with_torch(pixels, Preprocessing(tuple(after), antialias=False))
        )
        assert off.max() <= 1
        values, differing = values + off.size, differing + (off > 0).sum()
    assert differing / values < 1e-3


def test_many_sizes_with_antialiasing():
    random = np.random.default_rng(2)
    for _ in range(300):
        before, after = np.exp(random.uniform(0, np.log(300), (2, 2))).astype(int).tolist()
        pixels = noise(*before)
        assert (
            difference(resize(pixels, after, antialias=True), with_torch(pixels, Preprocessing(tuple(after)))).max()
            <= 1
        )


@pytest.mark.parametrize("size", [(300, 300), (512, 320)])
def test_photographs(size):
    for path in sorted(SAMPLES.rglob("*.jpg"))[:8]:
        pixels = np.array(Image.open(path).convert("RGB"))
        off = difference(resize(pixels, size, antialias=True), with_torch(pixels, Preprocessing(size)))
        assert off.max() <= 1
        assert off.mean() < 0.1


@pytest.mark.parametrize("antialias", [True, False])
def test_the_same_size_is_the_same_pixels(antialias):
    pixels = noise(30, 40)
    assert resize(pixels, (30, 40), antialias=antialias) is pixels


@pytest.mark.parametrize("image_size", [(480, 640), (640, 480), (1, 5000), (5000, 1), (800, 800)])
def test_the_aspect_ratio_is_kept_by_the_same_rule(image_size):
    info = replace(INFO, image_size=(80, 133), keep_ratio=True)
    preprocessing = Preprocessing((80, 133), keep_ratio=True)
    assert input_size(image_size, info) == preprocessing.input_size(image_size)
    pixels = noise(*image_size)
    planes = to_input(pixels, info)
    assert difference(planes.transpose(1, 2, 0), with_torch(pixels, preprocessing)).max() <= 1


def test_the_input_is_contiguous_planes():
    pixels = noise(48, 64)
    for info in (INFO, replace(INFO, antialias=False), replace(INFO, image_size=(48, 64))):
        planes = to_input(pixels, info)
        assert planes.dtype == np.uint8
        assert planes.flags.c_contiguous
        assert planes.shape == (3, *info.image_size)
        assert (planes[1] == resize(pixels, info.image_size, antialias=info.antialias)[:, :, 1]).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_only_rgb_pixels_are_taken(pixels):
    with pytest.raises(ValueError, match=r"expected RGB pixels, uint8 \(H, W, 3\), got"):
        to_input(pixels, INFO)


@pytest.mark.parametrize("shape", [(3000, 4000), (60, 200_000), (200_000, 60)])
def test_without_antialiasing_memory_is_bounded_by_the_result(shape):
    pixels = np.zeros((*shape, 3), np.uint8)
    tracemalloc.start()
    try:
        resize(pixels, (300, 300), antialias=False)
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("antialias", [True, False])
def test_an_input_has_the_planes_of_the_resized_image(before, after, antialias):
    pixels, info = noise(*before), replace(INFO, image_size=after, antialias=antialias)
    planes = to_input(pixels, info)
    assert np.array_equal(planes, resize(pixels, after, antialias=antialias).transpose(2, 0, 1))
    assert planes.flags.c_contiguous
    assert planes.flags.writeable, "runtimes share the memory of an array only if they may write to it"

"""Run-length codes in numpy, against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as oracle

from vovnet.run_lengths import compress, decode, encode_crop, expand

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'

BITMAPS = {
    "noise": lambda random: random.random((37, 53)) < 0.5,
    "blocks": lambda random: np.kron(random.random((9, 11)) < 0.4, np.ones((31, 17))) > 0,
    "nothing": lambda random: np.zeros((20, 30), dtype=np.bool_),
    "everything": lambda random: np.ones((20, 30), dtype=np.bool_),
    "one pixel": lambda random: np.ones((1, 1), dtype=np.bool_),
    "last pixel": lambda random: np.arange(600).reshape(20, 30) == 599,
    "one row": lambda random: random.random((1, 500)) < 0.5,
    "large": lambda random: np.arange(3000 * 2000).reshape(3000, 2000) > 5_000_000,
}


@pytest.mark.parametrize("kind", BITMAPS)
def test_codes_equal_pycocotools(kind: str) -> None:
    bitmap = BITMAPS[kind](np.random.default_rng(0))
    expected = oracle.encode(np.asfortranarray(bitmap, dtype=np.uint8))["counts"]
    assert encode_crop(bitmap, 0, 0, bitmap.shape) == expected
    assert np.array_equal(decode(expected, bitmap.shape), bitmap)


def test_a_crop_lies_in_its_image() -> None:
    random = np.random.default_rng(1)
    image = np.zeros((60, 50), dtype=np.bool_)
    image[20:, 7:31] = random.random((40, 24)) < 0.7
    expected = oracle.encode(np.asfortranarray(image, dtype=np.uint8))["counts"]
    assert encode_crop(image[20:, 7:31], 20, 7, image.shape) == expected


@pytest.mark.parametrize("seed", range(5))
def test_numbers_of_every_length_come_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    runs = (2.0 ** random.uniform(0, 31, size=200)).astype(np.int64)
    code = compress(runs)
    if runs.sum() < 2**31:
        assert oracle.frPyObjects({"size": [int(runs.sum()), 1], "counts": runs.tolist()}, 1, 1)["counts"] == code
    assert np.array_equal(expand(code, int(runs.sum())), runs)


def test_long_runs_equal_pycocotools() -> None:
    runs = [2**30, 15, 16, 2**29, 31, 32, 2**20, 1, 2**10, 511, 512]
    size = [sum(runs), 1]
    assert compress(runs) == oracle.frPyObjects({"size": size, "counts": runs}, *size)["counts"]


@pytest.mark.parametrize("code", [b"", b"\x00", b"hello", b"0000P", bytes([48 + 32] * 8), b"04", b"X\xff"])
def test_a_damaged_code_is_refused(code: bytes) -> None:
    with pytest.raises(ValueError, match="the mask's"):
        decode(code, (4, 5))


def test_a_huge_image_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(ValueError, match="at most"):
        decode(compress([2**30]), (2**15, 2**15))

"""Run-length codes, pasting and outlines against pycocotools and torchvision, and what damaged files may hold."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image

from vovnet.masks import RleMasks, decode, encode, from_coco, paste, to_polygons


def oracle_code(bitmap: npt.NDArray[np.bool_]) -> bytes:
    return oracle.encode(np.asfortranarray(bitmap, dtype=np.uint8))["counts"]


def noise(seed: int, count: int = 40) -> list[npt.NDArray[np.bool_]]:
    """Bitmaps of many sizes and densities."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 25, (count, 2))
    return [generator.random(size) < density for size, density in zip(sizes, np.linspace(0, 1, count), strict=True)]


def blobs(count: int, seed: int = 0) -> Tensor:
    """Smooth maps of 28 × 28 as a mask head gives them, partly above one half."""
    maps = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(maps, 7, 1, 3, count_include_pad=False)[:, 0].sub(0.5).mul(8).sigmoid()


def test_code_is_that_of_pycocotools_and_is_read_back() -> None:
    for bitmap in noise(0):
        masks = encode(torch.from_numpy(bitmap)[None])
        assert masks.counts == (oracle_code(bitmap),)
        assert np.array_equal(decode(masks)[0].numpy(), bitmap)
        assert masks.areas().tolist() == [bitmap.sum()]
        y, x = np.nonzero(bitmap)
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
        assert masks.boxes().tolist() == [box]
        (segmentation,) = masks.to_coco()
        assert from_coco(segmentation, masks.size) == masks.counts[0]


def test_any_value_but_zero_is_in_the_mask() -> None:
    assert encode(torch.tensor([[[0, 1], [255, 2]]], dtype=torch.uint8)) == encode(torch.tensor([[[0, 1], [1, 1]]]) > 0)


def test_no_masks() -> None:
    none = encode(torch.zeros(0, 5, 7, dtype=torch.bool))
    assert (len(none), none.size, none.to_coco(), to_polygons(none)) == (0, (5, 7), [], [])
    assert decode(none).shape == (0, 5, 7)
    assert none.areas().shape == (0,)
    assert none.boxes().shape == (0, 4)
    assert paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 7)) == none


def test_selection() -> None:
    masks = RleMasks((b"a", b"b", b"c"), (1, 1))
    assert masks[torch.tensor([2, 0])].counts == (b"c", b"a")
    assert masks[torch.tensor([False, True, False])].counts == (b"b",)
    assert len(masks[torch.zeros(0, dtype=torch.int64)]) == 0


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, dtype=torch.bool), torch.zeros(1, 2, 3)])
def test_encode_wants_bitmaps(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match="bool or uint8 of shape"):
        encode(wrong)


def test_polygons_are_drawn_as_by_pycocotools() -> None:
    generator = np.random.default_rng(1)
    for parts in (1, 2, 40):
        polygons = [generator.uniform(-10, 110, 2 * corners).tolist() for corners in generator.integers(3, 9, parts)]
        expected = oracle.merge(oracle.frPyObjects(polygons, 80, 100))["counts"]
        assert from_coco(polygons, (80, 100)) == expected


def test_uncompressed_runs() -> None:
    bitmap = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
    assert from_coco({"size": [2, 3], "counts": [2, 1, 1, 2]}, (2, 3)) == oracle_code(bitmap)
    assert from_coco({"size": [2, 3], "counts": [0, 6]}, (2, 3)) == oracle_code(np.ones((2, 3), dtype=bool))


def nested(depth: int) -> list[object]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "polygon",
        3,
        [],
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, float("inf")]],
        [[1, 2, 3, 4, 5, 10**400]],
        nested(900),
        {"size": nested(900)},
        [[0, 0, 30, 0, 30, 20], None],
        [1, 2, 3, 4, 5, 6],
        {},
        {"counts": [600]},
        {"size": [20, 30]},
        {"size": [20, 30], "counts": None},
        {"size": [30, 20], "counts": [600]},
        {"size": "20, 30", "counts": [600]},
        {"size": [20, 30], "counts": []},
        {"size": [20, 30], "counts": [599]},
        {"size": [20, 30], "counts": [-1, 601]},
        {"size": [20, 30], "counts": [299.5, 300.5]},
        {"size": [20, 30], "counts": [10**400]},
        {"size": [20, 30], "counts": ["600"]},
        {"size": [20, 30], "counts": [[600]]},
        {"size": [20, 30], "counts": ""},
        {"size": [20, 30], "counts": "h"},
        {"size": [20, 30], "counts": "hh"},
        {"size": [20, 30], "counts": "ooooooooooooooooooooooooooo0"},
        {"size": [20, 30], "counts": "\N{PILE OF POO}"},
        {"size": [20, 30], "counts": "\ud800"},
        {"size": [20, 30], "counts": "0 0"},
        {"size": [20, 30], "counts": b"\xff\x00"},
    ],
)
def test_what_is_no_mask_is_refused(segmentation: object) -> None:
    with pytest.raises(ValueError, match="mask"):
        from_coco(segmentation, (20, 30))


@given(st.binary(max_size=40) | st.text("0123456789:;<=>?@ABCO_`lmno", max_size=12).map(str.encode))
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'
def test_a_code_that_passes_describes_the_whole_image(code: bytes) -> None:
    """What is refused could make the library that reads it fail, or leave pixels undefined."""
    try:
        from_coco({"size": [4, 5], "counts": code}, (4, 5))
    except ValueError:
        return
    bitmap = oracle.decode({"size": [4, 5], "counts": code})
    assert np.array_equal(decode(RleMasks((code,), (4, 5)))[0].numpy(), bitmap)
    assert RleMasks((code,), (4, 5)).areas().tolist() == [bitmap.sum()]


def test_a_cut_code_is_refused() -> None:
    (code,) = encode(torch.from_numpy(np.random.default_rng(0).random((1, 70, 90)) < 0.3)).counts
    for length in range(len(code)):
        with pytest.raises(ValueError, match="run"):
            from_coco({"size": [70, 90], "counts": code[:length]}, (70, 90))


@pytest.mark.parametrize(
    "segmentation",
    [
        [np.random.default_rng(0).uniform(0, 3000, 100_000).tolist()],  # would draw 10⁸ points
        [[x, y, x + 1, y, x + 1, y + 1] for x, y in np.random.default_rng(0).uniform(0, 3000, (30_000, 2)).tolist()],
        {"size": [3000, 4000], "counts": "0" * 3_000_000},
        {"size": [3000, 4000], "counts": "o" * 3_000_000},
    ],
    ids=["tangle", "many parts", "empty runs", "endless number"],
)
def test_hostile_masks_take_no_time(segmentation: object) -> None:
    start = time.process_time()
    with contextlib.suppress(ValueError):
        from_coco(segmentation, (3000, 4000))
    assert time.process_time() - start < 3


@pytest.mark.parametrize("size", [(40, 60), (30, 30), (1, 50), (50, 1), (97, 64)])
def test_paste_equals_torchvision(size: tuple[int, int]) -> None:
    height, width = size
    generator = torch.Generator().manual_seed(height)
    corner = torch.rand(30, 2, generator=generator) * torch.tensor([width, height]) - 2.0
    boxes = torch.cat([corner, corner + torch.rand(30, 2, generator=generator) * torch.tensor([width, height])], dim=1)
    boxes[0] = torch.tensor([0, 0, width, height])
    boxes[1] = torch.tensor([-5, -7, width + 9, height + 4])
    boxes[2] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    boxes[3] = torch.tensor([0.4, 0.4, 0.6, 0.6])
    boxes[4] = torch.tensor([width - 1, height - 1, width, height])
    boxes[5] = torch.tensor([0, 0, width, height / 2])
    boxes[6] = torch.tensor([width / 3, 0, width / 2, height])
    boxes[:, 2:].clamp_(min=0)  # torchvision cannot paste outside the image
    probabilities = blobs(30, seed=width)
    probabilities[[0, 6]] = 1.0  # runs go on from column to column
    probabilities[10:20] = torch.rand(10, 28, 28, generator=generator)
    expected = paste_masks_in_image(probabilities[:, None], boxes, size)[:, 0] > 0.5
    assert expected[2:20].any()
    assert paste(probabilities, boxes, size) == encode(expected)


def test_paste_without_a_pixel_in_the_image() -> None:
    boxes = torch.tensor([[100.0, 3, 120, 9], [2, -30, 9, -20], [31, 18, 90, 90], [9, 9, 2, 5], [-2, 9, -9, 5]])
    assert paste(torch.ones(5, 28, 28), boxes, (20, 30)).areas().tolist() == [0] * 5
    assert paste(torch.zeros(1, 28, 28), torch.tensor([[2.0, 2, 9, 9]]), (20, 30)).areas().tolist() == [0]


def test_paste_takes_other_thresholds_and_precisions() -> None:
    boxes = torch.tensor([[2.0, 3, 40, 50]])
    half = blobs(1).half()
    areas = [int(paste(half, boxes, (60, 60), threshold=threshold).areas()) for threshold in (0.2, 0.5, 0.8)]
    assert areas == sorted(areas, reverse=True)
    assert len(set(areas)) == 3


def test_paste_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 1, 28, 28\) and \(2, 4\)"):
        paste(torch.ones(2, 1, 28, 28), torch.ones(2, 4), (20, 30))
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        paste(torch.ones(2, 28, 28), torch.ones(3, 4), (20, 30))


def test_outline_by_hand() -> None:
    bitmap = torch.tensor([[0, 1, 1, 0, 0], [0, 1, 0, 0, 1]], dtype=torch.uint8)[None]
    assert to_polygons(encode(bitmap)) == [[[1, 0, 3, 0, 3, 1, 2, 1, 2, 2, 1, 2], [4, 1, 5, 1, 5, 2, 4, 2]]]


def without_holes(bitmap: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """All but the background that is joined, by edges or corners, to the image's surroundings."""
    outside = np.zeros(np.add(bitmap.shape, 2), dtype=bool)
    outside[[0, -1]] = outside[:, [0, -1]] = True
    height, width = outside.shape
    for _ in range(bitmap.size):
        around = np.pad(outside, 1)
        shifts = [around[y : y + height, x : x + width] for y in range(3) for x in range(3)]
        grown = np.logical_or.reduce(shifts) & ~np.pad(bitmap, 1)
        if (grown == outside).all():
            break
        outside = grown | outside
    return ~outside[1:-1, 1:-1]


def test_outlines_are_exact_but_for_holes() -> None:
    holes = 0
    for bitmap in noise(3, count=80):
        (polygons,) = to_polygons(encode(torch.from_numpy(bitmap)[None]))
        if not bitmap.any():
            assert polygons == []
            continue
        filled = without_holes(bitmap)
        holes += (filled != bitmap).any()
        assert all(len(polygon) >= 8 for polygon in polygons)
        assert from_coco(polygons, bitmap.shape) == oracle_code(filled)
        assert oracle.merge(oracle.frPyObjects(polygons, *bitmap.shape))["counts"] == oracle_code(filled)
    assert holes > 10


def test_outline_of_a_pasted_disc() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 28), torch.linspace(-1, 1, 28), indexing="ij")
    masks = paste((1.3 - x**2 - y**2)[None], torch.tensor([[10.0, 20, 390, 250]]), (300, 400))
    ((polygon,),) = to_polygons(masks)
    assert masks.areas().item() > 30_000
    assert from_coco([polygon], masks.size) == masks.counts[0]


def test_sizes_that_no_library_can_count_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 2,147,483,647 pixels, got 100000 × 100000"):
        from_coco({"size": [100000, 100000], "counts": [10**10]}, (100000, 100000))


@pytest.mark.parametrize("code", ["oooooo?" * 40, "PPPPPP0" * 40, "0" + "oooooo?" * 3 + "PPPPPPP" * 3 + "0"])
def test_runs_that_exceed_the_image_are_refused_before_they_are_added(code: str) -> None:
    with pytest.raises(ValueError, match="runs must sum to 200|not a run-length code"):
        from_coco({"size": [10, 20], "counts": code}, (10, 20))


def test_the_outlines_of_a_mask_are_bounded() -> None:
    zigzag = [[value for y in range(700) for value in (3000 * (y % 2), y)] for _ in range(6)]
    assert from_coco(zigzag[:1], (3000, 3000))
    with pytest.raises(ValueError, match="outlines of a mask must be at most 10,000,000 pixels long in all"):
        from_coco(zigzag, (3000, 3000))

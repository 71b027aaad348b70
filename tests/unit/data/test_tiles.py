"""Training images cut into tiles: which there are, which objects they have, and what they show."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.images import read_image
from vovnet.data.tiles import cut_into_tiles, show_tile, whole_images
from vovnet.runtime.tiles import Tiling
from vovnet.structures import Target

COLOUR = (10.0, 20.4, 30.0)


def make_dataset(folder: Path, *boxes: list[list[float]], size: tuple[int, int] = (100, 150)) -> DetectionDataset:
    samples = []
    for index, of_image in enumerate(boxes):
        path = folder / f"{index}.png"
        pixels = np.random.default_rng(index).integers(100, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path, index, Target.make(of_image, [0] * len(of_image)), size))
    return DetectionDataset(folder, "voc", "train", ("a",), (1,), tuple(samples))


def windows_of(dataset: DetectionDataset) -> list[tuple[int, int, int, int]]:
    return [sample.tile.window for sample in dataset if sample.tile]


def test_an_object_belongs_to_the_tiles_that_show_half_of_it(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [[90, 10, 110, 30]])
    tiles = cut_into_tiles(dataset, Tiling(100, 0.5), seed=0)  # at 0 and 50
    assert windows_of(tiles) == [(0, 0, 100, 100), (50, 0, 150, 100)]
    first, second = tiles
    assert first.target.boxes.tolist() == [[90, 10, 100, 30]]
    assert first.target.area.tolist() == [200]
    assert second.target.boxes.tolist() == [[40, 10, 60, 30]]
    assert {sample.image_size for sample in tiles} == {(100, 100)}


def test_a_smaller_part_is_painted_over_but_no_object_of_the_tile(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [[92, 10, 112, 30], [84, 20, 98, 40]])
    first = cut_into_tiles(dataset, Tiling(100, 0.5), seed=0)[0]
    assert first.target.boxes.tolist() == [[84, 20, 98, 40]]
    image = read_image(first.image_path)
    shown = show_tile(image, first, COLOUR)
    painted = (shown == torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]).all(dim=0)
    expected = torch.zeros(100, 100, dtype=torch.bool)
    expected[10:30, 92:100] = True
    expected[20:40, 84:98] = False
    assert torch.equal(painted, expected)
    assert torch.equal(shown[:, ~expected], image[:, :, :100][:, ~expected])
    assert (read_image(first.image_path) == image).all()


def test_an_image_is_a_sample_itself_if_no_tile_shows_some_object_whole(tmp_path: Path) -> None:
    large, small = [10.0, 10.0, 140.0, 90.0], [20.0, 20.0, 30.0, 30.0]
    tiles = cut_into_tiles(make_dataset(tmp_path, [large, small], [small]), Tiling(100, 0.2), seed=0)
    assert windows_of(tiles) == [(0, 0, 100, 100), (50, 0, 150, 100), (0, 0, 150, 100), (0, 0, 100, 100)]
    assert tiles[2].target.boxes.tolist() == [large, small]


def test_many_tiles_take_little_memory(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, *[[[x, 5.0, x + 20, 25.0] for x in range(0, 280, 30)]] * 20, size=(32, 300))
    tiling = Tiling(32, 0.8)
    cut_into_tiles(dataset, tiling, seed=0)
    tracemalloc.start()
    tiles = cut_into_tiles(dataset, tiling, seed=0)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tiles) > 500
    assert taken < 60 * len(tiles) + 10_000


def test_an_image_no_larger_than_a_tile_stays(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [[1, 2, 3, 4]])
    (only,) = cut_into_tiles(dataset, Tiling(150), seed=0)
    assert torch.equal(only.target.boxes, dataset[0].target.boxes)
    assert torch.equal(show_tile(read_image(only.image_path), only, COLOUR), read_image(only.image_path))


def test_tiles_without_objects_are_a_tenth_at_most_and_chosen_by_the_seed(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, *[[[5.0, 5.0, 25.0, 25.0]]] * 20, size=(100, 400))
    cut = [cut_into_tiles(dataset, Tiling(100, 0), seed=seed) for seed in (0, 0, 1)]
    empty = [[(s.image_id, s.tile.window) for s in tiles if s.tile and not len(s.target)] for tiles in cut]
    assert [len(tiles) for tiles in cut] == [22] * 3  # 20 with objects of 80
    assert len(empty[0]) == 2
    assert empty[0] == empty[1] != empty[2]
    assert [s.image_id for s in cut[0]] == sorted(s.image_id for s in cut[0])


def test_images_without_objects_that_need_no_tiles_all_stay(tmp_path: Path) -> None:
    """Somebody took them so that the detector learns what is no object."""
    dataset = make_dataset(tmp_path, [[1, 2, 30, 40]], [], [], [], size=(60, 90))
    tiles = cut_into_tiles(dataset, Tiling(90), seed=0)
    assert [sample.image_id for sample in tiles] == [0, 1, 2, 3]
    assert windows_of(tiles) == [(0, 0, 90, 60)] * 4


def test_crowds_and_difficult_objects_keep_their_flags(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [[90, 10, 140, 30], [60, 10, 80, 30]])
    target = Target.make(dataset[0].target.boxes, [0, 0], [False, True], [True, False])
    sample = Sample(dataset[0].image_path, 0, target)
    first = cut_into_tiles(DetectionDataset(tmp_path, "voc", "train", ("a",), (1,), (sample,)), Tiling(100, 0), seed=0)[
        0
    ]
    assert first.target.boxes.tolist() == [[90, 10, 100, 30], [60, 10, 80, 30]]
    assert first.target.crowd.tolist() == [True, False]
    assert first.target.difficult.tolist() == [False, True]
    assert first.tile is not None
    assert first.tile.hidden == ()


def test_each_image_once_for_the_cache(tmp_path: Path) -> None:
    boxes = [[5.0, 5.0, 45.0, 45.0], [60.0, 5.0, 90.0, 45.0]]
    dataset = make_dataset(tmp_path, boxes, [], boxes)  # nothing is learnt from the second
    tiles = cut_into_tiles(dataset, Tiling(50, 0), seed=0)
    images, numbers = whole_images(tiles)
    assert [sample.image_id for sample in images] == [0, 2]
    assert [images[number].image_path for number in numbers] == [sample.image_path for sample in tiles]


def test_an_image_that_has_changed_is_named(tmp_path: Path) -> None:
    tiles = cut_into_tiles(make_dataset(tmp_path, [[90, 10, 110, 30]]), Tiling(100, 0.5), seed=0)
    with pytest.raises(ValueError, match=r"0\.png has changed since it was cut into tiles: it had 150 × 100 pixels"):
        show_tile(torch.zeros(3, 90, 150, dtype=torch.uint8), tiles[0], COLOUR)

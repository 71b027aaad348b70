"""Training images cut into tiles: each becomes an image of its own, with the objects that it shows.

An object that a tile shows by half or more belongs to the tile, limited to it. What a tile shows of other objects is no
background either: it is painted over in the mean colour. Tiles without objects are a tenth of the images at most; an
image that is no larger than a tile stays, with or without objects. An image with objects that no tile shows whole is an
image itself too, as it is in a prediction.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vovnet.data.dataset import DetectionDataset, Sample, Tile, size_text
from vovnet.data.samples import MadeSamples
from vovnet.media.pixels import image_header_size
from vovnet.runtime.tiles import Tiling, Window
from vovnet.structures import Target

VISIBLE, EMPTY = 0.5, 0.1

_Floats = npt.NDArray[np.float64]


def cut_into_tiles(dataset: DetectionDataset, tiling: Tiling, *, seed: int) -> DetectionDataset:
    """The tiles of all images, and the images with objects that no tile shows whole, in the order of the images.

    seed: chooses among the tiles without objects.

    Raises ValueError or OSError for an image whose size cannot be read.
    """
    tiles = _Tiles(dataset.samples)
    is_empty = bytearray()
    for number, sample in enumerate(dataset):
        size = image_header_size(sample.image_path)
        tiles.sizes.append(size)
        for window in _windows_of(sample, size, tiling):
            tile = _tile(sample, size, window)
            if tile is not None:
                tiles.add(number, window)
                is_empty.append(not len(tile.target) and tile.image_size != size)
    empty = np.flatnonzero(np.frombuffer(is_empty, np.bool_))
    most = min(len(empty), int((len(tiles) - len(empty)) * EMPTY / (1 - EMPTY)))
    chosen = np.random.default_rng([seed, 2]).choice(len(empty), most, replace=False) if most else slice(0)
    kept = ~np.frombuffer(is_empty, np.bool_)
    kept[empty[chosen]] = True
    return replace(dataset, samples=tiles.select(kept))


class _Tiles(MadeSamples):
    """Tiles by the number of their image and their window, 20 bytes each. A sample is made when it is asked for.

    sizes: (height, width) of each image.
    """

    def __init__(self, images: Sequence[Sample]) -> None:
        self.images = images
        self.sizes: list[tuple[int, int]] = []
        self.numbers, self._windows = array("I"), array("i")

    def add(self, number: int, window: Window) -> None:
        self.numbers.append(number)
        self._windows.extend(window)

    def select(self, kept: npt.NDArray[np.bool_]) -> _Tiles:
        chosen = _Tiles(self.images)
        chosen.sizes = self.sizes
        chosen.numbers = array("I", np.array(self.numbers)[kept].tobytes())
        chosen._windows = array("i", np.array(self._windows).reshape(-1, 4)[kept].tobytes())
        return chosen

    def __len__(self) -> int:
        return len(self.numbers)

    def make(self, position: int) -> Sample:
        number = self.numbers[position]
        x1, y1, x2, y2 = self._windows[4 * position : 4 * position + 4]
        tile = _tile(self.images[number], self.sizes[number], (x1, y1, x2, y2))
        assert tile is not None, "such windows were left out"
        return tile


def whole_images(dataset: DetectionDataset) -> tuple[DetectionDataset, list[int]]:
    """The images of which a dataset has tiles, each once, and for each of its samples the index of its image."""
    if isinstance(dataset.samples, _Tiles):
        tiles = dataset.samples
        used, numbers = np.unique(np.array(tiles.numbers), return_inverse=True)
        return replace(dataset, samples=[tiles.images[number] for number in used.tolist()]), numbers.tolist()
    images = {sample.image_path: sample for sample in reversed(dataset.samples)}
    numbers_of = {path: number for number, path in enumerate(dict.fromkeys(sample.image_path for sample in dataset))}
    samples = tuple(images[path] for path in numbers_of)
    return replace(dataset, samples=samples), [numbers_of[sample.image_path] for sample in dataset]


def show_tile(image: Tensor, sample: Sample, colour: tuple[float, float, float]) -> Tensor:
    """The part of its image, uint8 RGB (3, H, W), that a sample shows, with what is hidden in this colour."""
    tile = sample.tile
    if tile is None:
        return image
    if tuple(image.shape[1:]) != tile.image_size:
        true, stated = size_text((image.shape[1], image.shape[2])), size_text(tile.image_size)
        raise ValueError(
            f"{sample.image_path} has changed since it was cut into tiles: it had {stated} pixels, has {true}"
        )
    x1, y1, x2, y2 = tile.window
    part = image[:, y1:y2, x1:x2]
    if not tile.hidden:
        return part
    part = part.clone()
    hidden = torch.zeros(part.shape[1:], dtype=torch.bool)
    for left, top, right, bottom in tile.hidden:
        hidden[top:bottom, left:right] = True
    for left, top, right, bottom in _outer(sample.target.boxes.numpy().astype(np.float64)):
        hidden[top:bottom, left:right] = False
    part[:, hidden] = torch.tensor(colour).round().to(torch.uint8)[:, None]
    return part


def _windows_of(sample: Sample, size: tuple[int, int], tiling: Tiling) -> Iterator[Window]:
    """Those of the tiles; and that of all of an image which is no larger, or has an object that no tile shows whole."""
    height, width = size
    whole = (0, 0, width, height)
    if tiling.fits(size):
        yield whole
        return
    boxes = _limited(sample.target, size)
    shown_whole = np.zeros(len(boxes), np.bool_)
    for window in tiling.tiles(size):
        shown_whole |= _shown(boxes, window)[1] == 1
        yield window
    inside = _shown(boxes, whole)[1] > 0
    if (inside & ~shown_whole).any():
        yield whole


def _tile(sample: Sample, size: tuple[int, int], window: Window) -> Sample | None:
    """What a window shows of an image; None if it shows nothing but parts of objects of other tiles."""
    height, width = size
    target = sample.target
    if window == (0, 0, width, height):
        return _sample(sample, target, window, size, ())
    parts, shares = _shown(_limited(target, size), window)
    whole = target.crowd.numpy() & (shares > 0)
    kept = torch.from_numpy((shares >= VISIBLE) | whole)
    hidden = tuple(_outer(parts[(shares > 0) & ~kept.numpy()]))
    own = replace(target, boxes=torch.from_numpy(parts).float(), masks=None)[kept]
    own = replace(own, area=(own.boxes[:, 2:] - own.boxes[:, :2]).prod(dim=1))
    return _sample(sample, own, window, size, hidden) if len(own) or not hidden else None


def _limited(target: Target, size: tuple[int, int]) -> _Floats:
    """The boxes limited to an image of this size."""
    height, width = size
    return np.clip(target.boxes.numpy().astype(np.float64), 0, [width, height, width, height])


def _sample(
    sample: Sample, target: Target, window: Window, size: tuple[int, int], hidden: tuple[Window, ...]
) -> Sample:
    x1, y1, x2, y2 = window
    return replace(sample, target=target, image_size=(y2 - y1, x2 - x1), tile=Tile(window, size, hidden))


def _shown(boxes: _Floats, window: Window) -> tuple[_Floats, _Floats]:
    """The boxes (M, 4) limited to a window, in its pixels, and the share of the area that is in it (M,)."""
    x1, y1, x2, y2 = window
    low, high = [x1, y1, x1, y1], [x2, y2, x2, y2]
    parts = np.clip(boxes, low, high)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shown = (parts[:, 2:] - parts[:, :2]).prod(axis=1)
    return parts - low, np.divide(shown, areas, out=np.zeros_like(areas), where=areas > 0)


def _outer(boxes: _Floats) -> Iterator[Window]:
    """The boxes in whole pixels, rounded outwards."""
    yield from np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(int).tolist()

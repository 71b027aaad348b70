"""Training images cut into tiles: each becomes an image of its own, with the objects that it shows.

An object that a tile shows by half or more belongs to the tile, limited to it. What a tile shows of other objects is no
background either: it is painted over in the mean colour. Tiles without objects are a tenth of the images at most; an
image that is no larger than a tile stays, with or without objects. An image with objects that no tile shows whole is an
image itself too, as it is in a prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vovnet.data.dataset import DetectionDataset, Sample, Tile, size_text
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
    samples = [tile for sample in dataset for tile in _tiles_of(sample, tiling)]
    empty = [number for number, sample in enumerate(samples) if not len(sample.target) and _is_part(sample)]
    kept = sorted(set(range(len(samples))).difference(empty))
    most = min(len(empty), int(len(kept) * EMPTY / (1 - EMPTY)))
    chosen: Sequence[int] = (
        np.random.default_rng([seed, 2]).choice(len(empty), most, replace=False).tolist() if most else []
    )
    return replace(dataset, samples=tuple(samples[n] for n in sorted(kept + [empty[i] for i in chosen])))


def whole_images(dataset: DetectionDataset) -> tuple[DetectionDataset, list[int]]:
    """The images of which a dataset has tiles, each once, and for each of its samples the index of its image."""
    images = {sample.image_path: sample for sample in reversed(dataset.samples)}
    numbers = {path: number for number, path in enumerate(dict.fromkeys(sample.image_path for sample in dataset))}
    samples = tuple(images[path] for path in numbers)
    return replace(dataset, samples=samples), [numbers[sample.image_path] for sample in dataset]


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


def _tiles_of(sample: Sample, tiling: Tiling) -> Iterator[Sample]:
    height, width = size = image_header_size(sample.image_path)
    target = sample.target
    if tiling.fits(size):
        yield _sample(sample, target, (0, 0, width, height), size, ())
        return
    boxes = np.clip(target.boxes.numpy().astype(np.float64), 0, [width, height, width, height])
    shown_whole = np.zeros(len(boxes), np.bool_)
    for window in tiling.tiles(size):
        parts, shares = _shown(boxes, window)
        shown_whole |= shares == 1
        whole = target.crowd.numpy() & (shares > 0)
        kept = torch.from_numpy((shares >= VISIBLE) | whole)
        hidden = tuple(_outer(parts[(shares > 0) & ~kept.numpy()]))
        own = replace(target, boxes=torch.from_numpy(parts).float(), masks=None)[kept]
        own = replace(own, area=(own.boxes[:, 2:] - own.boxes[:, :2]).prod(dim=1))
        if len(own) or not hidden:
            yield _sample(sample, own, window, size, hidden)
    inside = _shown(boxes, (0, 0, width, height))[1] > 0
    if (inside & ~shown_whole).any():
        yield _sample(sample, target, (0, 0, width, height), size, ())


def _sample(
    sample: Sample, target: Target, window: Window, size: tuple[int, int], hidden: tuple[Window, ...]
) -> Sample:
    x1, y1, x2, y2 = window
    return replace(sample, target=target, image_size=(y2 - y1, x2 - x1), tile=Tile(window, size, hidden))


def _is_part(sample: Sample) -> bool:
    """Whether a sample shows less than its image."""
    return sample.tile is not None and sample.image_size != sample.tile.image_size


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

"""Masks in COCO's run-length code, the form in which data sets, detections and metrics hold them.

A mask of a whole image is some hundred bytes of code, where its pixels would be megabytes. Needs the extra "eval".

The code counts pixels column by column: so many outside the mask, then so many in it, and so on.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

MOST_PIXELS = 2**31 - 1  # that the code's library can count


def _codec() -> ModuleType:
    try:
        from hotcoco import mask
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("masks need an extra: pip install 'vovnet[eval]'", name=error.name) from error
    return mask


@dataclass(frozen=True)
class RleMasks:
    """The masks of one image's objects.

    counts: COCO's compressed code of each mask, from `encode`, `paste`, or `from_coco`, which checks it.
    size: (height, width) of the image.
    """

    counts: tuple[bytes, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Tensor) -> RleMasks:
        """The masks that a boolean mask or an index tensor of shape (M,) selects."""
        places = index.nonzero().flatten() if index.dtype == torch.bool else index
        return RleMasks(tuple(self.counts[place] for place in places.tolist()), self.size)

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO's compressed run-length objects, ready for JSON."""
        return [{"size": list(self.size), "counts": code.decode()} for code in self.counts]

    def areas(self) -> Tensor:
        """Pixels of each mask, int64 (M,)."""
        if not self.counts:
            return torch.zeros(0, dtype=torch.int64)
        return torch.from_numpy(np.asarray(_codec().area(_objects(self))).astype(np.int64))

    def boxes(self) -> Tensor:
        """The smallest box around each mask, float32 (M, 4), x2 and y2 exclusive; zeros where a mask has no pixel."""
        boxes = torch.from_numpy(np.asarray(_codec().to_bbox(_objects(self)), dtype=np.float32).reshape(-1, 4))
        return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def encode(masks: Tensor) -> RleMasks:
    """Bitmaps, bool or uint8 of shape (M, H, W) → code; all but 0 is in the mask."""
    if masks.ndim != 3 or masks.dtype not in (torch.bool, torch.uint8):
        raise ValueError(f"masks must be bool or uint8 of shape (M, H, W), got {masks.dtype} of {tuple(masks.shape)}")
    height, width = masks.shape[1:]
    codes = (_codec().encode(mask.cpu().bool().numpy())["counts"] for mask in masks)
    return RleMasks(tuple(codes), (height, width))


def decode(masks: RleMasks) -> Tensor:
    """Code → bitmaps, uint8 of shape (M, H, W), 0 or 1."""
    bitmaps = torch.empty((len(masks), *masks.size), dtype=torch.uint8)
    for place, one in enumerate(_objects(masks)):
        bitmaps[place] = torch.from_numpy(_codec().decode(one))
    return bitmaps


def paste(probabilities: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5) -> RleMasks:
    """The masks that Mask R-CNN found, at the image's size: each map is scaled to its box and cut at `threshold`.

    probabilities: (D, S, S) in [0, 1]. boxes: (D, 4) in pixels of the image, within it or nearly so: only one box's
    pixels are held at a time, never an image's a mask. image_size: (height, width).
    """
    from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

    if probabilities.ndim != 3 or boxes.shape != (len(probabilities), 4):
        shapes = f"{tuple(probabilities.shape)} and {tuple(boxes.shape)}"
        raise ValueError(f"probabilities must have shape (D, S, S) and boxes (D, 4), got {shapes}")
    height, width = image_size
    maps, scale = expand_masks(probabilities.detach().float().cpu()[:, None], padding=1)
    codes = []
    for one, (x1, y1, x2, y2) in zip(maps, expand_boxes(boxes.float().cpu(), scale).long().tolist(), strict=True):
        # Mask R-CNN counts the pixels x2 and y2 in.
        size = max(y2 + 1 - y1, 1), max(x2 + 1 - x1, 1)
        top, bottom = (min(max(y, 0), height) for y in (y1, y2 + 1))
        left, right = (min(max(x, 0), width) for x in (x1, x2 + 1))
        scaled = F.interpolate(one[None], size=size, mode="bilinear", align_corners=False)[0, 0]
        crop = scaled[top - y1 : bottom - y1, left - x1 : right - x1] > threshold
        codes.append(_encode_crop(crop.numpy(), top, left, image_size))
    return RleMasks(tuple(codes), (height, width))


def _encode_crop(crop: npt.NDArray[np.bool_], top: int, left: int, size: tuple[int, int]) -> bytes:
    """The code of an image that is empty but for a crop at (top, left)."""
    (rows, columns), (height, width) = crop.shape, size
    framed = np.zeros((columns + 1, rows + 1), dtype=np.bool_)  # a 0 before each column and after the last
    framed[:columns, 1:] = crop.T
    changes = np.flatnonzero(framed.ravel()[1:] != framed.ravel()[:-1])
    column, row = np.divmod(changes, rows + 1)
    places = (left + column) * height + top + row

    # Where a run reaches the image's last row and the next begins in its first, they are one.
    repeated = np.flatnonzero(places[1:] == places[:-1])
    places = np.delete(places, np.concatenate([repeated, repeated + 1]))
    runs = np.diff(places, prepend=0, append=height * width).tolist()
    return _compress(runs if runs[-1] else runs[:-1], size)


def _compress(runs: list[int], size: tuple[int, int]) -> bytes:
    counts: bytes = _codec().frPyObjects({"size": list(size), "counts": runs}, *size)["counts"]
    return counts


def from_coco(segmentation: object, size: tuple[int, int]) -> bytes:
    """The code of one object as COCO annotates it: a list of polygons, or a run-length object, compressed or not.

    size: (height, width) of the image. Raises ValueError for anything else and for a mask of another size, quickly and
    without much memory: files may come from strangers.
    """
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"masks have at most {MOST_PIXELS:,} pixels, got {size[1]} × {size[0]}")
    if not isinstance(segmentation, dict):
        return _from_polygons(segmentation, size)
    if segmentation.get("size") != list(size):
        stated = reprlib.repr(segmentation.get("size"))
        raise ValueError(f"the mask must have the image's size {list(size)}, got {stated}")
    match segmentation.get("counts"):
        case list() as runs:
            if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
                raise ValueError(f"the mask's runs must be whole numbers with the sum {size[0] * size[1]}")
            return _compress(runs, size)
        case str() as text:
            return _checked(text.encode(errors="surrogatepass"), size)
        case bytes() as code:
            return _checked(code, size)
        case other:
            raise ValueError(f"the mask's counts must be a text or a list, got {type(other).__name__}")


def _from_polygons(polygons: object, size: tuple[int, int]) -> bytes:
    wrong = "a mask must be a run-length object or a list of polygons [x1, y1, x2, y2, x3, y3, …], got "
    if not isinstance(polygons, list) or not polygons:
        raise ValueError(wrong + reprlib.repr(polygons))
    longest = size[0] * size[1] + 2 * sum(size)
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(wrong + reprlib.repr(polygon))
        if not all(isinstance(value, int | float) and abs(value) < 1e6 for value in polygon):
            raise ValueError(wrong + reprlib.repr(polygon))
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        outline = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
        if outline > longest:  # drawing it takes memory and time in proportion
            raise ValueError(f"a mask's polygon is {outline:.0f} px long, too long for {size[1]} × {size[0]} px")
    codec = _codec()
    codes = codec.frPyObjects([[float(value) for value in polygon] for polygon in polygons], *size)
    while len(codes) > 1:  # few at a time: each step of a merge walks through all that is merged so far
        codes = [codec.merge(codes[start : start + 16]) for start in range(0, len(codes), 16)]
    counts: bytes = codes[0]["counts"]
    return counts


def _checked(counts: bytes, size: tuple[int, int]) -> bytes:
    """The same code, if its runs make up the whole image.

    Each byte holds 48 + five bits of a number, lowest first, + 32 if more follow; the last one's highest bit is the
    sign. From the fourth number on it is the difference to the run before the previous one.
    """
    digits = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits & 0x20 == 0)
    lengths = np.diff(ends, prepend=-1)
    if not len(ends) or ends[-1] != len(digits) - 1 or digits.min() < 0 or digits.max() > 63 or lengths.max() > 7:
        raise ValueError("the mask's counts are no run-length code")
    starts = ends - lengths + 1
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((digits & 0x1F) << 5 * place, starts) - ((digits[ends] & 0x10) >> 4 << 5 * lengths)
    for same_kind in (runs[1::2], runs[2::2]):
        np.cumsum(same_kind, out=same_kind)
    if runs.min() < 0 or runs.sum() != size[0] * size[1]:
        raise ValueError(f"the mask's runs must have the sum {size[0] * size[1]}, the image's pixels")
    return counts


def _objects(masks: RleMasks) -> list[dict[str, Any]]:
    return [{"size": list(masks.size), "counts": code} for code in masks.counts]

"""Masks as COCO's run-length codes, the form in which datasets, detections and metrics hold them, and as polygons.

The mask of a whole image takes some hundred bytes as a code and megabytes as pixels. Needs the extra "eval".

PyTorch is imported by the functions that need tensors: the check of a dataset of boxes starts without it.

For what a code is, see `vovnet.run_lengths`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

from vovnet.libraries import needs_extra
from vovnet.polygons import Floats, Polygons
from vovnet.printing import quoted
from vovnet.run_lengths import compress, encode_crop, expand, outlines

MOST_PIXELS = 2**31 - 1  # the most that the library for these codes can count
_LONGEST_OUTLINE = 10_000_000  # pixels of an object's outlines, which take a second and 450 MB to draw


def _codec() -> ModuleType:
    with needs_extra("eval", "masks need an extra"):
        from hotcoco import mask
    return mask


@dataclass(frozen=True)
class RleMasks:
    """The masks of the objects in one image.

    counts: COCO's compressed code of each mask, made by `encode` or `paste`, or checked by `from_coco`.
    size: (height, width) of the image.
    polygons: those of which the dataset made its masks, for objects that it describes by polygons; None if it has none.
    """

    counts: tuple[bytes, ...]
    size: tuple[int, int]
    polygons: Polygons | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Tensor) -> RleMasks:
        """The masks that a boolean mask or an index tensor of shape (M,) selects."""
        import torch

        indices = index.nonzero().flatten() if index.dtype == torch.bool else index
        polygons = None if self.polygons is None else self.polygons[indices.cpu().numpy()]
        return RleMasks(tuple(self.counts[i] for i in indices.tolist()), self.size, polygons)

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO's compressed run-length objects, ready for JSON."""
        return [{"size": list(self.size), "counts": code.decode()} for code in self.counts]

    def areas(self) -> Tensor:
        """Number of pixels of each mask, int64 (M,)."""
        import torch

        return torch.from_numpy(np.asarray(_codec().area(self.to_coco()), dtype=np.int64))

    def boxes(self) -> Tensor:
        """The smallest box around each mask, float32 (M, 4), x2 and y2 exclusive; zeros for a mask without pixels."""
        import torch

        boxes_xywh = torch.from_numpy(np.asarray(_codec().to_bbox(self.to_coco()), dtype=np.float32).reshape(-1, 4))
        return torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1)


def encode(masks: Tensor) -> RleMasks:
    """Bitmaps, bool or uint8 of shape (M, H, W) → codes; every value but 0 is in the mask."""
    import torch

    if masks.ndim != 3 or masks.dtype not in (torch.bool, torch.uint8):
        raise ValueError(f"masks must be bool or uint8 of shape (M, H, W), got {masks.dtype} of {tuple(masks.shape)}")
    height, width = masks.shape[1:]
    codes = (_codec().encode(mask.cpu().bool().numpy())["counts"] for mask in masks)
    return RleMasks(tuple(codes), (height, width))


def decode(masks: RleMasks) -> Tensor:
    """Codes → bitmaps, uint8 of shape (M, H, W), 0 or 1."""
    import torch

    bitmaps = torch.empty((len(masks), *masks.size), dtype=torch.uint8)
    for bitmap, code in zip(bitmaps, masks.to_coco(), strict=True):
        bitmap[:] = torch.from_numpy(_codec().decode(code))
    return bitmaps


def paste(probabilities: Tensor, boxes: Tensor, image_size: tuple[int, int], *, threshold: float = 0.5) -> RleMasks:
    """Mask R-CNN's masks at the size of the image: each probability map is resized to its box, then thresholded.

    Memory holds the pixels of one box at a time, never a bitmap of the image per mask.

    probabilities: (D, S, S) in [0, 1].
    boxes: (D, 4) in pixels of the image. They may reach a little beyond it.
    threshold: a pixel is in the mask if its probability is higher.
    """
    from torch.nn import functional as F
    from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

    if probabilities.ndim != 3 or boxes.shape != (len(probabilities), 4):
        shapes = f"{tuple(probabilities.shape)} and {tuple(boxes.shape)}"
        raise ValueError(f"probabilities must have shape (D, S, S) and boxes (D, 4), got {shapes}")
    height, width = image_size
    padded_maps, scale = expand_masks(probabilities.detach().float().cpu()[:, None], padding=1)
    padded_boxes = expand_boxes(boxes.float().cpu(), scale).long().tolist()
    codes = []
    for padded_map, (x1, y1, x2, y2) in zip(padded_maps, padded_boxes, strict=True):
        # Mask R-CNN includes the pixels x2 and y2.
        size = max(y2 + 1 - y1, 1), max(x2 + 1 - x1, 1)
        top, bottom = (min(max(y, 0), height) for y in (y1, y2 + 1))
        left, right = (min(max(x, 0), width) for x in (x1, x2 + 1))
        resized = F.interpolate(padded_map[None], size=size, mode="bilinear", align_corners=False)[0, 0]
        crop = resized[top - y1 : bottom - y1, left - x1 : right - x1] > threshold
        codes.append(encode_crop(crop.numpy(), top, left, image_size))
    return RleMasks(tuple(codes), (height, width))


def rasterise(polygons: Polygons, boxes: Floats, side: int) -> npt.NDArray[np.uint8]:
    """What each object covers of its box, drawn as COCO draws it on side × side pixels: (M, side, side) of 0 and 1.

    The polygons are moved and scaled before they are drawn, as in Detectron, where a box is at least a pixel wide and
    high. An object without polygons covers nothing.

    boxes: (M, 4), in the same pixels as the polygons.
    """
    bitmaps = np.zeros((len(polygons), side, side), dtype=np.uint8)
    if not len(polygons.points):
        return bitmaps
    corner, size = boxes[:, :2], np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    owners = polygons.owners()
    points = (polygons.points - corner[owners]) * side / size[owners]
    outlines = np.split(points.ravel(), 2 * np.cumsum(polygons.corners)[:-1])
    codes = _codec().frPyObjects([outline.tolist() for outline in outlines], side, side)
    parts = _codec().decode(codes)  # (side, side, parts of all objects)
    drawn = polygons.parts > 0
    first = (np.cumsum(polygons.parts) - polygons.parts)[drawn]
    bitmaps[drawn] = np.maximum.reduceat(parts.transpose(2, 0, 1), first, axis=0)
    return bitmaps


def from_coco(segmentation: object, size: tuple[int, int]) -> bytes:
    """The code of COCO's segmentation of one object: a list of polygons, or a run-length object, compressed or not.

    Raises ValueError for anything else and for a mask of another size. It does so quickly and without much memory,
    because files may come from strangers.

    size: (height, width) of the image.
    """
    pixels = size[0] * size[1]
    if pixels > MOST_PIXELS:
        raise ValueError(f"masks must have at most {MOST_PIXELS:,} pixels, got {size[1]} × {size[0]}")
    if not isinstance(segmentation, dict):
        return _from_polygons(segmentation, size)
    if segmentation.get("size") != list(size):
        stated = quoted(segmentation.get("size"))
        raise ValueError(f"the mask must have the image's size [height, width] = {list(size)}, got {stated}")
    match segmentation.get("counts"):
        case list() as runs:
            if not all(isinstance(run, int | float) and run >= 0 and run % 1 == 0 for run in runs):
                raise ValueError("the mask's runs must be whole numbers from 0 up")
            if sum(runs) != pixels:
                raise ValueError(f"the mask's runs must sum to {pixels}, the image's pixels")
            return compress(list(map(int, runs)))
        case str() as text:
            return _checked(text.encode(errors="surrogatepass"), size)
        case bytes() as code:
            return _checked(code, size)
        case counts:
            raise ValueError(f"the mask's counts must be a string or a list, got {type(counts).__name__}")


def _from_polygons(polygons: object, size: tuple[int, int]) -> bytes:
    expected = "a mask must be a run-length object or a list of polygons [x1, y1, x2, y2, x3, y3, …], got "
    if not isinstance(polygons, list) or not polygons:
        raise ValueError(expected + quoted(polygons))
    longest, total = size[0] * size[1] + 2 * sum(size), 0.0
    for polygon in polygons:
        if not _is_polygon(polygon):
            raise ValueError(expected + quoted(polygon))
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        outline = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
        if outline > longest:  # drawing it takes time and memory in proportion to its length
            what = f"{longest} pixels long in an image of {size[1]} × {size[0]} pixels, got {outline:.0f}"
            raise ValueError(f"the outline of a mask's polygon must be at most {what}")
        total += outline
    if total > _LONGEST_OUTLINE:
        raise ValueError(f"the outlines of a mask must be at most {_LONGEST_OUTLINE:,} pixels long in all")
    codec = _codec()
    codes = codec.frPyObjects([[float(value) for value in polygon] for polygon in polygons], *size)
    while len(codes) > 1:  # few at a time: each step of a merge walks through everything merged before
        codes = [codec.merge(codes[start : start + 16]) for start in range(0, len(codes), 16)]
    counts: bytes = codes[0]["counts"]
    return counts


def _is_polygon(value: object) -> bool:
    return isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(map(_is_coordinate, value))


def _is_coordinate(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e6  # false for NaN


def find_polygons(segmentation: object) -> tuple[list[list[float]], str]:
    """The polygons in COCO's segmentation of an object, and what else is in it; "" if it is just these polygons.

    Programs leave stray points beside a good polygon, nest the lists too deeply or not deeply enough, write a polygon
    as points [x, y], and numbers as text.
    """
    original, segmentation = segmentation, _with_numbers(segmentation, 4)
    whole = _is_polygon(segmentation) or _is_list_of_points(segmentation)
    parts: list[Any] = []
    for part in [segmentation] if whole or not isinstance(segmentation, list) else segmentation:
        nested = isinstance(part, list) and all(isinstance(item, list) for item in part)
        if isinstance(part, list) and part and nested and not _is_list_of_points(part):
            parts += part
        else:
            parts.append(part)
    parts = [[value for point in part for value in point] if _is_list_of_points(part) else part for part in parts]
    polygons, others = [part for part in parts if _is_polygon(part)], [part for part in parts if not _is_polygon(part)]
    if polygons == original:
        return polygons, ""
    return polygons, quoted(others[0]) if others else "lists of another depth, or text for numbers"


def _with_numbers(value: object, depth: int) -> object:
    """The same with a number for each text that is one, in lists of at most this depth."""
    if isinstance(value, list) and depth:
        return [_with_numbers(item, depth - 1) for item in value]
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _is_list_of_points(value: object) -> bool:
    def is_point(item: object) -> bool:
        return isinstance(item, list) and len(item) == 2 and all(map(_is_coordinate, item))

    return isinstance(value, list) and len(value) >= 3 and all(map(is_point, value))


def _checked(code: bytes, size: tuple[int, int]) -> bytes:
    """The same code, after a check that its runs fill the whole image."""
    expand(code, size[0] * size[1])
    return code


def to_polygons(masks: RleMasks) -> list[list[list[float]]]:
    """The polygons [x1, y1, x2, y2, …] of each mask, one per connected part, for programs without run-length codes.

    They run along the edges of pixels, so COCO draws exactly the same mask from them, except for holes: a COCO polygon
    cannot have any, so they are filled. Pixels that touch at a corner only belong to different parts. A mask without
    pixels has no polygon.
    """
    polygons = []
    for code, (x1, y1, x2, y2) in zip(masks.counts, masks.boxes().int().tolist(), strict=True):
        bitmap = decode(RleMasks((code,), masks.size))[0]
        polygons.append(outlines(bitmap[y1:y2, x1:x2].numpy().astype(np.bool_), x1, y1))
    return polygons

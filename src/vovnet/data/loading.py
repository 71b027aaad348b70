"""From a dataset to batches in memory, which do not depend on the number of workers, processes or restarts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from vovnet.data.batches.device_drawing import ImagePart, UndrawnImages, collate_parts, draw_images
from vovnet.data.batches.image_cache import CachedImages
from vovnet.data.batches.loaders import Batches, load_batches
from vovnet.data.dataset import DetectionDataset, size_text
from vovnet.data.images import read_image
from vovnet.data.tiles import show_tile
from vovnet.masks import RleMasks
from vovnet.padded_targets import PaddedTargets, pack, unpack
from vovnet.polygons import Polygons
from vovnet.structures import Target, TrainingMasks

Augmentation = Callable[[Tensor, Target, np.random.Generator], tuple[Tensor | ImagePart, Target]]
"""Changes a training image, uint8 RGB (3, H, W), and its objects; all randomness comes from the generator.

`ResizeAugmentation`, `SSDAugmentation`, or `LeaveToDevice`, which leaves the image to `Batch.to`.
"""

_PADDING_MULTIPLE = 32  # the coarsest stride of a backbone, and a whole number of bytes in packed masks

BATCHES_AHEAD = 4  # of each loader process in training, if they fit into shared memory


class Batch(NamedTuple):
    """One micro-batch of training images with their objects.

    The objects of all images are one tensor: each that a loader process sends takes a file descriptor, and a process
    has about a thousand; the arrays of polygons take none. Bitmaps are packed because many batches wait in shared
    memory, where the masks of 16 images would take more space than the images.

    images: uint8 RGB (N, 3, H, W); (N, 3, 0, 0) before they are drawn.
    packed_objects: int32 (N, M, 7), the objects of each image without masks, see `vovnet.padded_targets.pack`.
    counts: number of objects in each image.
    names: names of the image files.
    sizes: (height, width) of each image, which is padded with zeros at the bottom and right; None if all fill (H, W).
    packed_masks: uint8 (·, H, W / 8), eight pixels of a row per byte, of the objects with masks but without polygons.
    polygons: those of all objects, if the objects have masks.
    undrawn: what `to` makes the images from, if the loader processes leave that to the device.
    """

    images: Tensor
    packed_objects: Tensor
    counts: list[int]
    names: list[str]
    sizes: list[tuple[int, int]] | None = None
    packed_masks: Tensor | None = None
    polygons: Polygons | None = None
    undrawn: UndrawnImages | None = None

    def to(self, device: torch.device) -> Batch:
        """The same with images, objects and bitmaps on a device, from pinned memory without waiting for it.

        All images are drawn then.
        """
        objects = self.packed_objects.to(device, non_blocking=True)
        if self.packed_masks is not None:
            self = self._replace(packed_masks=self.packed_masks.to(device, non_blocking=True))
        if self.undrawn is None:
            return self._replace(images=self.images.to(device, non_blocking=True), packed_objects=objects)
        images = draw_images(self.undrawn.to(device))
        return self._replace(images=images, packed_objects=objects, undrawn=None)

    @property
    def padded(self) -> PaddedTargets:
        """The objects of all images, in the pixels of `images` and on their device."""
        return PaddedTargets.unpack(self.packed_objects)

    @property
    def targets(self) -> list[Target]:
        """The objects of each image, in the pixels of `images`, on the device of `packed_objects`.

        Each access unpacks the masks into bitmaps, on the device of `packed_masks`.
        """
        targets = unpack(self.packed_objects, self.counts)
        if self.packed_masks is not None:
            targets = [replace(t, masks=masks) for t, masks in zip(targets, self._unpack(), strict=True)]
        if self.sizes is not None:
            sizes = [(height, width) for height, width in self.sizes]  # pinning memory turns the tuples into lists
            targets = [replace(target, image_size=size) for target, size in zip(targets, sizes, strict=True)]
        return targets

    def _unpack(self) -> Iterator[Tensor | TrainingMasks]:
        """The masks of each image."""
        assert self.packed_masks is not None
        assert self.polygons is not None
        objects = np.split(np.arange(sum(self.counts)), np.cumsum(self.counts)[:-1])
        polygons = [self.polygons[index] for index in objects]
        num_bitmaps = [int((of_image.parts == 0).sum()) for of_image in polygons]
        for of_image, packed in zip(polygons, self.packed_masks.split(num_bitmaps), strict=True):
            on_host = packed.device.type == "cpu"
            bitmaps = torch.from_numpy(np.unpackbits(packed.numpy(), axis=-1)) if on_host else unpack_bits(packed)
            yield TrainingMasks(of_image, bitmaps) if of_image.parts.any() else bitmaps


def unpack_bits(packed: Tensor) -> Tensor:
    """What `numpy.unpackbits` gives along the last axis, on any device: uint8 (…, W / 8) → (…, W)."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(-1) >> shifts) & 1).flatten(-2)


def _collate(items: Sequence[tuple[Tensor | ImagePart, Target, str]]) -> Batch:
    images, targets, names = zip(*items, strict=True)
    counts = [len(target) for target in targets]
    objects = pack(targets)
    sizes = [target.image_size for target in targets if target.image_size is not None]
    if isinstance(images[0], ImagePart):
        empty = torch.empty((len(images), 3, 0, 0), dtype=torch.uint8)
        return Batch(empty, objects, counts, list(names), undrawn=collate_parts(images))
    if not sizes:
        return Batch(torch.stack(images), objects, counts, list(names))
    tallest_and_widest = (max(lengths) for lengths in zip(*sizes, strict=True))
    height, width = (math.ceil(length / _PADDING_MULTIPLE) * _PADDING_MULTIPLE for length in tallest_and_widest)
    padded = torch.zeros((len(images), 3, height, width), dtype=torch.uint8)
    for canvas, image, (h, w) in zip(padded, images, sizes, strict=True):
        canvas[:, :h, :w] = image
    masks = [TrainingMasks.of(t.masks) for t in targets if isinstance(t.masks, Tensor | TrainingMasks)]
    if len(masks) < len(targets):
        return Batch(padded, objects, counts, list(names), sizes)
    num_bitmaps = [len(of_image.bitmaps) for of_image in masks]
    packed = torch.zeros((sum(num_bitmaps), height, width // 8), dtype=torch.uint8)
    for canvas, of_image in zip(packed.split(num_bitmaps), masks, strict=True):
        bits = torch.from_numpy(np.packbits(of_image.bitmaps.numpy(), axis=-1))
        canvas[:, : bits.shape[1], : bits.shape[2]] = bits
    polygons = Polygons.cat([of_image.polygons for of_image in masks])
    return Batch(padded, objects, counts, list(names), sizes, packed, polygons)


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchStream(Sampler[list[tuple[int, int]]]):
    """Which image is seen in which step: shuffled epochs in a row, cut into batches without dropping an image.

    Yields the micro-batches of this process as lists of (epoch, index). The images of a step depend on `seed`,
    `num_images` and `batch_size` only.

    micro_batch_size: images per forward pass of one process.
    steps: number of optimizer steps of the whole training.
    start_step: the first step, when training resumes.
    rank, world_size: number of this process, and of all processes.
    aspect_ratios: height / width of each image. The images of a step are sorted by it before they are cut into
    micro-batches, so that images of similar shape share one and need little padding.
    """

    num_images: int = field(kw_only=False)
    batch_size: int
    micro_batch_size: int
    steps: int
    start_step: int = 0
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    aspect_ratios: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.batch_size % (self.micro_batch_size * self.world_size):
            raise ValueError(
                "batch_size must be a multiple of micro_batch_size x processes = "
                f"{self.micro_batch_size} x {self.world_size}, got {self.batch_size}"
            )
        if self.aspect_ratios is not None and len(self.aspect_ratios) != self.num_images:
            raise ValueError(f"expected {self.num_images} aspect ratios, one per image, got {len(self.aspect_ratios)}")

    def __len__(self) -> int:
        return (self.steps - self.start_step) * self.batch_size // (self.micro_batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        images_per_process = self.batch_size // self.world_size
        ratios = self.aspect_ratios
        orders: dict[int, np.ndarray] = {}
        for step in range(self.start_step, self.steps):
            picks = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                epoch, position_in_epoch = divmod(position, self.num_images)
                if epoch not in orders:
                    orders = {e: order for e, order in orders.items() if e >= epoch - 1}
                    orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
                picks.append((epoch, int(orders[epoch][position_in_epoch])))
            if ratios is not None:
                picks.sort(key=lambda pick: ratios[pick[1]])
            first = self.rank * images_per_process
            for start in range(first, first + images_per_process, self.micro_batch_size):
                yield picks[start : start + self.micro_batch_size]


@dataclass(frozen=True)
class _TrainingImages(Dataset[tuple[Tensor | ImagePart, Target, str]]):
    dataset: DetectionDataset
    augment: Augmentation
    seed: int
    cached: CachedImages | None = None
    numbers: Sequence[int] | None = None
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor | ImagePart, Target, str]:
        epoch, index = key
        sample = self.dataset[index]
        # The seed depends on image and epoch, not on the worker, so workers and restarts change nothing.
        rng = np.random.default_rng([self.seed, epoch, index, 1])
        number = index if self.numbers is None else self.numbers[index]
        image = read_image(sample.image_path) if self.cached is None else self.cached[number]
        image = show_tile(image, sample, self.colour)
        masks = sample.target.masks
        if isinstance(masks, RleMasks) and masks.size != image.shape[-2:]:
            true, stated = size_text((image.shape[-2], image.shape[-1])), size_text(masks.size)
            raise ValueError(
                f"{sample.image_path} has {true} pixels, but its masks have {stated}: "
                "find such images with `vovnet data check`"
            )
        result, target = self.augment(image, sample.target, rng)
        return result, target, sample.image_path.name


def batch_bytes(images: int, image_pixels: float) -> int:
    """What a batch of this many images takes in shared memory; 0 if height × width of an image is unknown."""
    return int(images * 3 * image_pixels)


def training_batches(
    dataset: DetectionDataset,
    augment: Augmentation,
    stream: BatchStream,
    *,
    workers: int,
    pin_memory: bool,
    image_pixels: float = 0,
    cached: CachedImages | None = None,
    numbers: Sequence[int] | None = None,
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Batches[Batch]:
    """Augmented micro-batches in the order of `stream`; see `load_batches`.

    workers: number of loader processes; 0 loads in this process.
    pin_memory: use page-locked memory, from which batches reach a GPU faster.
    image_pixels: height × width of an image in a batch, at least or on average, if that is known.
    cached: the decoded images of `dataset`.
    numbers: of each sample the index of its image in `cached`, if several are tiles of one image.
    colour: RGB levels of what is hidden in a tile.
    """
    return load_batches(
        _TrainingImages(dataset, augment, stream.seed, cached, numbers, colour),
        stream,
        workers=workers,
        collate=_collate,
        name_of=lambda key: dataset[key[1]].image_path.name,
        batch_bytes=batch_bytes(stream.micro_batch_size, image_pixels),
        prefetch=BATCHES_AHEAD,
        pin_memory=pin_memory,
        mapped=None if cached is None else cached.path,
    )

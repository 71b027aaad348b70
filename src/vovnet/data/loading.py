"""From a data set to batches in memory: the same ones whatever number of workers, processes or restarts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vovnet.data.dataset import DetectionDataset
from vovnet.data.images import read_image
from vovnet.masks import RleMasks
from vovnet.structures import Target

Augmentation = Callable[[Tensor, Target, np.random.Generator], tuple[Tensor, Target]]
"""A training image, uint8 RGB (3, H, W), and its objects → the same changed; all chance comes from the generator."""

_PADDED_TO = 32  # a backbone's coarsest stride; also whole bytes of packed masks


class Batch(NamedTuple):
    """images: uint8 RGB (N, 3, H, W); names: of the image files; counts: objects of each image.

    sizes: (height, width) of each image, below and to the right of which are zeros; None where all images fill (H, W).
    packed_masks: uint8 (sum of counts, H, W / 8), eight pixels of a row a byte, if the objects have masks.

    The objects of all images stand behind one another: each tensor that a loader process sends takes a file descriptor,
    of which a process has about a thousand. Masks are packed because many batches wait in shared memory, where those of
    16 images would take more than the images.
    """

    images: Tensor
    objects: Target
    counts: list[int]
    names: list[str]
    sizes: list[tuple[int, int]] | None = None
    packed_masks: Tensor | None = None

    @property
    def targets(self) -> list[Target]:
        """The objects of each image, boxes and bitmaps in the pixels of `images`; unpacks the masks each time."""
        targets = [self.objects[index] for index in torch.arange(len(self.objects)).split(self.counts)]
        if self.packed_masks is not None:
            packed = self.packed_masks.split(self.counts)
            targets = [replace(one, masks=_unpack(masks)) for one, masks in zip(targets, packed, strict=True)]
        if self.sizes is not None:
            sizes = [(height, width) for height, width in self.sizes]  # pinning memory has made lists of them
            targets = [replace(one, image_size=size) for one, size in zip(targets, sizes, strict=True)]
        return targets


def _collate(items: Sequence[tuple[Tensor, Target, str]]) -> Batch:
    images, targets, names = zip(*items, strict=True)
    counts = [len(target) for target in targets]
    objects = Target.cat(targets)
    sizes = [target.image_size for target in targets if target.image_size is not None]
    if not sizes:
        return Batch(torch.stack(images), objects, counts, list(names))
    height, width = (-(-max(sides) // _PADDED_TO) * _PADDED_TO for sides in zip(*sizes, strict=True))
    padded = torch.zeros((len(images), 3, height, width), dtype=torch.uint8)
    for place, image, (h, w) in zip(padded, images, sizes, strict=True):
        place[:, :h, :w] = image
    bitmaps = [target.masks for target in targets if isinstance(target.masks, Tensor)]
    if len(bitmaps) < len(targets):
        return Batch(padded, objects, counts, list(names), sizes)
    packed = torch.zeros((sum(counts), height, width // 8), dtype=torch.uint8)
    for places, masks in zip(packed.split(counts), bitmaps, strict=True):
        bits = torch.from_numpy(np.packbits(masks.numpy(), axis=-1))
        places[:, : bits.shape[1], : bits.shape[2]] = bits
    return Batch(padded, objects, counts, list(names), sizes, packed)


def _unpack(masks: Tensor) -> Tensor:
    return torch.from_numpy(np.unpackbits(masks.numpy(), axis=-1))


class BatchStream(Sampler[list[tuple[int, int]]]):
    """Which image is seen when: shuffled epochs one after another, cut into batches without dropping an image.

    Yields this process's micro-batches as lists of (epoch, index), from optimizer step `start_step` on, for ever-equal
    (seed, number of images, batch_size) the same global batches.

    aspect_ratios: height / width of each image: the images of a step, the same ones as without it, are sorted by it
    before they are cut into micro-batches, so that similar shapes meet and little of a batch is padding.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        micro_batch_size: int,
        steps: int,
        *,
        start_step: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        aspect_ratios: Sequence[float] | None = None,
    ) -> None:
        if batch_size % (micro_batch_size * world_size):
            raise ValueError(
                f"batch_size must be a multiple of micro_batch_size x processes = {micro_batch_size} x {world_size}, "
                f"got {batch_size}"
            )
        if aspect_ratios is not None and len(aspect_ratios) != num_images:
            raise ValueError(f"expected {num_images} aspect ratios, one an image, got {len(aspect_ratios)}")
        self.num_images, self.batch_size, self.micro_batch_size = (num_images, batch_size, micro_batch_size)
        self.steps, self.start_step, self.seed = steps, start_step, seed
        self.rank, self.world_size, self.aspect_ratios = rank, world_size, aspect_ratios

    def __len__(self) -> int:
        return (self.steps - self.start_step) * self.batch_size // (self.micro_batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        local = self.batch_size // self.world_size
        ratios = self.aspect_ratios
        orders: dict[int, np.ndarray] = {}
        for step in range(self.start_step, self.steps):
            picks = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                epoch, place = divmod(position, self.num_images)
                if epoch not in orders:
                    orders = {e: o for e, o in orders.items() if e >= epoch - 1}
                    orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
                picks.append((epoch, int(orders[epoch][place])))
            if ratios is not None:
                picks.sort(key=lambda pick: ratios[pick[1]])
            first = self.rank * local
            for start in range(first, first + local, self.micro_batch_size):
                yield picks[start : start + self.micro_batch_size]


class _TrainingImages(Dataset[tuple[Tensor, Target, str]]):
    def __init__(self, dataset: DetectionDataset, augment: Augmentation, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Target, str]:
        epoch, index = key
        sample = self.dataset[index]
        # Seeded by what is drawn, not by who draws it, so workers and restarts change nothing.
        rng = np.random.default_rng([self.seed, epoch, index, 1])
        image, masks = read_image(sample.image_path), sample.target.masks
        if isinstance(masks, RleMasks) and masks.size != image.shape[-2:]:
            (height, width), stated = image.shape[-2:], masks.size
            raise ValueError(
                f"{sample.image_path} has {width} × {height} pixels, but its masks are for {stated[1]} × {stated[0]}: "
                "find such images with `vovnet data check`"
            )
        image, target = self.augment(image, sample.target, rng)
        return image, target, sample.image_path.name


def start_loader(_: int) -> None:
    """What a loader process does first: leave the other cores to the network, and the decision to stop to its parent.

    Ctrl-C and a batch system's stop go to the whole process group, so it leaves that; its parent can still end it.
    """
    torch.set_num_threads(1)
    if hasattr(os, "setsid"):
        os.setsid()


def training_batches(
    dataset: DetectionDataset, augment: Augmentation, stream: BatchStream, *, workers: int, pin_memory: bool
) -> Iterable[Batch]:
    """Augmented micro-batches in the order of `stream`; `workers` 0 loads in this process."""
    return DataLoader(
        _TrainingImages(dataset, augment, stream.seed),
        batch_sampler=stream,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=start_loader,
        prefetch_factor=4 if workers else None,
    )

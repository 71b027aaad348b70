"""From a data set to batches in memory: the same ones whatever number of workers, processes or restarts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vovnet.data.dataset import DetectionDataset
from vovnet.data.images import read_image
from vovnet.data.transforms import SSDAugmentation
from vovnet.structures import Target


class Batch(NamedTuple):
    """images: uint8 RGB (N, 3, H, W); names: of the image files; counts: objects of each image.

    The objects of all images stand behind one another: each tensor that a loader process sends takes a file descriptor,
    of which a process has about a thousand.
    """

    images: Tensor
    objects: Target
    counts: list[int]
    names: list[str]

    @property
    def targets(self) -> list[Target]:
        """The objects of each image, boxes in its pixels."""
        return [self.objects[index] for index in torch.arange(len(self.objects)).split(self.counts)]


def _collate(items: Sequence[tuple[Tensor, Target, str]]) -> Batch:
    images, targets, names = zip(*items, strict=True)
    return Batch(torch.stack(images), Target.cat(targets), [len(target) for target in targets], list(names))


class BatchStream(Sampler[list[tuple[int, int]]]):
    """Which image is seen when: shuffled epochs one after another, cut into batches without dropping an image.

    Yields this process's micro-batches as lists of (epoch, index), from optimizer step `start_step` on, for ever-equal
    (seed, number of images, batch_size) the same global batches.
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
    ) -> None:
        if batch_size % (micro_batch_size * world_size):
            raise ValueError(
                f"batch_size must be a multiple of micro_batch_size x processes = {micro_batch_size} x {world_size}, "
                f"got {batch_size}"
            )
        self.num_images, self.batch_size, self.micro_batch_size = (num_images, batch_size, micro_batch_size)
        self.steps, self.start_step, self.seed = steps, start_step, seed
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return (self.steps - self.start_step) * self.batch_size // (self.micro_batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        local = self.batch_size // self.world_size
        orders: dict[int, np.ndarray] = {}
        for step in range(self.start_step, self.steps):
            first = step * self.batch_size + self.rank * local
            picks = []
            for position in range(first, first + local):
                epoch, place = divmod(position, self.num_images)
                if epoch not in orders:
                    orders = {e: o for e, o in orders.items() if e >= epoch - 1}
                    orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
                picks.append((epoch, int(orders[epoch][place])))
            for start in range(0, local, self.micro_batch_size):
                yield picks[start : start + self.micro_batch_size]


class _TrainingImages(Dataset[tuple[Tensor, Target, str]]):
    def __init__(self, dataset: DetectionDataset, augment: SSDAugmentation, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Target, str]:
        epoch, index = key
        sample = self.dataset[index]
        # Seeded by what is drawn, not by who draws it, so workers and restarts change nothing.
        rng = np.random.default_rng([self.seed, epoch, index, 1])
        image, target = self.augment(read_image(sample.image_path), sample.target, rng)
        return image, target, sample.image_path.name


def start_loader(_: int) -> None:
    """What a loader process does first: leave the other cores to the network, and the decision to stop to its parent.

    Ctrl-C and a batch system's stop go to the whole process group, so it leaves that; its parent can still end it.
    """
    torch.set_num_threads(1)
    if hasattr(os, "setsid"):
        os.setsid()


def training_batches(
    dataset: DetectionDataset, augment: SSDAugmentation, stream: BatchStream, *, workers: int, pin_memory: bool
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

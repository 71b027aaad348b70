"""The data of a training run: its splits, their augmentation and their fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vovnet.data.batches.device_drawing import LeaveToDevice
from vovnet.data.batches.image_cache import CachedImages, open_cache
from vovnet.data.batches.loaders import Batches
from vovnet.data.batches.resizing import ResizeAugmentation
from vovnet.data.batches.worker_count import choose_workers
from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import open_dataset, require_objects
from vovnet.data.loading import Augmentation, Batch, BatchStream, batch_bytes, training_batches
from vovnet.data.samples import JoinedSamples
from vovnet.data.tiles import cut_into_tiles, whole_images
from vovnet.data.transforms import SSDAugmentation
from vovnet.engine.config import TrainConfig
from vovnet.engine.distributed import Workers
from vovnet.engine.training.schedule import micro_batches, total_steps
from vovnet.errors import UsageError
from vovnet.media.pixels import image_header_size
from vovnet.models.preprocessing import Preprocessing
from vovnet.weights.cached import cache_folder
from vovnet.zoo import find_detector


def open_data(config: TrainConfig) -> tuple[DetectionDataset, DetectionDataset | None]:
    """The training set, with `more_train` appended, and the validation set. They have masks if the model needs them.

    With `data.tiles` the training set consists of tiles; the validation set is that of whole images.
    """
    masks = find_detector(config.model).masks
    if config.metric == "coco_mask_ap" and not masks:
        raise UsageError(
            f"metric=coco_mask_ap needs a detector with masks, {config.model} has none; use metric=coco_ap"
        )
    if config.data.tiles is not None and masks:
        raise UsageError(f"data.tiles cuts boxes only, and {config.model} learns masks: set data.tiles=null")
    dataset = _open_split(config.data.root, config.data.train, masks, "data.train=SPLIT")
    for source in config.data.more_train:
        more = open_dataset(source.root, source.split, class_names=dataset.class_names, masks=masks)
        dataset = replace(dataset, samples=JoinedSamples(dataset.samples, more.samples))
    require_objects(dataset)
    if config.data.tiles is not None:
        dataset = cut_into_tiles(dataset, config.data.tiles.tiling, seed=config.seed)
    if config.data.val is None:
        return dataset, None
    remedy = "data.val=SPLIT, or data.val=null to train without evaluation"
    validation = _open_split(config.data.root, config.data.val, masks, remedy, dataset.class_names)
    require_objects(validation)
    return dataset, validation


def _open_split(
    root: Path, split: str, masks: bool, remedy: str, class_names: Sequence[str] | None = None
) -> DetectionDataset:
    try:
        return open_dataset(root, split, class_names=class_names, masks=masks)
    except UsageError as error:
        raise UsageError(f"{error}; set {remedy}") from None


def open_batches(
    dataset: DetectionDataset, config: TrainConfig, preprocessing: Preprocessing, group: Workers, *, start_step: int
) -> Batches[Batch]:
    """The micro-batches of this process from step `start_step` to the end of the run."""
    micro_batch_size, _ = micro_batches(config, group.world_size)
    stream = BatchStream(
        len(dataset),
        batch_size=config.batch_size,
        micro_batch_size=micro_batch_size,
        steps=total_steps(config, len(dataset)),
        start_step=start_step,
        seed=config.seed,
        rank=group.rank,
        world_size=group.world_size,
        aspect_ratios=aspect_ratios(dataset) if preprocessing.keep_ratio else None,
    )
    augment: Augmentation = make_augmentation(preprocessing, config)
    on_cuda = group.device.type == "cuda"
    shortest = min(config.resize.short_sides, default=0) ** 2
    image_pixels: float = shortest or preprocessing.least_pixels
    if draws_on_device(config, preprocessing, on_cuda) and isinstance(augment, SSDAugmentation):
        augment, image_pixels = LeaveToDevice(augment), mean_pixels(dataset)
    workers = config.workers
    if workers == "auto":
        workers = choose_workers(group.device.type, batch_bytes(micro_batch_size, image_pixels))
    images, numbers = whole_images(dataset) if config.data.tiles else (dataset, None)
    return training_batches(
        dataset,
        augment,
        stream,
        workers=workers,
        pin_memory=on_cuda,
        image_pixels=image_pixels,
        cached=_open_cache(images, config.data.cache, workers),
        numbers=numbers,
        colour=preprocessing.mean_rgb,
    )


def _open_cache(dataset: DetectionDataset, place: bool | Path, workers: int) -> CachedImages | None:
    if place is False:
        return None
    try:
        folder = cache_folder() / "images" if place is True else place
    except OSError:
        raise UsageError("no home folder is known for the cache of images: set data.cache=FOLDER") from None
    return open_cache(dataset, folder, workers=workers)


def draws_on_device(config: TrainConfig, preprocessing: Preprocessing, on_cuda: bool) -> bool:
    """Whether the device warps and colours the images. UsageError if it should and cannot."""
    if config.draw_images == "device" and preprocessing.keep_ratio:
        raise UsageError(
            f"{config.model} keeps the aspect ratio of images, which only loader processes draw: set draw_images=auto"
        )
    wanted = on_cuda if config.draw_images == "auto" else config.draw_images == "device"
    return wanted and not preprocessing.keep_ratio


def make_augmentation(preprocessing: Preprocessing, config: TrainConfig) -> SSDAugmentation | ResizeAugmentation:
    """The augmentation of a detector's training images. UsageError if the config sets keys of the other kind."""
    if preprocessing.keep_ratio:
        unused, reason, used = "augment", "keeps the aspect ratio of images", "resize"
    else:
        unused, reason, used = "resize", "resizes all images to one size", "augment"
    section = getattr(config, unused)
    if section != type(section)():
        raise UsageError(f"{config.model} {reason}, so {unused!r} does not apply to it; use {used!r}")
    if preprocessing.keep_ratio:
        short, long = preprocessing.image_size
        return ResizeAugmentation(config.resize.short_sides or (short,), long, config.resize.flip, preprocessing.resize)
    return SSDAugmentation(
        preprocessing.image_size,
        preprocessing.mean_rgb,
        antialias=preprocessing.antialias,
        **config.augment.model_dump(),
    )


def aspect_ratios(dataset: DetectionDataset) -> list[float]:
    """Height / width of each image, from the annotations or else from the file's header."""
    sizes = (sample.image_size or image_header_size(sample.image_path) for sample in dataset)
    return [height / width for height, width in sizes]


def mean_pixels(dataset: DetectionDataset) -> float:
    """Height × width of an image on average, from a few of them; 0 if their sizes are unknown."""
    samples = [dataset[index] for index in range(0, len(dataset), math.ceil(len(dataset) / 32))]
    areas = []
    for sample in samples:
        with suppress(ValueError, OSError):  # whoever reads the image reports it
            areas.append(math.prod(sample.image_size or image_header_size(sample.image_path)))
    return sum(areas) / max(1, len(areas))


def fingerprint(dataset: DetectionDataset) -> str:
    """A hash of the image names in their order, and of the tiles, by which a resumed run recognises its images."""
    names = "\n".join(f"{sample.image_path.name}{_window(sample)}" for sample in dataset)
    return hashlib.sha256(names.encode()).hexdigest()


def _window(sample: Sample) -> str:
    return "" if sample.tile is None else f" {sample.tile.window}"

"""Detectors of every family with a batch for each, and one training step of them on any device."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vovnet import create_model
from vovnet.data.loading import Batch
from vovnet.engine.config import OptimizerConfig
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.optimizer import make_optimizer
from vovnet.engine.training.state import TrainState
from vovnet.engine.training.step import make_scaler, train_step
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.mask_rcnn import MaskRCNN
from vovnet.padded_targets import pack
from vovnet.polygons import Polygons
from vovnet.structures import Target
from vovnet.zoo import find_detector

CLASSES = 3


class Family(NamedTuple):
    """A detector of a family, and the size of the images that it is tried with; the options make it small."""

    name: str
    size: tuple[int, int]
    options: Mapping[str, Any]


FAMILIES = (
    Family("dsod300_vovnet27_slim", (128, 128), {}),
    Family("ssd300_mobilenet", (128, 128), {}),
    Family("pelee304", (304, 304), {}),
    Family("refinedet320_vovnet27_slim", (128, 128), {"width": 64}),
    Family("maskrcnn_vovnet27_slim_gn", (64, 96), {"image_size": (64, 96), "rois": 32}),
    Family("fasterrcnn_vovnet27_slim", (64, 96), {"image_size": (64, 96), "rois": 32}),
)
REHEARSED = (FAMILIES[1], FAMILIES[4])
"""The quickest of one stage, and one of two stages with masks: all that tests for a GPU try on a CPU."""


def build(family: Family) -> DetectionModel:
    """The detector on the CPU in training mode, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(family.name, CLASSES, **family.options)
    if isinstance(model, MaskRCNN):  # the second stage is slow
        model.rpn._post_nms_top_n = {"training": 200, "testing": 50}
    return model.to(memory_format=torch.channels_last).train()


def make_batch(family: Family, *, images: int = 2, seed: int = 0) -> Batch:
    """Random images with two and three objects in turn; with masks if the detector has them."""
    random = torch.Generator().manual_seed(seed)
    height, width = family.size
    targets = [_target(2 + index % 2, height, width, random) for index in range(images)]
    pixels = torch.randint(0, 256, (images, 3, height, width), dtype=torch.uint8, generator=random)
    batch = Batch(pixels, pack(targets), [len(t) for t in targets], [f"{index}.jpg" for index in range(images)])
    if find_detector(family.name).masks:
        outlines = [_outline(box) for target in targets for box in target.boxes.tolist()]
        none = torch.zeros((0, height, math.ceil(width / 8)), dtype=torch.uint8)
        batch = batch._replace(packed_masks=none, polygons=Polygons.make(outlines))
    return batch


def _target(objects: int, height: int, width: int, random: torch.Generator) -> Target:
    size = torch.tensor([width, height])
    corner = torch.rand(objects, 2, generator=random) * size * 0.5
    extent = size * (0.2 + 0.3 * torch.rand(objects, 2, generator=random))
    return Target.make(torch.cat([corner, corner + extent], 1), torch.arange(objects) % CLASSES)


def _outline(box: list[float]) -> list[list[float]]:
    x1, y1, x2, y2 = box
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def run(model: DetectionModel, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The outputs of the network for a batch, in training with its targets if the detector takes them."""
    images = model.preprocessing.normalize(batch.images.to(device))
    return model(images, batch.targets) if model.two_stage and model.training else model(images)


def make_criterion(family: Family) -> nn.Module:
    return find_detector(family.name).make_loss({})


def make_state(
    family: Family, device: torch.device, *, dtype: torch.dtype = torch.float32, ema_decay: float | None = None
) -> TrainState:
    """A run of the detector on the device before its first step."""
    model = copy.deepcopy(build(family)).to(device)
    optimizer = make_optimizer(model, find_detector(family.name), OptimizerConfig(learning_rate=0.01))
    return TrainState(model, EMA(model, ema_decay) if ema_decay else None, optimizer, make_scaler(dtype, device))


def step(
    state: TrainState,
    family: Family,
    batches: Iterator[Batch],
    device: torch.device,
    *,
    dtype: torch.dtype = torch.float32,
    clip_norm: float | None = None,
    network: nn.Module | None = None,
    accumulate: int = 1,
) -> None:
    """One step of training. network: what wraps the state's model, if anything."""
    torch.manual_seed(state.step)
    train_step(
        state, state.model if network is None else network, make_criterion(family), batches,
        accumulate=accumulate, dtype=dtype, device=device, clip_norm=clip_norm,
    )  # fmt: skip


def losses_of(state: TrainState) -> dict[str, float]:
    """The mean of each loss of the steps so far."""
    state.look()
    return state.window.means()

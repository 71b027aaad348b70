"""The configuration of the aggregation study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from vovnet.engine.config import BatchSize, Fraction, Section, Seed
from vovnet.errors import unknown_name
from vovnet.paper.aggregation.networks import CIFAR_NETWORKS


class AggregationConfig(Section):
    """Which networks to train on CIFAR-10, and how. The defaults are DenseNet's own protocol.

    data: folder, see `read_cifar10`.
    download: fetch CIFAR-10 into `data` with torchvision.
    networks, seeds: every combination is a run of its own in `output`.
    train_images: number of training images to use, from the first; null for all.
    milestones: fractions of the run after which the learning rate is divided by ten.
    precision: "fp32", or "bf16" for mixed precision.
    output: folder; finished runs in it are kept, unfinished ones continue.
    """

    data: Path
    download: bool = False
    networks: tuple[str, ...] = tuple(CIFAR_NETWORKS)
    seeds: tuple[Seed, ...] = (0,)
    train_images: PositiveInt | None = None
    epochs: Annotated[float, Field(gt=0, le=10**6)] = 300
    batch_size: BatchSize = 64
    learning_rate: PositiveFloat = 0.1
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 1e-4
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    threads: Annotated[int, Field(gt=0, le=4096)] | None = None
    log_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 200
    output: Path

    def model_post_init(self, _: Any) -> None:
        for name in self.networks:
            if name not in CIFAR_NETWORKS:
                raise unknown_name("network of the study", name, CIFAR_NETWORKS)

    def settings(self) -> dict[str, Any]:
        """The settings that decide the trained weights. Runs with different ones cannot share an output folder."""
        free = {"data", "download", "networks", "seeds", "device", "threads", "log_every", "checkpoint_every", "output"}
        return self.model_dump(mode="json", exclude=free)

    def run_folder(self, network: str, seed: int) -> Path:
        return self.output / f"{network}_{seed}"

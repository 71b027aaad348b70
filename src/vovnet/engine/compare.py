"""What several models cost on paper and on this machine, measured in one run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from vovnet.engine.any_model import resolve_model
from vovnet.engine.distributed import choose_device
from vovnet.errors import UsageError
from vovnet.measure.cost import ModelCost, count_cost
from vovnet.measure.energy import EnergyResult, measure_energy
from vovnet.measure.sensors import find_sensor
from vovnet.measure.speed import Latency, median_ratio, time_interleaved
from vovnet.models.detectors.contract import DetectionModel


@dataclass(frozen=True)
class Measurement:
    """One model: counts for the whole batch, times of the forward pass, energy where it was asked for.

    slowdown: median of the ratios to the first model's time, pair by pair.
    """

    name: str
    input_shape: tuple[int, int, int, int]
    device: str
    threads: int
    cost: ModelCost
    latency: Latency
    slowdown: float
    energy: EnergyResult | None

    @property
    def images_per_s(self) -> float:
        return self.input_shape[0] / self.latency.median_ms * 1e3

    @property
    def gmultiply_adds_per_s(self) -> float:
        """The paper's GPU-computation efficiency: it calls multiply-adds FLOPs. True FLOP/s are twice this."""
        return self.cost.total.multiply_adds / self.latency.median_ms / 1e6

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON; the layers are left to `cost.to_dict()`."""
        return {
            "name": self.name,
            "input_shape": self.input_shape,
            "precision": "float32",
            "device": self.device,
            "threads": self.threads,
            "cost": self.cost.to_dict()["total"],
            "uncounted": self.cost.uncounted,
            "latency_ms": {
                "median": self.latency.median_ms,
                **{f"p{p}": self.latency.percentile_ms(p) for p in (10, 90, 99)},
                "repetitions": len(self.latency.seconds),
            },
            "slowdown": self.slowdown,
            "images_per_s": self.images_per_s,
            "gmultiply_adds_per_s": self.gmultiply_adds_per_s,
            "gflop_per_s": 2 * self.gmultiply_adds_per_s,
            "energy": None if self.energy is None else asdict(self.energy),
        }


def compare(
    names: Sequence[str],
    *,
    input_size: int | None = None,
    batch_size: int = 1,
    device: str = "auto",
    repetitions: int = 30,
    energy: bool = False,
) -> list[Measurement]:
    """Count each model's cost and time their forward passes in turn, in float32, eval mode and channels_last.

    names: as `resolve_model` takes them. input_size: height and width; None is what a model's `preprocessing` says, or
    224. energy: also joules an image, model after model,
    by the protocol of `vovnet.measure.energy` (minutes each).
    """
    if not names:
        raise ValueError("name at least one model")
    where = choose_device(device)
    models, images, costs = {}, {}, {}
    for name in dict.fromkeys(names):
        model = resolve_model(name).eval()
        height, width = _input_size(model) if input_size is None else (input_size, input_size)
        images[name] = torch.randn(batch_size, 3, height, width, device=where).to(memory_format=torch.channels_last)
        costs[name] = _count(model, name, (batch_size, 3, height, width))
        models[name] = model.to(where).to(memory_format=torch.channels_last)

    def run(name: str) -> int:
        with torch.inference_mode():
            models[name](images[name])
        if where.type == "cuda":
            torch.cuda.synchronize()
        return batch_size

    times = time_interleaved({name: partial(run, name) for name in models}, repetitions=repetitions)
    first = times[next(iter(models))]
    return [
        Measurement(
            name,
            (batch_size, 3, images[name].shape[2], images[name].shape[3]),
            str(where),
            torch.get_num_threads(),
            costs[name],
            times[name],
            median_ratio(times[name], first),
            measure_energy(partial(run, name), find_sensor(where)) if energy else None,
        )
        for name in models
    ]


def _input_size(model: nn.Module) -> tuple[int, int]:
    return model.preprocessing.image_size if isinstance(model, DetectionModel) else (224, 224)


def _count(model: nn.Module, name: str, shape: tuple[int, int, int, int]) -> ModelCost:
    log = logging.getLogger("torch._subclasses.fake_tensor")  # it writes tracebacks of what is handled here
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return count_cost(model, shape)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{name} cannot take {shape[2]}×{shape[3]} pixels ({reason}); raise --input-size") from None
    finally:
        log.setLevel(level)

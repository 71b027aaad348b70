"""What several models cost on paper and on this machine, measured in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from vovnet.engine.any_model import resolve_model
from vovnet.engine.distributed import choose_device
from vovnet.measure.cost import ModelCost, count_cost
from vovnet.measure.energy import EnergyResult, measure_energy
from vovnet.measure.sensors import find_sensor
from vovnet.measure.speed import Latency, median_ratio, time_interleaved


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
    input_size: int = 224,
    batch_size: int = 1,
    device: str = "auto",
    repetitions: int = 30,
    energy: bool = False,
) -> list[Measurement]:
    """Count each model's cost and time their forward passes in turn, in float32, eval mode and channels_last.

    names: as `resolve_model` takes them; input_size: height and width. energy: also joules an image, model after model,
    by the protocol of `vovnet.measure.energy` (minutes each).
    """
    if not names:
        raise ValueError("name at least one model")
    where = choose_device(device)
    shape = (batch_size, 3, input_size, input_size)
    images = torch.randn(shape, device=where).to(memory_format=torch.channels_last)
    models, costs = {}, {}
    for name in dict.fromkeys(names):
        model = resolve_model(name).eval()
        costs[name] = count_cost(model, shape)
        models[name] = model.to(where).to(memory_format=torch.channels_last)

    def run(name: str) -> int:
        with torch.inference_mode():
            models[name](images)
        if where.type == "cuda":
            torch.cuda.synchronize()
        return batch_size

    times = time_interleaved({name: partial(run, name) for name in models}, repetitions=repetitions)
    first = times[next(iter(models))]
    return [
        Measurement(
            name,
            shape,
            str(where),
            torch.get_num_threads(),
            costs[name],
            times[name],
            median_ratio(times[name], first),
            measure_energy(partial(run, name), find_sensor(where)) if energy else None,
        )
        for name in models
    ]

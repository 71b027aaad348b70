"""What a stage works with: its options, the time that it has left, and its record."""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_stages.record import FINISHED, StageRecord


@dataclass(frozen=True)
class Options:
    """The command line.

    output: folder of the records and of voc.safetensors.
    work: folder of checkpoints, which a later run on the same machine goes on from.
    data: folder of the VOC pack with the lists fit and held; cifar: folder of CIFAR-10. None: not brought along.
    """

    output: Path
    work: Path
    data: Path | None
    cifar: Path | None
    rehearse: bool
    again: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.rehearse else "cuda")


class Stage:
    """One run of a stage. deadline_s: of time.monotonic(), which all processes of a machine share."""

    def __init__(self, options: Options, record: StageRecord, key: str, deadline_s: float) -> None:
        self.options, self.record, self.key, self.deadline_s = options, record, key, deadline_s
        self.complete = True
        self.some_failed = False

    @property
    def device(self) -> torch.device:
        return self.options.device

    @property
    def rehearse(self) -> bool:
        return self.options.rehearse

    def left_s(self) -> float:
        return self.deadline_s - time.monotonic()

    def measure(
        self,
        name: str,
        function: Callable[[], Mapping[str, Any]],
        *,
        least_s: float = 1.0,
        show: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> dict[str, Any] | None:
        """The result of a measurement: the recorded one if it is fresh, else that of `function`, which is recorded.

        show: the values as they are printed; without it all single numbers and words.

        Without `least_s` seconds left it is only noted as missing, and if `function` raises, its error is recorded;
        both give None.
        """
        known = self.record.get(name, self.key)
        if known is not None and not self.options.again:
            return known
        if self.left_s() < least_s:
            self.miss(name, f"no time left: it takes about {least_s:.0f} s")
            return None
        began_s = time.monotonic()
        try:
            values: Mapping[str, Any] = function()
        except Exception as error:
            self.fail()
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            values = {"error": message, "where": traceback.format_exc().splitlines()[-12:]}
        taken_s = time.monotonic() - began_s
        self.record.put(name, self.key, {"seconds": round(taken_s, 2), **values})
        text = show(values) if show and "error" not in values else _short(values)
        print(f"{name}: {text} ({taken_s:.1f} s)", flush=True)
        free_memory()
        return self.record.get(name, self.key)

    def fail(self) -> None:
        """Something went wrong that the record says, so that this run does not count as finished."""
        self.complete, self.some_failed = False, True

    def miss(self, name: str, reason: str) -> None:
        self.complete = False
        self.record.miss(name, reason)
        print(f"{name}: {reason}", flush=True)

    def end(self) -> None:
        self.record.end(FINISHED if self.complete else "incomplete")


def free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _short(values: Mapping[str, Any]) -> str:
    """The single numbers and words of a result."""
    parts = []
    for name, value in values.items():
        if isinstance(value, float) and math.isfinite(value):
            value = f"{value:.4g}"
        if isinstance(value, str | int | float | bool) and name != "where":
            parts.append(f"{name} {value}")
    return ", ".join(parts)[:400]

"""Exact quantiles of so many numbers that they are in a temporary file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from vovnet.data.spooled import Records, Spool

Floats = npt.NDArray[np.float64]

_AT_ONCE = 2**14  # numbers in memory
_SHIFT = 48  # of the bits of a number, which leaves its exponent and the first of its other digits


class Numbers:
    """Numbers above 0, of which quantiles are those of NumPy."""

    def __init__(self, spool: Spool) -> None:
        self._records = Records(spool, "<d")

    def __len__(self) -> int:
        return len(self._records)

    def add(self, number: float) -> None:
        self._records.add(number)

    def _parts(self) -> Iterator[Floats]:
        for start in range(0, len(self), _AT_ONCE):
            end = min(len(self), start + _AT_ONCE)
            yield np.frombuffer(self._records.read(8 * start, 8 * end), "<f8")

    def fraction_below(self, limit: float, factor: float) -> float:
        """The share of the numbers that are, times the factor, below a limit."""
        return float(sum(np.count_nonzero(factor * part < limit) for part in self._parts()) / len(self))

    def median(self, factor: float) -> float:
        """That of the numbers times the factor."""
        low, high = self._at([(len(self) - 1) // 2, len(self) // 2])
        return (factor * low + factor * high) / 2

    def percentiles(self, wanted: Sequence[int]) -> dict[int, float]:
        """Percentile → number; {} without numbers."""
        if not len(self):
            return {}
        places = [percent / 100 * (len(self) - 1) for percent in wanted]
        lower = self._at([math.floor(place) for place in places])
        upper = self._at([math.ceil(place) for place in places])
        return {
            percent: _between(low, high, place - math.floor(place))
            for percent, place, low, high in zip(wanted, places, lower, upper, strict=True)
        }

    def _at(self, ranks: Sequence[int]) -> list[float]:
        """The numbers at some places of their order: positive ones sort as their bits do."""
        counts = np.zeros(2 ** (64 - _SHIFT), np.int64)
        for part in self._parts():
            groups, found = np.unique(part.view(np.uint64) >> _SHIFT, return_counts=True)
            counts[groups] += found
        ends = counts.cumsum()
        is_needed = np.zeros(len(counts), np.bool_)
        is_needed[ends.searchsorted(ranks, side="right")] = True
        needed = np.concatenate([part[is_needed[part.view(np.uint64) >> _SHIFT]] for part in self._parts()])
        needed.sort()
        left_out = np.where(is_needed, 0, counts).cumsum()  # up to each group
        return [float(needed[rank - left_out[ends.searchsorted(rank, side="right")]]) for rank in ranks]


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)

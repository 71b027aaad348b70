"""Samples of datasets that are made when they are asked for: those of 100,000 images would take too much memory."""

from __future__ import annotations

import bisect
import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

from vovnet.data.dataset import Sample


class MadeSamples(Sequence[Sample]):
    """A sequence whose subclasses give its length and make one sample."""

    @abstractmethod
    def make(self, position: int) -> Sample:
        """The sample at a position from 0 to the length − 1."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        positions = range(len(self))[index]
        return tuple(map(self.make, positions)) if isinstance(positions, range) else self.make(positions)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.make, range(len(self)))


class JoinedSamples(MadeSamples):
    """Those of several datasets, one after the other."""

    def __init__(self, *parts: Sequence[Sample]) -> None:
        self._parts, self._starts = parts, list(itertools.accumulate(map(len, parts), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def make(self, position: int) -> Sample:
        part = bisect.bisect_right(self._starts, position) - 1
        return self._parts[part][position - self._starts[part]]

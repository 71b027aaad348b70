"""Sequences of samples that are made when they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.dataset import Sample
from vovnet.data.samples import JoinedSamples, MadeSamples
from vovnet.structures import Target


class Numbered(MadeSamples):
    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def make(self, position: int) -> Sample:
        assert 0 <= position < self.count
        return Sample(Path(f"{self.first + position}.jpg"), self.first + position, Target.make([], []))


@pytest.mark.parametrize(
    "samples",
    [Numbered(0, 5), JoinedSamples(Numbered(0, 2), Numbered(2, 0), Numbered(2, 3)), JoinedSamples(Numbered(0, 5))],
    ids=["one", "three", "one part"],
)
def test_they_are_indexed_as_a_tuple_is(samples: MadeSamples) -> None:
    numbers = tuple(range(5))
    assert [sample.image_id for sample in samples] == list(numbers)
    assert [samples[index].image_id for index in range(-5, 5)] == [numbers[index] for index in range(-5, 5)]
    for part in (slice(1, 4), slice(None, None, -1), slice(-2, None), slice(9, 12), slice(None, None, 2)):
        assert tuple(sample.image_id for sample in samples[part]) == numbers[part]
    for index in (5, -6):
        with pytest.raises(IndexError):
            samples[index]

"""Packed and padded objects are those of the targets, bit for bit."""

from __future__ import annotations

import pytest
import torch

from vovnet.padded_targets import PaddedTargets, pack, unpack
from vovnet.structures import Target

COLUMNS = ("boxes", "labels", "difficult", "crowd", "area")


def targets(*counts: int) -> list[Target]:
    generator = torch.Generator().manual_seed(0)

    def flags(count: int) -> torch.Tensor:
        return torch.rand(count, generator=generator) < 0.5

    return [
        Target(
            torch.rand((count, 4), generator=generator) * 300,
            torch.randint(0, 2**20, (count,), generator=generator),
            flags(count),
            flags(count),
            torch.rand(count, generator=generator) * 1e9,
        )
        for count in counts
    ]


@pytest.mark.parametrize("counts", [(0,), (3, 0, 1), (8, 1), (9, 0), (100, 2)])
def test_objects_come_back_as_they_were(counts: tuple[int, ...]) -> None:
    given = targets(*counts)
    for target, expected in zip(unpack(pack(given), counts), given, strict=True):
        for name in COLUMNS:
            assert torch.equal(getattr(target, name), getattr(expected, name)), name
            assert getattr(target, name).dtype == getattr(expected, name).dtype


@pytest.mark.parametrize(("counts", "padded_to"), [((0,), 8), ((8, 1), 8), ((1, 9), 16), ((33,), 64)])
def test_padding_is_a_power_of_two_and_not_valid(counts: tuple[int, ...], padded_to: int) -> None:
    given = targets(*counts)
    padded = PaddedTargets.of(given).to(torch.device("cpu"))
    assert padded.boxes.shape == (len(counts), padded_to, 4)
    assert padded.valid.sum(dim=1).tolist() == list(counts)
    for row, target in enumerate(given):
        for name in ("boxes", "labels", "difficult", "crowd"):
            values = getattr(padded, name)[row]
            assert torch.equal(values[: len(target)], getattr(target, name)), name
            assert not values[len(target) :].any()
            assert values.dtype == getattr(target, name).dtype

"""Quantiles of numbers in a file are those of NumPy, for numbers of all sizes."""

from __future__ import annotations

import numpy as np
import pytest

from vovnet.data import spooled
from vovnet.data.checking import quantiles
from vovnet.data.checking.quantiles import Numbers
from vovnet.data.spooled import Spool

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


def kinds(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    return {
        "alike": rng.uniform(0.1, 0.2, count),
        "of all sizes": np.exp(rng.uniform(-600, 600, count)),
        "few differ": rng.integers(1, 4, count).astype(float),
    }


@pytest.mark.parametrize("kind", kinds(1))
@pytest.mark.parametrize("count", [1, 2, 3, 100, 1001])
def test_quantiles(kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantiles, "_AT_ONCE", 64)
    monkeypatch.setattr(spooled, "PART", 256)
    values, numbers = kinds(count)[kind], Numbers(Spool())
    for value in values.tolist():
        numbers.add(value)
    assert len(numbers) == count
    expected = np.percentile(values, PERCENTILES).tolist()
    assert list(numbers.percentiles(PERCENTILES).values()) == pytest.approx(expected, rel=1e-15)
    assert numbers.median(300) == np.median(300 * values)
    assert numbers.fraction_below(45, 300) == (300 * values < 45).mean()


def test_no_numbers() -> None:
    assert Numbers(Spool()).percentiles(PERCENTILES) == {}

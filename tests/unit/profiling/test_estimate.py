from __future__ import annotations

import pytest

from vovnet.profiling.energy.estimate import HOROWITZ_45NM, HOROWITZ_45NM_HALF, EnergyModel, estimate


def test_an_estimate_is_labelled_and_shows_its_constants() -> None:
    result = estimate(multiply_adds=1e9, memory_bytes=1e6)
    assert result.estimated_j_per_image == pytest.approx(4.6e-3 + 0.16e-3)
    assert str(result).startswith("estimated, not measured")
    assert "4.6 pJ" in str(result)
    assert HOROWITZ_45NM.source in str(result)
    assert not hasattr(result, "energy_j_per_image")
    half = estimate(1e9, 1e6, HOROWITZ_45NM_HALF)
    assert half.estimated_arithmetic_j == pytest.approx(1.5e-3)  # 1.1 pJ and 0.4 pJ
    assert "float16" in str(half)
    own = estimate(10, 5, EnergyModel(2.0, 3.0, "bench"))
    assert (own.estimated_arithmetic_j, own.estimated_memory_j) == (20, 15)

"""Joules per image estimated from operation counts, where nothing can be measured.

An estimate has a type and field names of its own, so that it is never mistaken for a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

from vovnet.profiling.ranges import NonNegative


@dataclass(frozen=True)
class EnergyModel:
    """Energy of the two basic operations, and where the numbers come from."""

    joules_per_multiply_add: float
    joules_per_byte: float
    source: str


def _horowitz(dtype: str, multiplication_pj: float, addition_pj: float) -> EnergyModel:
    return EnergyModel(
        joules_per_multiply_add=(multiplication_pj + addition_pj) * 1e-12,
        joules_per_byte=160e-12,  # 640 pJ for 32 bits
        source=f"45 nm, 0.9 V, {dtype}; arithmetic: Horowitz, ISSCC 2014; DRAM: Han et al., NIPS 2015, Table 1",
    )


HOROWITZ_45NM = _horowitz("float32", multiplication_pj=3.7, addition_pj=0.9)
HOROWITZ_45NM_HALF = _horowitz("float16 (bfloat16 assumed equal)", multiplication_pj=1.1, addition_pj=0.4)


@dataclass(frozen=True)
class EstimatedEnergy:
    """Joules for the arithmetic and memory traffic of one image, without control logic, caches, leakage, idle power and
    cooling."""

    estimated_j_per_image: NonNegative
    estimated_arithmetic_j: NonNegative
    estimated_memory_j: NonNegative
    model: EnergyModel

    def __str__(self) -> str:
        pj_per_multiply_add, pj_per_byte = 1e12 * self.model.joules_per_multiply_add, 1e12 * self.model.joules_per_byte
        return (
            f"estimated, not measured: {self.estimated_j_per_image:.4g} J/image "
            f"({self.estimated_arithmetic_j:.4g} J arithmetic at {pj_per_multiply_add:g} pJ per multiply-add, "
            f"{self.estimated_memory_j:.4g} J memory at {pj_per_byte:g} pJ per byte; {self.model.source})"
        )


def estimate(multiply_adds: float, memory_bytes: float, model: EnergyModel = HOROWITZ_45NM) -> EstimatedEnergy:
    """Estimated energy of one image, from its multiply-adds and its off-chip traffic.

    If no feature map stays in a cache, the traffic is `Cost.elements` times the bytes of one. The energies must be
    those of the number format: `HOROWITZ_45NM_HALF` for 16 bits.
    """
    arithmetic_j = multiply_adds * model.joules_per_multiply_add
    memory_j = memory_bytes * model.joules_per_byte
    return EstimatedEnergy(arithmetic_j + memory_j, arithmetic_j, memory_j, model)

"""Joules per image from a model of the hardware, where nothing can be measured. An estimate is a type of its own, with
names of its own, so that it never stands in for a measurement."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EnergyModel:
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
HOROWITZ_45NM_HALF = _horowitz("float16 (bfloat16 taken alike)", multiplication_pj=1.1, addition_pj=0.4)


@dataclass(frozen=True)
class EstimatedEnergy:
    """Joules of one image's arithmetic and memory traffic alone: no control, caches, leakage, idle or cooling."""

    estimated_j_per_image: float
    estimated_arithmetic_j: float
    estimated_memory_j: float
    model: EnergyModel

    def __str__(self) -> str:
        model = self.model
        return (
            f"estimated, not measured: {self.estimated_j_per_image:.4g} J/image "
            f"({self.estimated_arithmetic_j:.4g} J arithmetic at {1e12 * model.joules_per_multiply_add:g} pJ a "
            f"multiply-add, {self.estimated_memory_j:.4g} J memory at {1e12 * model.joules_per_byte:g} pJ a byte; "
            f"{model.source})"
        )


def estimate(multiply_adds: float, memory_bytes: float, model: EnergyModel = HOROWITZ_45NM) -> EstimatedEnergy:
    """`memory_bytes` is the off-chip traffic of one image: memory access cost × bytes of an element when no
    layer's maps stay in a cache. `HOROWITZ_45NM` is for numbers of 32 bits, `HOROWITZ_45NM_HALF` for those of 16."""
    arithmetic_j = multiply_adds * model.joules_per_multiply_add
    memory_j = memory_bytes * model.joules_per_byte
    return EstimatedEnergy(arithmetic_j + memory_j, arithmetic_j, memory_j, model)

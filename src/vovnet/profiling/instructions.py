"""What a CPU has of the instruction sets that decide which number format of a network is fast on it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# The kernel's names, by what people call them: widest vectors, products of 8-bit integers, bfloat16, matrix tiles.
_NAMES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "NEON i8mm",
    "bf16": "NEON bf16",
}
INT8 = ("AVX-VNNI", "AVX512-VNNI", "AMX-INT8", "NEON dot product", "NEON i8mm")


def neural_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those that this CPU has, such as "AVX2" and "AVX512-VNNI"; none where the system does not list them."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return ()
    listed = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    flags = set(next(listed, ()))
    return tuple(name for flag, name in _NAMES.items() if flag in flags)


def multiplies_int8(instructions: Iterable[str]) -> bool:
    """Whether one of them multiplies 8-bit integers and adds the products without saturating."""
    return any(name in INT8 for name in instructions)

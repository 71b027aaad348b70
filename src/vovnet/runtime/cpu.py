"""What the processor can compute with, which decides how fast and how exact int8 is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

_X86, _ARM = ("x86_64", "amd64", "i386", "i686"), ("arm64", "aarch64", "armv8l", "armv7l")
# Names of Linux; the first whose flags are all there. AVX512F alone computes no 8-bit numbers.
_WIDTHS = (("AVX512", {"avx512f", "avx512bw"}), ("AVX2", {"avx2"}), ("AVX", {"avx"}))
_X86_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}
_BF16_PRODUCTS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last of Arm
_DARWIN_NAMES = {
    "hw.optional.avx1_0": "avx",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512bw": "avx512bw",
    "hw.optional.avx512vnni": "avx512_vnni",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
}
_WINDOWS_FEATURES = {39: "avx", 40: "avx2", 43: "asimddp"}  # of IsProcessorFeaturePresent, which knows no VNNI


def processors() -> int:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def instruction_set() -> str:
    """The instructions that matter for networks, such as "AVX512 VNNI AMX", "AVX2", "NEON dot product"."""
    return describe_flags(platform.machine(), _flags())


def has_int8_dot_product() -> bool:
    """Whether the processor multiplies int8 and sums in int32 in one instruction: VNNI, AMX or Arm's dot product.

    False where the system does not tell.
    """
    return bool(_flags() & (_X86_DOT_PRODUCTS | {"asimddp"}))


def has_bf16_products() -> bool:
    """Whether the processor multiplies bfloat16 in one instruction, so that training in it may be faster.

    False where the system does not tell.
    """
    return bool(_flags() & _BF16_PRODUCTS)


def int8_saturates() -> bool:
    """Whether ONNX Runtime's int8 products overflow 16 bits here, unless weights keep to 7 bits (`reduce_range`).

    So on x86 without VNNI.
    """
    return platform.machine().lower() in _X86 and not has_int8_dot_product()


def describe_flags(machine: str, flags: frozenset[str]) -> str:
    """See `instruction_set`.

    machine: as `platform.machine` names it.
    flags: names of Linux's /proc/cpuinfo.
    """
    machine = machine.lower()
    if machine in _ARM:
        return "NEON dot product" if "asimddp" in flags else "NEON"
    if machine not in _X86:
        return machine or "unknown"
    width = next((name for name, needed in _WIDTHS if needed <= flags), "SSE")
    vnni = ["VNNI"] if flags & {"avx512_vnni", "avx_vnni"} else []
    amx = ["AMX"] if "amx_int8" in flags else []
    return " ".join([width, *vnni, *amx])


@cache
def _flags() -> frozenset[str]:
    """What the processor can do, in Linux's words; nothing where the system does not tell."""
    try:
        if sys.platform == "darwin":
            return _darwin_flags()
        if sys.platform == "win32":
            return _windows_flags()
        return linux_flags(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except (OSError, subprocess.SubprocessError):
        return frozenset()


def linux_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _darwin_flags() -> frozenset[str]:
    names = _DARWIN_NAMES
    # sysctl reports the names that it does not know, and goes on with the others.
    answer = subprocess.run(
        ["/usr/sbin/sysctl", *names], capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=5
    ).stdout
    values = (line.partition(":") for line in answer.splitlines())
    return frozenset(names[name.strip()] for name, _, value in values if value.strip() == "1" and name.strip() in names)


def _windows_flags() -> frozenset[str]:
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    return frozenset(flag for number, flag in _WINDOWS_FEATURES.items() if kernel.IsProcessorFeaturePresent(number))

"""The instruction set is read from the flags as Linux writes them."""

from __future__ import annotations

import sys

import pytest

from vovnet.runtime import cpu

SAPPHIRE = "avx avx2 avx512f avx512bw avx512_vnni avx_vnni amx_tile amx_int8"


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", SAPPHIRE, "AVX512 VNNI AMX"),
        ("x86_64", "avx avx2 avx512f avx512bw avx512_vnni", "AVX512 VNNI"),
        ("x86_64", "avx avx2 avx512f avx512bw", "AVX512"),
        ("x86_64", "avx avx2 avx512f", "AVX2"),  # Knights Landing
        ("AMD64", "avx avx2 avx_vnni", "AVX2 VNNI"),
        ("x86_64", "avx avx2", "AVX2"),
        ("x86_64", "avx", "AVX"),
        ("x86_64", "sse4_2", "SSE"),
        ("aarch64", "fp asimd asimddp", "NEON dot product"),
        ("arm64", "", "NEON"),
        ("riscv64", "", "riscv64"),
        ("", "", "unknown"),
    ],
)
def test_instruction_sets(machine: str, flags: str, expected: str) -> None:
    assert cpu.describe_flags(machine, frozenset(flags.split())) == expected


@pytest.mark.parametrize(
    ("machine", "flags", "dot_product", "saturates"),
    [
        ("x86_64", {"avx2"}, False, True),
        ("x86_64", {"avx2", "avx_vnni"}, True, False),
        ("x86_64", {"avx512f", "avx512bw"}, False, True),
        ("x86_64", {"amx_int8"}, True, False),
        ("aarch64", {"asimd"}, False, False),
        ("aarch64", {"asimddp"}, True, False),
        ("x86_64", set(), False, True),  # a system that does not tell: the careful answer
    ],
)
def test_int8(monkeypatch, machine: str, flags: set[str], dot_product: bool, saturates: bool) -> None:
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu, "_flags", lambda: frozenset(flags))
    assert cpu.has_int8_dot_product() is dot_product
    assert cpu.int8_saturates() is saturates


def test_linux_text() -> None:
    x86 = "processor\t: 0\nvmx flags\t: vnmi\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    assert cpu.linux_flags(x86) == {"fpu", "avx2", "avx_vnni"}
    assert cpu.linux_flags("processor\t: 0\nFeatures\t: fp asimd asimddp\n") == {"fp", "asimd", "asimddp"}
    assert cpu.linux_flags("") == frozenset()


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc/cpuinfo")
def test_this_machine_agrees_with_torch() -> None:
    import torch

    theirs = torch.backends.cpu.get_cpu_capability()  # "AVX512", "AVX2", "DEFAULT", …
    if theirs in ("AVX512", "AVX2"):
        assert cpu.instruction_set().startswith(theirs)
    assert cpu.has_int8_dot_product() or "VNNI" not in cpu.instruction_set()


def test_a_system_that_does_not_tell(monkeypatch) -> None:
    def unreadable(*_args, **_options):
        raise OSError

    monkeypatch.setattr(cpu.Path, "read_text", unreadable)
    monkeypatch.setattr(cpu.sys, "platform", "linux")
    assert cpu._flags.__wrapped__() == frozenset()

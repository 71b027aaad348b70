from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vovnet.profiling.energy.rapl import PACKAGE_LIMIT_W, Rapl
from vovnet.profiling.energy.sensors import CounterError

from .simulated import Device, FakeSys, VirtualClock

STEADY = ((200.0, 0.02),)


def test_packages_are_added_and_nothing_inside_or_around_them(tmp_path: Path) -> None:
    device = Device(phases=STEADY, idle_w=30)
    machine = FakeSys(tmp_path, device)
    sensor = Rapl(tmp_path)
    assert sensor.name == "CPU, package-0, package-1"
    assert sensor.read("rapl") == 0
    device.clock.sleep(2.0)
    machine.refresh()
    assert sensor.read("rapl") == pytest.approx(60, rel=1e-4)


@settings(deadline=None)
@given(range_uj=st.integers(10, 10**12), shares=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_a_counter_that_wraps_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, range_uj: int, shares: list[float]
) -> None:
    root = tmp_path_factory.mktemp("sys")
    device = Device(phases=STEADY)
    FakeSys(root, device, packages=1, range_uj=range_uj)
    counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.write_text("0")
    sensor = Rapl(root, device.clock)
    total_uj = 0
    for share in shares:
        total_uj += int(share * range_uj)
        counter.write_text(str(total_uj % range_uj))
        device.clock.sleep(range_uj / 1e6 / PACKAGE_LIMIT_W)
        assert sensor.read("rapl") == total_uj / 1e6


RANGE_UJ = 262_143_328_850  # of most Intel packages


def package(root: Path, energy_j: float, **files: int) -> Path:
    """The counter of a package; files: the limits that the kernel states for it, in µW."""
    FakeSys(root, Device(phases=STEADY), packages=1, range_uj=RANGE_UJ)
    zone = root / "sys/class/powercap/intel-rapl:0"
    for name, value in files.items():
        (zone / name).write_text(f"{value}\n")
    (zone / "energy_uj").write_text(f"{energy_j * 1e6:.0f}")
    return zone / "energy_uj"


LAPTOP_UW = {"constraint_0_max_power_uw": 15_000_000, "constraint_1_power_limit_uw": 50_000_000}  # 100 J in a second


@pytest.mark.parametrize(
    ("before_j", "after_j", "seconds", "limits_uw", "rise_j"),
    [
        (5_000, 1, 0.25, {}, None),  # set back: a wrap would mean 257 kJ
        (200_000, 0, 10, {}, None),  # set to zero by a machine that was suspended
        (262_000, 300, 0.25, LAPTOP_UW, None),  # 443 J, more than a laptop draws in a second
        (262_000, 300, 10, LAPTOP_UW, 443.32885),  # and less than it can draw in ten
        (262_000, 300, 0.25, {"constraint_1_power_limit_uw": 0}, 443.32885),
        (262_000, 300, 0.25, {"constraint_1_power_limit_uw": 4_095_875_000}, 443.32885),  # the firmware's "no limit"
        (100_000, 105_000, 0.25, {}, None),  # 20 kW without any wrap
    ],
)
def test_a_counter_has_wrapped_only_if_the_packages_can_draw_that(
    tmp_path: Path, before_j: float, after_j: float, seconds: float, limits_uw: dict[str, int], rise_j: float | None
) -> None:
    counter, clock = package(tmp_path, before_j, **limits_uw), VirtualClock()
    sensor = Rapl(tmp_path, clock)
    counter.write_text(f"{after_j * 1e6:.0f}")
    clock.sleep(seconds)
    if rise_j is not None:
        assert sensor.read("rapl") == pytest.approx(rise_j)
        return
    with pytest.raises(CounterError, match=rf"went from {before_j} J to {after_j} J in {seconds:.1f} s"):
        sensor.read("rapl")
    counter.write_text(f"{after_j * 1e6 + 5e6:.0f}")
    clock.sleep(0.25)
    assert sensor.read("rapl") == 5  # what follows counts again


def test_a_counter_that_is_no_number_is_a_reading_that_fails(tmp_path: Path) -> None:
    counter = package(tmp_path, 1)
    sensor = Rapl(tmp_path)
    counter.write_text("")
    with pytest.raises(OSError, match="is no number"):
        sensor.read("rapl")


def test_state_of_a_cpu(tmp_path: Path) -> None:
    FakeSys(tmp_path, Device(phases=STEADY))
    for file, text in {
        "class/thermal/thermal_zone0/type": "acpitz",
        "class/thermal/thermal_zone0/temp": "90000",
        "class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "class/thermal/thermal_zone1/temp": "51000",
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2000000",
        "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3000000",
    }.items():
        (tmp_path / "sys" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / file).write_text(text + "\n")
    state = Rapl(tmp_path).state(1.0)
    assert (state.temperature_c, state.clock_mhz) == (51, 3000)
    assert state.other_cpu_s == pytest.approx(0, abs=0.5)
    (tmp_path / "proc/stat").unlink()
    assert Rapl(tmp_path).state(1.0).other_cpu_s is None


def test_a_machine_without_packages_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no RAPL counter"):
        Rapl(tmp_path)


def test_a_counter_for_root_only_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeSys(tmp_path, Device(phases=STEADY))
    read_text = Path.read_text

    def read_as_user(path: Path, encoding: str | None = None) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, encoding=encoding)

    monkeypatch.setattr(Path, "read_text", read_as_user)
    with pytest.raises(PermissionError, match="energy_uj is not readable: run as root"):
        Rapl(tmp_path)

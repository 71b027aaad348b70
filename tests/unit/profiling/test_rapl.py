from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vovnet.profiling.rapl import Rapl

from .simulated import Device, FakeSys

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
    FakeSys(root, Device(phases=STEADY), packages=1, range_uj=range_uj)
    counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.write_text("0")
    sensor = Rapl(root)
    total_uj = 0
    for share in shares:
        total_uj += int(share * range_uj)
        counter.write_text(str(total_uj % range_uj))
        assert sensor.read("rapl") == total_uj / 1e6


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

    def read_as_user(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", read_as_user)
    with pytest.raises(PermissionError, match="energy_uj is not readable: run as root"):
        Rapl(tmp_path)

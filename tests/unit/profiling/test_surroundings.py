from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from vovnet.profiling import surroundings
from vovnet.profiling.energy.nvml import Nvml
from vovnet.profiling.energy.sensors import NoSensor
from vovnet.profiling.machine import Machine
from vovnet.profiling.surroundings import Surroundings, Watch, watch

from .simulated import H100, Device, FakeNvml, VirtualClock

TICK = 1 / os.sysconf("SC_CLK_TCK")


class Computer:
    """Kernel files of two cores; time passes in `work`."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, VirtualClock()
        self.busy_s, self.stolen_s = 1000.0, 5.0
        self.set(clocks_mhz=(3000, 800), temperature_c=50, quota_stops=3, heat_stops=7)
        self.write("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n")
        self.write("sys/class/thermal/thermal_zone1/type", "acpitz\n")
        self.write("sys/class/thermal/thermal_zone1/temp", "99000\n")
        self.write_stat()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def write_stat(self) -> None:
        """Busy time in five parts: user, nice, system and the two kinds of interrupts."""
        part, rest = divmod(round(self.busy_s / TICK), 5)
        stolen = round(self.stolen_s / TICK)
        self.write("proc/stat", f"cpu  {part + rest} {part} {part} 70 80 {part} {part} {stolen} 9 0\ncpu0 1 2 3 4\n")

    def set(
        self,
        *,
        clocks_mhz: tuple[float, ...] = (),
        temperature_c: float | None = None,
        quota_stops: int | None = None,
        heat_stops: int | None = None,
    ) -> None:
        for cpu, clock_mhz in enumerate(clocks_mhz):
            self.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{1000 * clock_mhz:.0f}\n")
        if temperature_c is not None:
            self.write("sys/class/thermal/thermal_zone0/temp", f"{1000 * temperature_c:.0f}\n")
        if quota_stops is not None:
            self.write("sys/fs/cgroup/cpu.stat", f"usage_usec 5\nnr_periods 9\nnr_throttled {quota_stops}\n")
        if heat_stops is not None:
            self.write("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", f"{heat_stops}\n")

    def work(self, seconds: float, *, busy: float = 0.0, stolen: float = 0.0) -> None:
        """busy, stolen: cores."""
        self.busy_s += busy * seconds
        self.stolen_s += stolen * seconds
        self.write_stat()
        self.clock.sleep(seconds)

    def watch(self) -> Watch:
        return watch("cpu", root=self.root, clock=self.clock)


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


def test_a_quiet_computer_causes_no_warning(computer: Computer) -> None:
    with computer.watch() as watching:
        computer.work(30, busy=0.05)
    seen = watching.result()
    assert seen.seconds == pytest.approx(30)
    assert seen.other_cpu_cores == pytest.approx(0.05, abs=0.005)
    assert seen.clock_mhz == (3000, 3000), "of the fastest core; the other core is idle"
    assert seen.temperature_c == (50, 50), "the package's, not the board's"
    assert seen.doubts == ()


def test_other_processes_are_reported(computer: Computer) -> None:
    with computer.watch() as watching:
        computer.work(30, busy=1.5)
    assert watching.result().other_cpu_cores == pytest.approx(1.5, abs=0.01)
    assert watching.result().doubts == ("other processes kept 1.5 CPU cores busy",)


def test_what_this_process_does_is_not_others(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    began_s = computer.clock.now()
    monkeypatch.setattr(time, "process_time", lambda: 2 * (computer.clock.now() - began_s))
    with computer.watch() as watching:
        computer.work(30, busy=2.05)
    assert watching.result().other_cpu_cores == pytest.approx(0.05, abs=0.005)
    assert watching.result().doubts == ()


def test_a_step_of_the_kernels_clock_is_not_a_process(computer: Computer) -> None:
    with computer.watch() as watching:
        computer.work(0.05, busy=0.4)
    assert watching.result().doubts == ()


def test_a_clock_that_falls_and_rises_between_the_ends_is_seen(computer: Computer) -> None:
    with computer.watch() as watching:
        computer.work(60)
        computer.set(clocks_mhz=(2000, 800))
        computer.work(60)
        computer.set(clocks_mhz=(3000, 800))
        computer.work(60)
    assert watching.result().clock_mhz == (2000, 3000)
    assert watching.result().doubts == ("the clock ranged from 2000 to 3000 MHz",)


def test_a_clock_within_five_per_cent_is_constant(computer: Computer) -> None:
    with computer.watch() as watching:
        computer.set(clocks_mhz=(2870,))
        computer.work(1)
    assert watching.result().clock_mhz == (2870, 3000)
    assert watching.result().doubts == ()


def test_temperature_may_rise_a_little(computer: Computer) -> None:
    with computer.watch() as watching:
        computer.set(temperature_c=59)
        computer.work(1)
    assert watching.result().doubts == ()
    with computer.watch() as watching:
        computer.set(temperature_c=75)
        computer.work(1)
    assert watching.result().temperature_c == (59, 75)
    assert watching.result().doubts == ("the temperature ranged from 59 to 75 °C",)


@pytest.mark.parametrize(
    ("changed", "doubt"),
    [
        ({"heat_stops": 9}, "the CPU slowed down because of heat (2 ×)"),
        ({"quota_stops": 15}, "the container used up its share of the CPU and was stopped (12 ×)"),
    ],
)
def test_a_cpu_that_was_slowed_down_is_reported(computer: Computer, changed: dict[str, int], doubt: str) -> None:
    with computer.watch() as watching:
        computer.work(1)
        computer.set(**changed)
    assert watching.result().doubts == (doubt,)


def test_the_first_version_of_control_groups_counts_too(computer: Computer) -> None:
    (computer.root / "sys/fs/cgroup/cpu.stat").unlink()
    computer.write("sys/fs/cgroup/cpu/cpu.stat", "nr_periods 9\nnr_throttled 1\n")
    with computer.watch() as watching:
        computer.write("sys/fs/cgroup/cpu/cpu.stat", "nr_periods 9\nnr_throttled 2\n")
        computer.work(1)
    assert watching.result().doubts == ("the container used up its share of the CPU and was stopped (1 ×)",)


def test_stolen_time_is_a_share_of_what_was_asked_for(computer: Computer) -> None:
    with computer.watch() as watching:
        computer.work(100, busy=0.09, stolen=0.01)
    assert watching.result().doubts == ("the host gave 10.0% of this virtual machine's CPU time to others",)
    with computer.watch() as watching:
        computer.work(100, busy=0.09, stolen=0.0005)
    assert watching.result().doubts == ()


def test_only_what_lies_within_counts_and_windows_are_added(computer: Computer) -> None:
    watching = computer.watch()
    with watching:
        computer.work(10, busy=0.04)
    computer.set(clocks_mhz=(800, 800))
    computer.work(100, busy=2)
    computer.set(clocks_mhz=(3000, 800))
    with watching:
        computer.work(30, busy=0.08)
    seen = watching.result()
    assert seen.seconds == pytest.approx(40)
    assert seen.other_cpu_cores == pytest.approx(0.07, abs=0.005)
    assert seen.doubts == ()


def test_a_system_that_reports_nothing_leaves_values_unknown(tmp_path: Path) -> None:
    clock = VirtualClock()
    with watch("cpu", root=tmp_path, clock=clock) as watching:
        clock.sleep(2)
    assert watching.result() == Surroundings(pytest.approx(2), None, None, None, ())


def test_a_sandbox_that_counts_nothing_is_not_called_quiet(computer: Computer) -> None:
    computer.write("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n")
    with computer.watch() as watching:
        computer.clock.sleep(2)
    assert watching.result().other_cpu_cores is None


def test_where_the_kernel_has_no_scaling_its_list_of_cpus_gives_the_clock(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\ncpu MHz\t\t: 2596.142\n\ncpu MHz\t\t: 1200.000\n")
    assert Machine(tmp_path).state(1.0).clock_mhz == pytest.approx(2596.142)


def test_amd_packages_and_files_that_vanish(tmp_path: Path) -> None:
    monitor = tmp_path / "sys/class/hwmon/hwmon2"
    monitor.mkdir(parents=True)
    (monitor / "name").write_text("k10temp\n")
    (monitor / "temp1_input").write_text("61500\n")
    machine = Machine(tmp_path)
    assert machine.state(1.0).temperature_c == 61.5
    (monitor / "temp1_input").unlink()
    assert machine.state(2.0).temperature_c is None


# Boards -------------------------------------------------------------------------------------------------------------


def test_a_board_that_throttles_and_is_shared_is_reported(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(phases=((600.0, 0.5),))
    nvml = FakeNvml(device, H100)
    monkeypatch.setattr(surroundings, "find_nvml", lambda found: Nvml(nvml, "handle"))

    def look(passes: int) -> Surroundings:
        with watch("cuda:0", root=computer.root, clock=device.clock) as watching:
            for _ in range(passes):
                device.run()
        return watching.result()

    look(200)  # warm-up
    quiet = look(20)
    assert quiet.clock_mhz == (1400, 1400), "the board's, not the CPU's"
    assert quiet.doubts == ()
    nvml.pids, device.slow_after_s = [os.getpid(), 4242], device.worked_s + 5
    assert look(20).doubts == (
        "other processes were on the device: 4242",
        "the clock ranged from 1000 to 1400 MHz",
        "the device throttled: hardware thermal slowdown",
    )


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_cannot_be_read_has_no_clock_and_not_that_of_the_cpu(
    computer: Computer, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(surroundings, "find_nvml", lambda found: NoSensor("none here"))
    with watch(torch.device(device), root=computer.root, clock=computer.clock) as watching:
        computer.work(10, busy=1)
    seen = watching.result()
    assert seen.clock_mhz is None
    assert seen.temperature_c is None
    assert seen.doubts == ("other processes kept 1.0 CPU cores busy",)


# This machine -------------------------------------------------------------------------------------------------------

on_linux = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this system has no /proc/stat")


@on_linux
def test_a_child_that_computes_takes_cores_from_what_is_timed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with watch("cpu") as watching:
            time.sleep(1.0)
    finally:
        child.kill()
        child.communicate()
    seen = watching.result()
    assert seen.seconds == pytest.approx(1.0, rel=0.5)
    assert seen.other_cpu_cores is not None
    assert seen.other_cpu_cores > 0.2
    assert any("other processes kept" in doubt for doubt in seen.doubts)


@on_linux
def test_threads_of_this_process_are_not_others() -> None:
    machine = Machine()

    def burn() -> None:
        while time.thread_time() < 0.3:
            pass

    before = machine.counters(0.0)
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    after = machine.counters(1.0)
    assert after.own_cpu_s - before.own_cpu_s >= 0.25
    assert not math.isnan(after.all_cpu_s)

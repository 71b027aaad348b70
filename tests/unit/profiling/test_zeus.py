"""The adapter to zeus, over a stand-in for its package."""

from __future__ import annotations

import platform
import queue
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch

from vovnet.profiling import nvml
from vovnet.profiling.energy import measure_energy
from vovnet.profiling.recording import Timeline
from vovnet.profiling.sensors import NoSensor, find_sensor
from vovnet.profiling.zeus import ZeusChip, ZeusGpu

from .simulated import Device

PHASES = ((300.0, 0.017), (140.0, 0.008))
SHORT = Timeline(trials=2, idle_s=1, warmup_s=0.5, window_s=3, window_ticks=10)


class ZeusBaseError(Exception):
    pass


class AmdGpu:
    """As zeus shows a GPU: millijoules and milliwatts. `lacks` names what it raises for."""

    def __init__(self, device: Device, lacks: tuple[str, ...] = ()) -> None:
        self.device, self.lacks = device, lacks

    def _has(self, name: str) -> None:
        if name in self.lacks:
            raise ZeusBaseError(f"{name} is not supported")

    def get_name(self) -> str:
        return "Instinct MI300X"

    def supports_get_total_energy_consumption(self) -> bool:
        return "counter" not in self.lacks

    def get_total_energy_consumption(self) -> int:
        self._has("counter")
        return int(1e3 * self.device.joules(self.device.clock.now()))

    def get_instant_power_usage(self) -> int:
        self._has("instant")
        return round(1e3 * self.device.mean_w(self.device.clock.now(), 0.02))

    def get_average_power_usage(self) -> int:
        self._has("average")
        return round(1e3 * self.device.mean_w(self.device.clock.now(), 1.0))

    def get_power_management_limit(self) -> int:
        return 750_000

    def get_gpu_temperature(self) -> int:
        self._has("temperature")
        return 41


@dataclass
class Parts:
    """Millijoules of the parts of a chip; None where it has no such part."""

    cpu_total_mj: float | None = None
    performance_cluster_mj: float | None = None
    gpu_mj: float | None = None
    dram_mj: float | None = None
    ane_mj: float | None = None
    cpu_energy_mj: float | None = None
    gpu_energy_mj: float | None = None
    total_energy_mj: float | None = None


class AppleSilicon:
    """Half of the energy in the GPU, a quarter in the CPU and in memory each."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def get_total_energy_consumption(self) -> Parts:
        now_mj = 1e3 * self.device.joules(self.device.clock.now())
        return Parts(now_mj / 4, now_mj / 5, now_mj / 2, now_mj / 4)

    def get_available_metrics(self) -> set[str]:
        return {name for name, value in vars(self.get_total_energy_consumption()).items() if value is not None}


class Jetson(AppleSilicon):
    """The whole board, with CPU and GPU inside."""

    def get_total_energy_consumption(self) -> Parts:
        now_mj = 1e3 * self.device.joules(self.device.clock.now())
        return Parts(cpu_energy_mj=now_mj / 4, gpu_energy_mj=now_mj / 2, total_energy_mj=now_mj)


@pytest.fixture
def device() -> Device:
    return Device(phases=PHASES)


def install(monkeypatch: pytest.MonkeyPatch, **parts: object) -> None:
    """A package zeus whose `zeus.device.gpu` and `zeus.device.soc` hold these parts."""
    for name in ("zeus", "zeus.device", "zeus.device.gpu", "zeus.device.soc", "zeus.exception"):
        module = ModuleType(name)
        vars(module).update(parts, ZeusBaseError=ZeusBaseError)
        monkeypatch.setitem(sys.modules, name, module)


def install_amd(monkeypatch: pytest.MonkeyPatch, *gpus: AmdGpu, loads: bool = True) -> None:
    manager = SimpleNamespace(gpus=list(gpus))
    install(monkeypatch, AMDGPUs=lambda: manager, amdsmi_is_available=lambda: loads)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_an_amd_gpu_by_the_whole_protocol(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    install_amd(monkeypatch, AmdGpu(Device(phases=((1.0, 1.0),))), AmdGpu(device))
    sensor = find_sensor("cuda:1")
    assert isinstance(sensor, ZeusGpu)
    assert {method: source.name for method, source in sensor.sources.items()} == {
        "counter": "zeus get_total_energy_consumption",
        "sampled": "zeus get_instant_power_usage",
        "paper": "zeus get_average_power_usage",
    }
    result = measure_energy(device.run, sensor, timeline=SHORT, clock=device.clock)
    assert result.recording is not None
    assert result.recording.device == "Instinct MI300X"
    assert not result.disputed
    for figure in (result.figure, result.check):
        assert figure is not None
        assert figure.energy_j_per_image == pytest.approx(device.true_j_per_image, rel=0.02)
    seen = result.recording.conditions[0]
    assert (seen.temperature_c, seen.power_limit_w) == (41, 750)


@pytest.mark.parametrize(
    ("lacks", "sampled", "paper"),
    [
        (("instant",), "zeus get_average_power_usage", "zeus get_average_power_usage"),
        (("average",), "zeus get_instant_power_usage", "zeus get_instant_power_usage"),
        (("instant", "average"), None, None),
    ],
)
def test_what_an_amd_gpu_lacks_is_no_source(
    monkeypatch: pytest.MonkeyPatch, device: Device, lacks: tuple[str, ...], sampled: str | None, paper: str | None
) -> None:
    install_amd(monkeypatch, AmdGpu(device, (*lacks, "counter", "temperature")))
    sensor = find_sensor("cuda")
    assert isinstance(sensor, ZeusGpu)
    names = {method: source.name for method, source in sensor.sources.items()}
    assert names == ({"sampled": sampled, "paper": paper} if sampled else {})
    assert sensor.conditions(1.0).temperature_c is None


def test_a_reading_that_fails_is_an_os_error(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    gpu = AmdGpu(device)
    install_amd(monkeypatch, gpu)
    sensor = find_sensor("cuda")
    assert isinstance(sensor, ZeusGpu)
    gpu.lacks = ("counter",)
    with pytest.raises(OSError, match="zeus: counter is not supported"):
        sensor.read("counter")


def test_an_amd_gpu_that_cannot_be_read_is_a_reason(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    install_amd(monkeypatch, AmdGpu(device), loads=False)
    assert "amdsmi does not load" in find_sensor("cuda").reason
    install_amd(monkeypatch, AmdGpu(device))
    assert "cannot be read" in find_sensor("cuda:3").reason


@pytest.mark.parametrize("name", ["mps", "cpu"])
def test_an_apple_chip_by_the_whole_protocol(monkeypatch: pytest.MonkeyPatch, device: Device, name: str) -> None:
    install(monkeypatch, get_soc=lambda: AppleSilicon(device))
    monkeypatch.setattr(sys, "platform", "darwin")
    sensor = find_sensor(name)
    assert isinstance(sensor, ZeusChip)
    assert "the sum of cpu_total_mj, gpu_mj, dram_mj" in sensor.sources["counter"].meaning
    result = measure_energy(device.run, sensor, timeline=SHORT, clock=device.clock)
    assert result.figure is not None
    assert result.figure.method == "counter"
    assert result.energy_j_per_image == pytest.approx(device.true_j_per_image, rel=0.02)


@pytest.mark.parametrize("error", [ZeusBaseError("gone"), RuntimeError("gone"), queue.Empty()])
def test_a_chip_that_does_not_answer_is_an_os_error(
    monkeypatch: pytest.MonkeyPatch, device: Device, error: Exception
) -> None:
    chip = AppleSilicon(device)
    install(monkeypatch, get_soc=lambda: chip)
    sensor = find_sensor("mps")
    assert isinstance(sensor, ZeusChip)

    def fail() -> Parts:
        raise error

    monkeypatch.setattr(chip, "get_total_energy_consumption", fail)
    with pytest.raises(OSError, match="zeus: (gone|no answer in time)"):
        sensor.read("counter")
    assert "cannot be read" in find_sensor("mps").reason


def test_a_jetson_board_is_read_as_a_whole(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    """NVML knows its name at most; a board with a sensor of its own keeps NVML, and so does one beside another CPU."""
    install(monkeypatch, get_soc=lambda: Jetson(device))
    no_power = SimpleNamespace(sources={})
    monkeypatch.setattr(nvml, "find_nvml", lambda device: no_power)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(is_integrated=1))
    assert find_sensor("cuda") is no_power
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    sensor = find_sensor("cuda")
    assert isinstance(sensor, ZeusChip)
    before_j = sensor.read("counter")
    device.clock.sleep(2.0)
    assert sensor.read("counter") - before_j == pytest.approx(120)
    board = SimpleNamespace(sources={"sampled": None})
    monkeypatch.setattr(nvml, "find_nvml", lambda device: board)
    assert find_sensor("cuda") is board


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_without_zeus_the_reason_names_the_extra(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, "zeus", None)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    found = find_sensor(kind)
    assert isinstance(found, NoSensor)
    assert "pip install 'vovnet[zeus]'" in found.reason

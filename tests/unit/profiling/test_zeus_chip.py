"""The adapter to zeus's chips: zeus's own classes without the libraries and processes that read power."""

from __future__ import annotations

import dataclasses
import platform
import queue
import sys
from types import SimpleNamespace

import pytest
import torch

from vovnet.profiling.energy import find_sensor as finder
from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.measured import measure_energy
from vovnet.profiling.energy.sensors import NoSensor
from vovnet.profiling.energy.zeus import CHIP_PARTS, ZeusChip

from .protocol import SHORTER, zeus_module
from .simulated import Device


@pytest.fixture
def device() -> Device:
    return Device()


# Apple: zeus's AppleSilicon over a simulated zeus_apple_silicon -------------------------------------------------------


class AppleEnergyMonitor:
    """Half of the energy in the GPU, a quarter in the CPU and in memory each."""

    def __init__(self, device: Device) -> None:
        self.device, self.error = device, None

    def get_cumulative_energy(self) -> SimpleNamespace:
        if self.error:
            raise self.error
        fields = dict.fromkeys(names_of_fields("zeus.device.soc.apple", "AppleSiliconMeasurement"))
        now_mj = int(1e3 * self.device.joules(self.device.clock.now()))
        shares = {"cpu_total_mj": now_mj // 4, "gpu_mj": now_mj // 2, "dram_mj": now_mj // 4}
        return SimpleNamespace(**fields | shares | {"performance_cluster_mj": [now_mj // 5]})


def names_of_fields(module: str, name: str) -> list[str]:
    return [field.name for field in dataclasses.fields(getattr(zeus_module(module), name))]


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch, device: Device) -> AppleEnergyMonitor:
    soc, apple = zeus_module("zeus.device.soc"), zeus_module("zeus.device.soc.apple")
    monitor = AppleEnergyMonitor(device)
    monkeypatch.setattr(soc, "_soc", None)
    monkeypatch.setattr(soc, "apple_silicon_is_available", lambda: True)
    monkeypatch.setattr(apple, "zeus_apple_silicon", SimpleNamespace(AppleEnergyMonitor=lambda: monitor))
    return monitor


@pytest.mark.parametrize("name", ["mps", "cpu"])
def test_an_apple_chip_by_the_whole_protocol(
    monkeypatch: pytest.MonkeyPatch, apple: AppleEnergyMonitor, device: Device, name: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    sensor = find_sensor(name)
    assert isinstance(sensor, ZeusChip)
    assert sensor.name == "AppleSilicon"
    assert "the sum of cpu_total_mj, gpu_mj, dram_mj" in sensor.sources["counter"].meaning
    result = measure_energy(device.run, sensor, timeline=SHORTER, clock=device.clock)
    assert result.figure is not None
    assert result.figure.method == "counter"
    assert result.energy_j_per_image == pytest.approx(device.true_j_per_image, rel=0.02)


def test_an_apple_chip_that_does_not_answer_is_an_os_error(apple: AppleEnergyMonitor) -> None:
    sensor = find_sensor("mps")
    assert isinstance(sensor, ZeusChip)
    apple.error = RuntimeError("gone")
    with pytest.raises(OSError, match="zeus: gone"):
        sensor.read("counter")


def test_an_apple_library_that_does_not_start_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, apple: AppleEnergyMonitor
) -> None:
    def fail() -> None:
        raise RuntimeError("no permission")

    library = SimpleNamespace(AppleEnergyMonitor=fail)
    monkeypatch.setattr(zeus_module("zeus.device.soc.apple"), "zeus_apple_silicon", library)
    assert "the chip cannot be read" in find_sensor("mps").reason


@pytest.mark.skipif(sys.platform == "darwin", reason="this machine may have such a chip")
def test_a_machine_without_such_a_chip_is_a_reason() -> None:
    zeus_module("zeus.device.soc")
    assert "the chip cannot be read: No observable SoC" in find_sensor("mps").reason


# Jetson: zeus's Jetson without the process that reads power -----------------------------------------------------------


class JetsonQueue:
    """What zeus's process would send: the energy of the board, with CPU and GPU in it."""

    def __init__(self, device: Device) -> None:
        self.device, self.answers = device, True

    def put(self, command: object) -> None:
        assert command is zeus_module("zeus.device.soc.jetson").Command.READ

    def get(self, timeout: float) -> object:
        if not self.answers:
            raise queue.Empty
        now_mj = 1e3 * self.device.joules(self.device.clock.now())
        measurement = zeus_module("zeus.device.soc.jetson").JetsonMeasurement
        return measurement(cpu_energy_mj=now_mj / 4, gpu_energy_mj=now_mj / 2, total_energy_mj=now_mj)


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch, device: Device) -> JetsonQueue:
    soc, jetson = zeus_module("zeus.device.soc"), zeus_module("zeus.device.soc.jetson")
    answers = JetsonQueue(device)
    context = SimpleNamespace(Queue=lambda: answers, Process=lambda **_: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr(jetson, "mp", SimpleNamespace(get_context=lambda method: context))
    monkeypatch.setattr(jetson, "atexit", SimpleNamespace(register=lambda function: None))
    for module in (soc, jetson):
        monkeypatch.setattr(module, "jetson_is_available", lambda: True)
    monkeypatch.setattr(soc, "apple_silicon_is_available", lambda: False)
    monkeypatch.setattr(soc, "_soc", None)
    monkeypatch.setattr(finder, "find_nvml", lambda device: NoSensor("a chip, not a board"))
    monkeypatch.setattr(finder, "_is_jetson", lambda device: True)
    return answers


def test_a_jetson_board_is_read_as_a_whole(jetson: JetsonQueue, device: Device) -> None:
    sensor = find_sensor("cuda")
    assert isinstance(sensor, ZeusChip)
    assert sensor.name == "Jetson"
    before_j = sensor.read("counter")
    device.clock.sleep(2.0)
    assert sensor.read("counter") - before_j == pytest.approx(120)


def test_a_jetson_board_that_does_not_answer_is_an_os_error_and_then_a_reason(
    jetson: JetsonQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = find_sensor("cuda")
    assert isinstance(sensor, ZeusChip)
    jetson.answers = False
    with pytest.raises(OSError, match="zeus: no answer in time"):
        sensor.read("counter")
    monkeypatch.setattr(zeus_module("zeus.device.soc"), "_soc", None)
    assert find_sensor("cuda") == NoSensor("the chip cannot be read: no answer in time")


def test_the_parts_of_a_chip_are_fields_of_zeus() -> None:
    fields = {
        *names_of_fields("zeus.device.soc.apple", "AppleSiliconMeasurement"),
        *names_of_fields("zeus.device.soc.jetson", "JetsonMeasurement"),
    }
    assert {part for parts in CHIP_PARTS for part in parts} <= fields


# Without zeus ---------------------------------------------------------------------------------------------------------


def test_only_an_arm_chip_that_nvml_cannot_read_is_a_jetson_board(monkeypatch: pytest.MonkeyPatch) -> None:
    chip, no_power, board = object(), SimpleNamespace(sources={}), SimpleNamespace(sources={"sampled": None})
    monkeypatch.setattr(finder, "find_zeus_chip", lambda: chip)
    monkeypatch.setattr(finder, "find_nvml", lambda device: no_power)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(is_integrated=1))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert find_sensor("cuda") is no_power
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert find_sensor("cuda") is chip
    monkeypatch.setattr(finder, "find_nvml", lambda device: board)
    assert find_sensor("cuda") is board


@pytest.mark.parametrize("device_type", ["cuda", "mps"])
def test_without_zeus_the_reason_names_the_extra(monkeypatch: pytest.MonkeyPatch, device_type: str) -> None:
    for name in ("zeus", "zeus.device", "zeus.device.gpu", "zeus.device.soc"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    sensor = find_sensor(device_type)
    assert isinstance(sensor, NoSensor)
    assert 'pip install "vovnet[zeus]"' in sensor.reason

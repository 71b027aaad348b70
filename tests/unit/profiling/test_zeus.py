"""The adapter to zeus against zeus's own classes. What is simulated lies below them: the vendors' libraries.

Without zeus these tests are skipped, but for those of the adapter's own decisions at the end.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import platform
import queue
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from vovnet.profiling import find_sensor as finder
from vovnet.profiling.energy import measure_energy
from vovnet.profiling.find_sensor import find_sensor
from vovnet.profiling.recording import Timeline
from vovnet.profiling.sensors import NoSensor
from vovnet.profiling.zeus import CHIP_PARTS, ZeusChip, ZeusGpu

from .simulated import Device

PHASES = ((300.0, 0.017), (140.0, 0.008))
SHORT = Timeline(trials=2, idle_s=1, warmup_s=0.5, window_s=3, window_ticks=10)


def zeus_module(name: str) -> Any:
    return pytest.importorskip(name, reason="zeus is not installed: pip install 'vovnet[zeus]'")


@pytest.fixture
def device() -> Device:
    return Device(phases=PHASES)


# AMD GPUs: zeus's AMDGPUs over a simulated amdsmi ---------------------------------------------------------------------


class AmdSmiError(Exception):
    def get_error_code(self) -> int:
        return 2  # AMDSMI_STATUS_NOT_SUPPORTED

    def get_error_info(self) -> str:
        return "AMDSMI_STATUS_NOT_SUPPORTED"


class AmdSmi(ModuleType):
    """AMD's library as zeus calls it, with GPUs that draw the power of simulated devices.

    lacks: "instant" or "average" power that the driver reports as "N/A", a "counter" that stands still, a "temperature"
    that cannot be read.
    """

    AmdSmiException = AmdSmiLibraryException = AmdSmiError
    AmdSmiInitFlags = SimpleNamespace(INIT_AMD_GPUS=2)
    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self, *devices: Device, lacks: tuple[str, ...] = ()) -> None:
        super().__init__("amdsmi")
        self.devices, self.lacks, self.loads, self.fails = devices, lacks, True, False

    def amdsmi_init(self, flag: int) -> None:
        if not self.loads:
            raise AmdSmiError

    def amdsmi_shut_down(self) -> None:
        pass

    def amdsmi_get_processor_handles(self) -> list[int]:
        return list(range(len(self.devices)))

    def amdsmi_get_gpu_enumeration_info(self, processor_handle: int) -> dict[str, int]:
        return {"hip_id": processor_handle}

    def amdsmi_get_gpu_asic_info(self, processor_handle: int) -> dict[str, str]:
        return {"market_name": "Instinct MI300X"}

    def amdsmi_get_power_info(self, processor_handle: int) -> dict[str, int | str]:
        device = self.devices[processor_handle]
        watts = {name: round(device.mean_w(device.clock.now(), s)) for name, s in (("instant", 0.02), ("average", 1.0))}
        instant, average = ("N/A" if name in self.lacks else value for name, value in watts.items())
        return {"current_socket_power": instant, "average_socket_power": average}

    def amdsmi_get_energy_count(self, processor_handle: int) -> dict[str, float]:
        if self.fails:
            raise AmdSmiError
        device, resolution_uj = self.devices[processor_handle], 15.3
        joules = 0.0 if "counter" in self.lacks else device.joules(device.clock.now())
        return {"energy_accumulator": int(1e6 * joules / resolution_uj), "counter_resolution": resolution_uj}

    def amdsmi_get_power_cap_info(self, processor_handle: int) -> dict[str, int]:
        return {"power_cap": 750_000_000}

    def amdsmi_get_temp_metric(self, processor_handle: int, sensor_type: int, metric: int) -> int:
        if "temperature" in self.lacks:
            raise AmdSmiError
        return 41_000


@pytest.fixture
def install_amd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[AmdSmi], None]]:
    amd = zeus_module("zeus.device.gpu.amd")
    caches = (amd.amdsmi_is_available, amd._hip_to_amdsmi_handle)

    def install(library: AmdSmi) -> None:
        for cached in caches:
            cached.cache_clear()
        monkeypatch.setitem(sys.modules, "amdsmi", library)
        monkeypatch.setattr(amd, "amdsmi", library)
        # zeus compares counter and power over half a second
        monkeypatch.setattr(amd, "time", SimpleNamespace(sleep=library.devices[0].clock.sleep))

    for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    yield install
    for cached in caches:
        cached.cache_clear()


def test_the_simulated_amdsmi_has_the_functions_and_keys_of_the_real_one() -> None:
    """By its source: it cannot be imported without AMD's driver."""
    zeus_module("zeus")
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("amdsmi_interface.py").read_text()
    real = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    library = AmdSmi(Device(phases=PHASES))
    for name, function in inspect.getmembers(library, callable):
        if name.startswith("amdsmi_"):
            parameters = [argument.arg for argument in real[name].args.args]
            assert list(inspect.signature(function).parameters) == parameters, name
    for key in ("hip_id", "market_name", "current_socket_power", "energy_accumulator", "counter_resolution"):
        assert f'"{key}"' in source or f"'{key}'" in source
    for name in ("AmdSmiInitFlags", "AmdSmiTemperatureType", "AmdSmiTemperatureMetric"):
        assert f"class {name}(" in source


def test_an_amd_gpu_by_the_whole_protocol(install_amd: Callable[[AmdSmi], None], device: Device) -> None:
    idle = Device(phases=((1.0, 1.0),))
    idle.clock = device.clock
    install_amd(AmdSmi(idle, device))
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
    for method_result in (result.figure, result.check):
        assert method_result is not None
        assert method_result.energy_j_per_image == pytest.approx(device.true_j_per_image, rel=0.02)
    state = result.recording.conditions[0]
    assert (state.temperature_c, state.power_limit_w) == (41, 750)


@pytest.mark.parametrize(
    ("lacks", "sampled", "paper"),
    [
        (("instant",), "zeus get_average_power_usage", "zeus get_average_power_usage"),
        (("average",), "zeus get_instant_power_usage", "zeus get_instant_power_usage"),
        (("instant", "average"), None, None),
    ],
)
def test_what_an_amd_gpu_lacks_is_not_a_source(
    install_amd: Callable[[AmdSmi], None],
    device: Device,
    lacks: tuple[str, ...],
    sampled: str | None,
    paper: str | None,
) -> None:
    install_amd(AmdSmi(device, lacks=(*lacks, "counter", "temperature")))
    sensor = find_sensor("cuda")
    assert isinstance(sensor, ZeusGpu)
    names = {method: source.name for method, source in sensor.sources.items()}
    assert names == ({"sampled": sampled, "paper": paper} if sampled else {})
    assert sensor.state(1.0).temperature_c is None


def test_a_reading_that_fails_is_an_os_error(install_amd: Callable[[AmdSmi], None], device: Device) -> None:
    library = AmdSmi(device)
    install_amd(library)
    sensor = find_sensor("cuda")
    assert isinstance(sensor, ZeusGpu)
    library.fails = True
    with pytest.raises(OSError, match="zeus: AMDSMI_STATUS_NOT_SUPPORTED"):
        sensor.read("counter")


def test_an_amd_gpu_that_cannot_be_read_is_a_reason(install_amd: Callable[[AmdSmi], None], device: Device) -> None:
    library = AmdSmi(device)
    library.loads = False
    install_amd(library)
    assert "amdsmi does not load" in find_sensor("cuda").reason
    install_amd(AmdSmi(device))
    assert "cannot be read" in find_sensor("cuda:3").reason


def test_amd_gpus_hidden_by_names_are_a_reason(
    install_amd: Callable[[AmdSmi], None], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_amd(AmdSmi(device))
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "GPU-a1b2c3")
    assert "cannot be read" in find_sensor("cuda").reason


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
    result = measure_energy(device.run, sensor, timeline=SHORT, clock=device.clock)
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
    assert "pip install 'vovnet[zeus]'" in sensor.reason

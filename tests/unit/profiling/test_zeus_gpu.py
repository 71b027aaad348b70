"""The adapter to zeus's AMD GPUs: zeus's own classes over a simulated amdsmi, AMD's library."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.measured import measure_energy
from vovnet.profiling.energy.zeus import ZeusGpu

from .protocol import SHORTER, zeus_module
from .simulated import Device


@pytest.fixture
def device() -> Device:
    return Device()


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
    library = AmdSmi(Device())
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
    result = measure_energy(device.run, sensor, timeline=SHORTER, clock=device.clock)
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

from __future__ import annotations

import sys

import pytest
import torch

from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.sensors import NoSensor


def test_devices_without_a_sensor_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = find_sensor("xpu")
    assert isinstance(sensor, NoSensor)
    assert "xpu" in sensor.reason
    monkeypatch.setitem(sys.modules, "pynvml", None)
    sensor = find_sensor("cuda")
    assert isinstance(sensor, NoSensor)
    assert '"vovnet[energy]"' in sensor.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_is_a_reason() -> None:
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    sensor = find_sensor("cuda:0")
    assert isinstance(sensor, NoSensor)
    assert "cannot be read" in sensor.reason

"""What was measured on: the card, its driver, the versions, PyTorch's settings. It only reads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from typing import Any

import torch

from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.sensors import NoSensor
from vovnet.provenance import device_name, installed_versions, processor

PACKAGES = ("vovnet", "torch", "torchvision", "triton", "nvidia-ml-py", "numpy", "pillow")


# What PyTorch sees under CUDA_VISIBLE_DEVICES and MIG. A slice of a card may bear the name of the whole one.
_SEEN = """
import sys, torch
card = torch.cuda.get_device_properties(sys.argv[1])
print(f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {card.multi_processor_count} multiprocessors")
"""


@cache
def card_name(device: torch.device) -> str:
    """The card that PyTorch sees, with its size. Another process asks it: a CUDA context would take memory there."""
    if device.type != "cuda":
        return device_name(device)
    command = [sys.executable, "-c", _SEEN, str(device)]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
    except subprocess.TimeoutExpired:
        reason = "no answer within two minutes"
    raise OSError(f"PyTorch cannot say which card {device} is: {reason}")


def describe(device: torch.device) -> dict[str, Any]:
    """The machine as a record has it. Values that cannot be read are None."""
    sensor = find_sensor(device)
    energy = {"sensor": sensor.reason} if isinstance(sensor, NoSensor) else _state(sensor)
    return {
        "device": str(device),
        "card": device_name(device),
        **energy,
        **(_cuda(device) if device.type == "cuda" else {}),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": installed_versions(PACKAGES),
        "settings at the start": {
            "cudnn.benchmark": torch.backends.cudnn.benchmark,
            "cudnn.deterministic": torch.backends.cudnn.deterministic,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "threads": torch.get_num_threads(),
        },
    }


def _state(sensor: Any) -> dict[str, Any]:
    state = sensor.state(0.0)
    return {
        "sensor": sensor.name,
        "driver": sensor.driver,
        "power_limit_w": state.power_limit_w,
        "clock_mhz": state.clock_mhz,
        "memory_clock_mhz": state.memory_clock_mhz,
        "temperature_c": state.temperature_c,
    }


def _cuda(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_mib": round(properties.total_memory / 2**20),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }

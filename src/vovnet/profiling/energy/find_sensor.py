"""Choosing the energy sensor of a device."""

from __future__ import annotations

import platform
import sys

import torch

from vovnet.profiling.energy.nvml import find_nvml
from vovnet.profiling.energy.rapl import Rapl
from vovnet.profiling.energy.sensors import NoSensor, Sensor
from vovnet.profiling.energy.zeus import find_zeus_chip, find_zeus_gpu


def find_sensor(device: str | torch.device) -> Sensor | NoSensor:
    """The sensor for the energy of `device` on this machine, or the reason why there is none.

    NVIDIA GPUs are read through NVML, CPU packages through the kernel's powercap files, AMD GPUs and the chips of Apple
    computers and NVIDIA Jetson boards through zeus.
    """
    device = torch.device(device)
    try:
        if device.type == "mps" or (device.type == "cpu" and sys.platform == "darwin"):
            return find_zeus_chip()
        if device.type == "cpu":
            return Rapl()
        if device.type == "cuda" and torch.version.hip is not None:
            return find_zeus_gpu(device)
        if device.type == "cuda":
            board = find_nvml(device)
            unreadable = isinstance(board, NoSensor) or not board.sources
            return find_zeus_chip() if unreadable and _is_jetson(device) else board
    except OSError as error:
        return NoSensor(str(error))
    return NoSensor(f"no energy sensor is known for {device.type}; use an external meter and its CSV log")


def _is_jetson(device: torch.device) -> bool:
    """Whether the GPU is part of an Arm chip, whose power NVML does not report."""
    arm = platform.machine() == "aarch64"
    return arm and torch.cuda.is_available() and bool(torch.cuda.get_device_properties(device).is_integrated)

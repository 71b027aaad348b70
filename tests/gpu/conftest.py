"""The device: the GPU if there is one. Without one the same tests rehearse on the CPU, so that they do run on a GPU."""

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def cuda(device):
    """For what only a GPU has."""
    if device.type != "cuda":
        pytest.skip("needs a CUDA GPU")
    return device


@pytest.fixture(autouse=True)
def _strict_float32():
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32, convolution.benchmark
    matmul.allow_tf32 = convolution.allow_tf32 = False
    yield
    matmul.allow_tf32, convolution.allow_tf32, convolution.benchmark = before


@pytest.fixture
def same_samples(monkeypatch):
    """Two-stage detectors sample their anchors and proposals with the device's own generator: take the first ones."""
    monkeypatch.setattr(torch, "randperm", lambda n, *, device=None: torch.arange(n, device=device))

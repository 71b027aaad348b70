"""The device: the GPU if there is one. Without one the same tests rehearse on the CPU, so that they do run on a GPU."""

import os
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch

from vovnet.data.batches.worker_count import usable_cores


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if torch.cuda.is_available():  # warnings that no machine without a GPU gives are shown, and fail nothing
                item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def cuda(device):
    """For what only a GPU has."""
    if device.type != "cuda":
        pytest.skip("needs a CUDA GPU")
    return device


@pytest.fixture(scope="module", autouse=True)
def _few_threads(device):
    """On a GPU all cores compute what it is compared with: with one thread that takes most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(usable_cores() if device.type == "cuda" else 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _strict_float32():
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32, convolution.benchmark
    matmul.allow_tf32 = convolution.allow_tf32 = False
    yield
    matmul.allow_tf32, convolution.allow_tf32, convolution.benchmark = before


@pytest.fixture
def compiler(cuda):
    """What `torch.compile` needs on a GPU: triton, and a C compiler with Python's headers for triton."""
    pytest.importorskip("triton")
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        pytest.skip("needs a C compiler")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        pytest.skip("needs the headers of Python")
    return cuda


@pytest.fixture
def same_samples(monkeypatch):
    """Two-stage detectors sample their anchors and proposals with the device's own generator: take the first ones."""
    monkeypatch.setattr(torch, "randperm", lambda n, *, device=None: torch.arange(n, device=device))

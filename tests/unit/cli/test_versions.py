"""`vovnet versions`: what a bug report needs, even where PyTorch is broken."""

from __future__ import annotations

import importlib.metadata
import json
import platform

import pytest
import torch

import vovnet
from vovnet.cli import versions


def test_it_says_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert versions.versions(json_file="-") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["vovnet"] == vovnet.__version__
    assert report["python"] == platform.python_version()
    assert report["libraries"]["torch"] == importlib.metadata.version("torch")
    assert "vovnet" not in report["libraries"]
    assert captured.err.startswith("vovnet ")
    for text in (report["system"], report["processor"], report["gpu"], report["libraries"]["numpy"]):
        assert text in captured.err


def test_libraries_are_those_of_the_package_and_its_extras() -> None:
    names = versions.library_names()
    assert {"torch", "onnxruntime", "openvino", "timm"} <= set(names)
    assert not {"pytest", "mypy", "mkdocs-material"} & set(names)


def test_without_an_installation_it_names_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    assert versions.library_names() == ["torch", "torchvision"]


def test_a_broken_pytorch_is_part_of_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> int:
        raise OSError("libcudart.so: cannot open\nshared object file")

    monkeypatch.setattr(torch.cuda, "device_count", broken)
    assert versions.versions() == 0
    assert "PyTorch says: libcudart.so: cannot open shared object file" in " ".join(capsys.readouterr().out.split())

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vovnet.engine.model_names import is_trained, resolve_model
from vovnet.models.backbones.vovnet import VoVNet
from vovnet.models.detectors.contract import DetectionModel
from vovnet.names import shipped_weights


@pytest.fixture
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_nets_of_this_test.py").write_text(
        "from torch import nn\n"
        "def small(width=3):\n    return nn.Linear(width, 2)\n"
        "def number():\n    return 7\n"
        "size = 4\n"
    )
    (tmp_path / "my_broken_nets_of_this_test.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "my_nets_of_this_test"


def test_ours() -> None:
    with torch.device("meta"):
        assert isinstance(resolve_model("vovnet39"), VoVNet)
        assert resolve_model("vovnet27_slim", features_only=True).channels == (128, 256, 384, 512)
        twenty, three = (resolve_model("dsod300_vovnet27_slim", **k) for k in ({}, {"num_classes": 3}))
    # Each anchor has a logit for every class and for the background.
    assert twenty.heads[0].cls.conv.out_channels * 4 == three.heads[0].cls.conv.out_channels * 21


def weights_of(model: nn.Module) -> Mapping[str, torch.Tensor]:
    assert isinstance(model, DetectionModel)
    return model.state_dict()


def test_trained_weights_by_name_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = weights_of(resolve_model("bccd"))
    file = tmp_path / "runs" / "cells" / "best.safetensors"
    file.parent.mkdir(parents=True)
    shutil.copy(shipped_weights()["bccd"], file)
    monkeypatch.chdir(tmp_path)
    for name in (str(file), "runs/cells", "runs/cells/best.safetensors"):
        assert is_trained(name)
        found = weights_of(resolve_model(name))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    with pytest.raises(ValueError, match="bccd takes no options, because its file states them; got num_classes"):
        resolve_model("bccd", num_classes=3)
    with pytest.raises(FileNotFoundError, match=r"cells\.safetensors is neither a weights file"):
        resolve_model("cells.safetensors")


def test_a_trained_model_from_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(url: str, path: Path, **limits: float) -> None:
        asked.append(url)
        shutil.copy(shipped_weights()["bccd"], path)

    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path))
    monkeypatch.setattr("vovnet.weights.cached.download_weights", fetch)
    assert is_trained("https://host/cells.safetensors")
    assert asked == []
    weights_of(resolve_model("https://host/cells.safetensors"))
    assert asked == ["https://host/cells.safetensors"]


def test_files_do_not_hide_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vovnet39").mkdir()
    shutil.copy(shipped_weights()["bccd"], tmp_path / "vovnet39" / "best.safetensors")
    shutil.copy(shipped_weights()["bccd"], tmp_path / "cells")
    assert not is_trained("vovnet39")
    assert is_trained("./vovnet39")
    with torch.device("meta"):
        assert isinstance(resolve_model("vovnet39"), VoVNet)
    with pytest.raises(ValueError, match="no model is called 'cells' .*files end in .safetensors or .onnx"):
        resolve_model("cells")


def test_an_exported_file(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = nn.Identity()
    stand_in = SimpleNamespace(OnnxModule={"runs/cells.onnx": exported}.__getitem__)
    monkeypatch.setitem(sys.modules, "vovnet.profiling.onnx.module", stand_in)
    assert resolve_model("runs/cells.onnx") is exported
    assert not is_trained("runs/cells.onnx")
    with pytest.raises(ValueError, match=r"cells\.onnx takes no options"):
        resolve_model("runs/cells.onnx", width=3)


def test_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **kwargs: object) -> None:
        raise AssertionError("a model was downloaded")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", download)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    with torch.device("meta"):
        assert resolve_model("torchvision:resnet18", num_classes=5).fc.out_features == 5
        assert type(resolve_model("torchvision:lraspp_mobilenet_v3_large")).__name__ == "LRASPP"
        model = resolve_model("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn")
    assert type(model).__name__ == "FasterRCNN"


def test_timm() -> None:
    pytest.importorskip("timm", reason='timm is not installed: pip install "vovnet[timm]"')
    model = resolve_model("timm:resnet18", num_classes=5)
    assert isinstance(model, nn.Module)
    assert model.get_classifier().out_features == 5
    assert isinstance(resolve_model("timm:resnet18.a1_in1k"), nn.Module)
    with pytest.raises(ValueError, match="no model is called 'timm:resnet81', did you mean 'timm:resnet"):
        resolve_model("timm:resnet81")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r'timm:resnet18 needs an extra: pip install "vovnet\[timm\]"'):
        resolve_model("timm:resnet18")


def test_a_function_of_the_users(users_module: str) -> None:
    assert resolve_model(f"{users_module}:small").in_features == 3
    assert resolve_model(f"{users_module}:small", width=9).in_features == 9


def test_only_what_was_typed_is_imported(users_module: str) -> None:
    sys.modules.pop("my_broken_nets_of_this_test", None)
    resolve_model("torchvision:squeezenet1_1")
    resolve_model(f"{users_module}:small")
    assert "my_broken_nets_of_this_test" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vovnet93x", "no model is called 'vovnet93x', did you mean 'vovnet93'? (models of other packages are called"),
        ("bcdc", "no model is called 'bcdc', did you mean 'bccd'?"),
        ("torchvision:resnet5", "no model is called 'torchvision:resnet5', did you mean 'torchvision:resnet50'?"),
        ("my_nets_of_this_test:smal", "did you mean 'my_nets_of_this_test:small'? (expected a function that returns"),
        ("my_nets_of_this_test:size", "no model is called 'my_nets_of_this_test:size'"),
        ("my_nets_of_this_test:number", "my_nets_of_this_test:number must return an nn.Module, got int"),
    ],
)
def test_a_wrong_name(users_module: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve_model(name)


def test_a_missing_module(users_module: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="no module is called 'no_such.nets': .*set PYTHONPATH=."):
        resolve_model("no_such.nets:build")
    with pytest.raises(ModuleNotFoundError, match="no module is called 'tim', did you mean 'timm'"):
        resolve_model("tim:resnet18")
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package_at_all'"):
        resolve_model("my_broken_nets_of_this_test:build")

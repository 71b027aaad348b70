from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vovnet.engine.any_model import resolve_model
from vovnet.models.backbones.vovnet import VoVNet


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
    pytest.importorskip("timm", reason="timm is not installed: pip install 'vovnet[compare]'")
    model = resolve_model("timm:resnet18", num_classes=5)
    assert isinstance(model, nn.Module)
    assert model.get_classifier().out_features == 5
    assert isinstance(resolve_model("timm:resnet18.a1_in1k"), nn.Module)
    with pytest.raises(ValueError, match="no model is called 'timm:resnet81', did you mean 'timm:resnet"):
        resolve_model("timm:resnet81")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"timm:resnet18 needs an extra: pip install 'vovnet\[compare\]'"):
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
        ("vovnet93x", "no model is called 'vovnet93x', did you mean 'vovnet93'? (those of others are called"),
        ("torchvision:resnet5", "no model is called 'torchvision:resnet5', did you mean 'torchvision:resnet50'?"),
        ("my_nets_of_this_test:smal", "did you mean 'my_nets_of_this_test:small'? (a function that returns"),
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
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package_at_all'"):
        resolve_model("my_broken_nets_of_this_test:build")

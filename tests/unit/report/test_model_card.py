"""The card of pushed weights says what the file says, and nothing that was not measured."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from safetensors.torch import save_file

from vovnet import create_backbone
from vovnet.errors import UsageError
from vovnet.names import shipped_weights
from vovnet.report.model_card import make_card
from vovnet.weights.backbone import read_weights
from vovnet.weights.detector import ModelInfo, load_weights, save_weights, store_thresholds
from vovnet.weights.importing import import_weights

INFO = ModelInfo("ssdfpn320_vovnet19_tiny", {}, ("cat", "big dog"), (3, 18))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return INFO.build().state_dict()


@pytest.fixture
def card_of(state: dict[str, torch.Tensor], tmp_path: Path) -> Any:
    """The text of the card of a detector with this record."""

    def make(record: dict[str, Any], info: ModelInfo = INFO) -> str:
        save_weights(tmp_path / "w.safetensors", state, info, record)
        return make_card(tmp_path / "w.safetensors", "hf:me/pets", "mit").text

    return make


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0].strip()


def test_the_card_of_bundled_weights() -> None:
    card = make_card(shipped_weights()["bccd"], "hf:me/cells@v1", "mit")
    _, header, body = card.text.split("---\n", 2)
    fields = yaml.safe_load(header)
    assert fields == {
        "license": "mit",
        "library_name": "vovnet",
        "pipeline_tag": "object-detection",
        "tags": ["vovnet", "dsod300_vovnet27_slim"],
    }
    record = load_weights("bccd").record
    assert card.record == record
    test = record["test"]
    figures = [test["voc07_map"], *(test["coco"][key] for key in ("AP", "AP50", "AP75"))]
    row = " | ".join(["test", str(test["images"]), *(f"{100 * figure:.1f} %" for figure in figures)])
    assert f"| {row} |" in section(body, "Accuracy")
    assert f"after step {record['step']:,} of the training" in section(body, "Accuracy")
    assert "| 1 | `RBC` | 2 |" in section(body, "Classes")
    assert "on 205 images with vovnet 0.1.0 and PyTorch" in section(body, "Origin")
    assert "300 × 300 pixels; BGR, mean 104, 117, 123, standard deviation 1, 1, 1" in section(body, "Origin")


def test_how_to_load_is_what_loads(card_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use = section(card_of({}), "Use")
    assert "vovnet predict photo.jpg --weights hf:me/pets" in use
    (python,) = re.findall(r"```python\n(.*?)```", use, re.DOTALL)
    seen: list[str] = []

    class Detector:
        def predict(self, image: str) -> None:
            seen.append(image)

    monkeypatch.setattr("vovnet.engine.detector.load", lambda name: seen.append(name) or Detector())
    exec(compile(python, "card", "exec"), {})
    assert seen == ["hf:me/pets", "photo.jpg"]


def test_a_file_without_results_states_none(card_of: Any) -> None:
    card = card_of({})
    assert section(card, "Accuracy") == "The file states no accuracy."
    assert "%" not in card
    assert "Trained" not in card


@pytest.mark.parametrize("value", ["0.9", None, 1.5, -0.1, True, [0.9], {"a": 0.9}])
def test_what_is_no_share_is_not_shown(value: Any, card_of: Any) -> None:
    card = card_of({"val_voc07_map": value, "test": {"voc07_map": value, "coco": value}, "val": value, "step": "x"})
    assert section(card, "Accuracy") == "The file states no accuracy."


def test_the_record_of_a_run(card_of: Any) -> None:
    record = {"step": 1200, "val_coco_ap": 0.4567, "date": "2026-01-02", "versions": {"vovnet": "0.1.0"}}
    card = card_of(record)
    assert "The COCO AP on the images of the split `val` after step 1,200 of the training: 45.7 %." in card
    assert "Trained with vovnet 0.1.0 (2026-01-02)." in card


def test_the_split_is_the_one_of_the_run(card_of: Any) -> None:
    config = {"data": {"val": "test2012"}}
    card = card_of({"config": config, "step": 3, "val_voc07_map": 0.5})
    assert "mAP (VOC07) on the images of the split `test2012` after step 3 of the training: 50.0 %." in card
    assert "of the split `val` after" in card_of({"config": {"data": {"val": ["x"]}}, "step": 3, "val_voc07_map": 0.5})


def test_last_weights_are_not_called_the_best(tmp_path: Path) -> None:
    """A run writes the same record with its last weights as with its best."""
    loaded = load_weights("bccd")
    path = tmp_path / "last.safetensors"
    save_weights(path, loaded.model.state_dict(), loaded.info, {"step": 9, "val_coco_ap": 0.1, "config": {}})
    card = make_card(path, "hf:me/cells", "mit").text
    assert "after step 9 of the training: 10.0 %" in card
    assert "highest" not in card


def test_score_thresholds_are_shown(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", state, INFO, {})
    store_thresholds(tmp_path / "w.safetensors", [0.25, 0.5])
    card = make_card(tmp_path / "w.safetensors", "hf:me/pets", "mit").text
    assert "| 1 | `big dog` | 18 | 0.500 |" in section(card, "Classes")


def test_foreign_text_stays_text(card_of: Any) -> None:
    names = ("<script>alert(1)</script>", "a|b ` [c](http://d) \n# title")
    record = {"date": "](http://x)", "versions": {"torch": "<img src=x>"}, "test": {"voc07_map": 0.5, "images": "|"}}
    card = card_of(record, replace(INFO, class_names=names))
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.split("---\n", 2)[2])
    assert "<script" not in page
    assert "<img" not in page
    assert "href" not in page
    assert page.count("<h1>") == 1


def test_the_card_of_a_backbone(tmp_path: Path) -> None:
    network = create_backbone("vovnet27_slim", stem="stride", identity=True, num_classes=7)
    names = {"head.": "head.fc.", ".norm.": ".bn.", ".layers.": ".conv_mid.", ".concat.": ".conv_concat."}
    state = {}
    for name, tensor in network.state_dict().items():
        name = re.sub(r"^(stages\.\d)\.", r"\1.blocks.", name)
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = tensor
    save_file(state, tmp_path / "theirs.safetensors")
    import_weights(tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors")
    card = make_card(tmp_path / "ours.safetensors", "hf:me/backbone", "apache-2.0")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert f"backbone `vovnet27_slim` with a classifier of 7 classes, with {parameters:,} parameters" in card.text
    assert "pipeline_tag: image-classification" in card.text
    assert "Converted from weights of timm: `theirs.safetensors`, SHA-256 `" in card.text
    assert "RGB, mean 123.675, 116.28, 103.53" in card.text
    assert read_weights(tmp_path / "ours.safetensors").num_classes == 7


def test_what_gets_no_card(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"holds neither a detector nor a backbone of vovnet \(its format is None\); vov"
    ):
        make_card(tmp_path / "other.safetensors", "hf:me/pets", "mit")
    with pytest.raises(UsageError, match=r"expected weights in a \.safetensors file, got .*last\.pt"):
        make_card(tmp_path / "last.pt", "hf:me/pets", "mit")

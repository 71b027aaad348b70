"""Every published config builds its model, and says where it comes from."""

from pathlib import Path

import pytest
import torch

from vovnet import create_model
from vovnet.engine.config import load_config

CONFIGS = sorted(Path("configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_builds_its_model(path):
    config = load_config(path)
    model = create_model(config.model, 20, **config.model_options).to("meta")
    height, width = model.preprocessing.image_size
    assert model(torch.empty(1, 3, height, width, device="meta"))["class_logits"].shape[2] == 21


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_has_a_header(path):
    header = path.read_text().split("model:")[0]
    assert f"vovnet train {path}" in header
    assert "mAP" in header


def test_dsod_schedule_is_the_published_one():
    config = load_config("configs/voc_dsod300_vovnet27_slim.yaml")
    assert (config.batch_size, config.schedule.iterations) == (128, 100_000)
    assert config.schedule.milestones == (20_000, 40_000, 60_000, 80_000)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (0.1, 5e-4)
    assert config.augment.model_dump() == {
        "photometric": 0.5, "expand": 4.0, "crop_min_scale": 0.3, "flip": 0.5, "flip_vertical": 0.0, "transpose": 0.0
    }  # fmt: skip

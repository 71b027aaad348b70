"""The whole chain learns: a detector trained on a few images finds nearly all their objects."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vovnet.data.formats import open_dataset
from vovnet.engine.config import load_config
from vovnet.engine.detector import load
from vovnet.engine.evaluate import evaluate
from vovnet.engine.train import train
from vovnet.names import DETECTORS, REFINEDET_BACKBONES
from vovnet.zoo import find_detector

OVERFIT = Path(__file__).parents[2] / "benchmarks/overfit.py"
SMALL = ["--side", "192", "--options", '{"width": 128}', "--steps", "250"]


@pytest.mark.slow
def test_overfits_five_images(small_voc, tmp_path):
    """About two minutes: 80 steps of 5 images, without augmentation."""
    path = tmp_path / "overfit.yaml"
    path.write_text(
        f"""
model: dsod300_vovnet27_slim
model_options: {{anchors: coco}}
data: {{root: {small_voc}, val: null}}
augment: {{photometric: 0, expand: 1, crop_min_scale: 1, flip: 0}}
optimizer: {{learning_rate: 0.05, clip_norm: 10}}
schedule: {{iterations: 80, kind: cosine, warmup_iterations: 10}}
batch_size: 5
micro_batch_size: 5
device: cpu
output: {tmp_path / "run"}
"""
    )
    train(load_config(path))
    detector = load(tmp_path / "run" / "best.safetensors", "cpu")
    result = evaluate(detector, open_dataset(small_voc, "train"), workers=0)
    assert result.voc.mean_ap11 is not None
    assert result.voc.mean_ap11 >= 0.9


@pytest.mark.slow
@pytest.mark.skipif("VOVNET_OVERFIT_DATA" not in os.environ, reason="VOVNET_OVERFIT_DATA=FOLDER:SPLIT names no images")
@pytest.mark.parametrize(
    "name", [name for name in DETECTORS if not find_detector(name).backbones or name.startswith("refinedet320_")]
)
def test_every_detector_learns_a_handful_of_photographs(name, tmp_path):
    """One to ten minutes each; eight images of PASCAL VOC are what docs/records/overfit.json has."""
    options = SMALL if name in {f"refinedet320_{backbone}" for backbone in REFINEDET_BACKBONES[1:]} else []
    if name == "ssd300_mobilenet":
        options = ["--learning-rate", "0.05", "--steps", "400"]
    record = tmp_path / "record.json"
    command = [sys.executable, OVERFIT, os.environ["VOVNET_OVERFIT_DATA"], name, *options, "--record", record]
    subprocess.run(command, check=True)
    (run,) = json.loads(record.read_text())["runs"]
    assert run["map50"] >= 0.95

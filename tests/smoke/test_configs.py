"""Every published config builds its model, and says where it comes from."""

from pathlib import Path

import pytest
import torch

from vovnet import create_model
from vovnet.engine.config import load_config
from vovnet.engine.training.schedule import learning_rate

CONFIGS = sorted(path for path in Path("configs").glob("*.yaml") if not path.stem.startswith("cifar10"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_builds_its_model(path):
    config = load_config(path)
    with torch.device("meta"):
        model = create_model(config.model, 20, **config.model_options).eval()
    if model.two_stage:  # what it does next depends on what it finds, which nothing without values can tell
        assert model.roi_heads.box_predictor.cls_score.out_features == 21
        return
    height, width = model.preprocessing.image_size
    assert model(torch.empty(1, 3, height, width, device="meta"))["class_logits"].shape[2] == 21


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_has_a_header(path):
    header = path.read_text().split("model:")[0]
    assert f"vovnet train {path}" in header
    assert "AP" in header


def test_dsod_schedule_is_the_published_one():
    config = load_config("configs/voc_dsod300_vovnet27_slim.yaml")
    assert (config.batch_size, config.schedule.iterations) == (128, 100_000)
    assert config.schedule.milestones == (20_000, 40_000, 60_000, 80_000)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (0.1, 5e-4)
    assert config.augment.model_dump() == {
        "photometric": 0.5, "expand": 4.0, "crop_min_scale": 0.3, "flip": 0.5, "flip_vertical": 0.0, "transpose": 0.0
    }  # fmt: skip


# Tables 4, 6 and 7: AP on COCO test-dev, at one scale and where it is printed at many.
COCO = {
    "coco_refinedet320_resnet50": ("30.3",),
    "coco_refinedet320_densenet201": ("32.5",),
    "coco_refinedet320_vovnet39": ("33.5",),
    "coco_refinedet320_resnet101": ("32.0",),
    "coco_refinedet320_densenet161": ("33.5",),
    "coco_refinedet320_vovnet57": ("33.9",),
    "coco_refinedet512_vovnet39": ("38.5", "43.0"),
    "coco_refinedet512_vovnet57": ("39.2", "43.6"),
    "coco_refinedet512_resnet50_batch20": ("35.2",),
    "coco_refinedet512_resnet101_batch20": ("36.4",),
    "coco_refinedet512_vovnet39_batch20": ("37.5",),
    "coco_refinedet512_vovnet57_batch20": ("38.1",),
}


@pytest.mark.parametrize("stem", COCO)
def test_refinedet_on_coco(stem):
    path = Path(f"configs/{stem}.yaml")
    detector, backbone = stem.removeprefix("coco_").removesuffix("_batch20").split("_", 1)
    header, config = path.read_text().split("model:")[0], load_config(path)
    assert config.model == f"{detector}_{backbone}"
    assert all(f"{figure} AP" in header for figure in COCO[stem])
    assert ("--multi-scale coco" in header) == (len(COCO[stem]) == 2)
    assert f"vovnet evaluate runs/{stem}/last.safetensors DATA --soft-nms" in header
    assert (config.data.train, config.data.more_train[0].split) == ("train2014", "valminusminival2014")
    schedule = {32: (400_000, (280_000, 360_000)), 20: (540_000, (400_000, 480_000))}
    assert (config.batch_size == 20) == stem.endswith("_batch20")
    assert (config.schedule.iterations, config.schedule.milestones) == schedule[config.batch_size]
    assert config.micro_batch_size == config.batch_size / 4  # of four GPUs
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-3, 5e-4)
    assert (config.loss.arm_iou_threshold, config.loss.arm_negative_iou_threshold) == (0.5, 0.5)
    assert config.backbone_weights is not None


@pytest.mark.parametrize(
    ("size", "batch_size", "iterations", "milestones"),
    [(320, 32, 120_000, (80_000, 100_000)), (512, 20, 180_000, (130_000, 160_000))],
)
def test_refinedet_on_voc(size, batch_size, iterations, milestones):
    config = load_config(f"configs/voc_refinedet{size}_vovnet39.yaml")
    assert (config.batch_size, config.micro_batch_size) == (batch_size, batch_size // 4)
    assert (config.schedule.iterations, config.schedule.milestones) == (iterations, milestones)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-3, 1e-4)
    assert (config.loss.arm_iou_threshold, config.loss.arm_negative_iou_threshold) == (0.7, 0.3)
    assert config.loss.use_difficult is None  # RefineDet's own choice: no


def test_the_small_detectors_of_table_2():
    pelee, mobilenet = (load_config(f"configs/voc_{name}.yaml") for name in ("pelee304", "ssd300_mobilenet"))
    assert (pelee.batch_size, mobilenet.batch_size) == (32, 24)
    assert pelee.schedule.iterations == mobilenet.schedule.iterations == 120_000
    assert (pelee.schedule.milestones, pelee.schedule.gamma) == ((80_000, 100_000), 0.1)
    assert (mobilenet.schedule.milestones, mobilenet.schedule.gamma) == ((20_000, 40_000), 0.5)
    assert (pelee.optimizer.kind, pelee.optimizer.learning_rate, pelee.optimizer.weight_decay) == ("sgd", 0.005, 5e-4)
    assert mobilenet.optimizer.model_dump(exclude={"rules"}) == {
        "kind": "rmsprop", "learning_rate": 5e-4, "momentum": 0, "weight_decay": 5e-5, "decay_norms": False,
        "clip_norm": None,
    }  # fmt: skip
    assert (pelee.augment.photometric, pelee.augment.expand) == (0, 1)


# The files of these names in VoVNet-Detectron; those with group norm leave the default of maskrcnn-benchmark, a third.
WARM_UP = {
    "coco_fasterrcnn_vovnet39_2x": 0.001,
    "coco_fasterrcnn_vovnet57_2x": 0.01,
    "coco_maskrcnn_vovnet39_2x": 0.01,
    "coco_maskrcnn_vovnet57_2x": 0.01,
    "coco_maskrcnn_vovnet39_gn_3x": 1 / 3,
    "coco_maskrcnn_vovnet57_gn_3x": 1 / 3,
    "coco_maskrcnn_resnet50_gn_3x": 1 / 3,
    "coco_maskrcnn_resnet101_gn_3x": 1 / 3,
}


@pytest.mark.parametrize("stem", WARM_UP)
def test_warm_up_is_the_published_one(stem):
    schedule = load_config(f"configs/{stem}.yaml").schedule
    assert schedule.warmup_iterations == 500
    assert schedule.warmup_factor == pytest.approx(WARM_UP[stem], rel=1e-5)
    # A hundredth of the way between the factor and 1 after 5 of 500 iterations.
    rate = learning_rate(5, 180_000, 0.02, schedule)
    assert rate == pytest.approx(0.02 * (0.99 * WARM_UP[stem] + 0.01), rel=1e-5)


PUBLISHED = [path for path in CONFIGS if path.stem.startswith(("voc_", "coco_"))]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_what_the_originals_have_in_common(path):
    """Caffe: 0.999 of the past in running averages, OpenCV's interpolation. maskrcnn-benchmark resizes with Pillow."""
    config, header = load_config(path), path.read_text().split("model:")[0]
    two_stage = "rcnn" in path.stem
    assert config.norm_momentum == (None if two_stage else 0.001)
    opencv = not two_stage or "resnet" in path.stem  # Detectron's
    assert config.model_options == ({"pixels": {"antialias": False}} if opencv else {})
    published = "No published result" not in header
    assert ("that of the last weights, last.safetensors" in header) == published
    assert "best.safetensors DATA" not in header

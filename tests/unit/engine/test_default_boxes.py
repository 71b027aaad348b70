"""Default boxes fitted to a training split, and the run that has them."""

import json
import sys

import numpy as np
import pytest
import torch

from vovnet.boxes import cxcywh_to_xyxy
from vovnet.data.formats import open_dataset
from vovnet.data.transforms import SSDAugmentation
from vovnet.engine.config import load_config
from vovnet.engine.train import train
from vovnet.engine.training.default_boxes import fit_to_data
from vovnet.engine.training.initial_model import initial_model
from vovnet.matching import match
from vovnet.structures import Target
from vovnet.weights.detector import ModelInfo, load_weights
from vovnet.weights.file import load_checkpoint

BASIC = """
model: ssd300_mobilenet
default_boxes: data
data: {{root: {root}, val: null}}
optimizer: {{learning_rate: 0.001}}
schedule: {{iterations: 2}}
batch_size: 2
micro_batch_size: 2
workers: 0
tensorboard: false
"""


@pytest.fixture(scope="module")
def bccd():
    return open_dataset("samples/bccd", "train")


def info_of(dataset, name="dsod300_vovnet27_slim", **options):
    return ModelInfo(name, options, dataset.class_names, dataset.category_ids)


def test_fitted_boxes_match_more_of_the_blood_cells(bccd):
    fitted = fit_to_data(info_of(bccd), bccd)
    assert fitted.after == fit_to_data(info_of(bccd, anchors=fitted.anchors), bccd).before
    assert fitted.before.objects < 0.97 < fitted.after.objects
    assert fitted.before.small < 0.6 < 0.95 < fitted.after.small
    assert fitted.before.in_training is None
    assert fitted.sentence() == (
        f"default boxes fitted to the data match {fitted.after.objects:.1%} of the training objects, the model's own "
        f"{fitted.before.objects:.1%}, of those below 32 pixels {fitted.after.small:.1%} and {fitted.before.small:.1%} "
        "(IoU 0.5)"
    )


def test_the_shares_are_those_of_the_matching_in_training(bccd):
    """`match` on the anchors that the network itself has, for 60 images."""
    dataset = type(bccd)(**vars(bccd) | {"samples": bccd.samples[:60]})
    info = info_of(dataset, anchors="coco")
    model = info.build().eval()
    with torch.no_grad():
        anchors = cxcywh_to_xyxy(model(torch.zeros(1, 3, 300, 300))["anchors_cxcywh"])
    found = []
    for sample in dataset:
        height, width = sample.image_size
        boxes = sample.target.boxes * torch.tensor([300 / width, 300 / height] * 2)
        _, iou = match(boxes[:, None], torch.ones(len(boxes), 1, dtype=torch.bool), anchors, 0.5)
        found.append(iou.amax(dim=1) >= 0.5)
    assert fit_to_data(info, dataset).before.objects == round(torch.cat(found).float().mean().item(), 4)


def test_objects_are_seen_as_augmentation_draws_them(bccd, monkeypatch):
    """Expansion makes objects up to four times smaller, which the fitted boxes have to match too."""
    monkeypatch.setattr("vovnet.engine.training.default_boxes._DRAWS", 120)
    dataset = type(bccd)(**vars(bccd) | {"samples": bccd.samples[:40]})
    augment = SSDAugmentation((300, 300), (104, 117, 123))
    plain, drawn = fit_to_data(info_of(dataset), dataset), fit_to_data(info_of(dataset), dataset, augment)
    assert drawn.after.in_training > drawn.before.in_training + 0.1
    placed = ModelInfo("dsod300_vovnet27_slim", {"anchors": plain.anchors}, dataset.class_names, dataset.category_ids)
    assert fit_to_data(placed, dataset, augment).before.in_training < drawn.after.in_training
    assert fit_to_data(info_of(dataset), dataset, augment) == drawn  # the same each time


def test_every_family_of_one_stage_has_boxes_that_can_be_fitted(bccd):
    dataset = type(bccd)(**vars(bccd) | {"samples": bccd.samples[:20]})
    for name in ("ssd300_mobilenet", "pelee304", "refinedet320_vovnet27_slim"):
        info = info_of(dataset, name)
        fitted = fit_to_data(info, dataset)
        published = [level.per_cell for level in info.build_on_meta().anchors.levels]
        assert [len(boxes) for boxes in fitted.anchors] == published
        assert fitted.after.objects >= fitted.before.objects


def test_two_stages_are_refused(bccd):
    with pytest.raises(ValueError, match=r"is for one-stage detectors, .*: set default_boxes=published"):
        fit_to_data(info_of(bccd, "fasterrcnn_vovnet27_slim"), bccd)


def test_without_objects_nothing_can_be_fitted(bccd):
    empty = [type(sample)(**vars(sample) | {"target": Target.make()}) for sample in bccd.samples[:3]]
    with pytest.raises(ValueError, match=r"split train, has no objects that default boxes could be fitted to"):
        fit_to_data(info_of(bccd), type(bccd)(**vars(bccd) | {"samples": tuple(empty)}))


def test_objects_outside_their_image_and_unreadable_images_do_not_count(bccd, tmp_path):
    first, second, third = bccd.samples[:3]
    outside = Target.make([[-50, -50, -5, -5], [10, 10, 60, 60]], [0, 0])
    lost = type(second)(**vars(second) | {"image_size": None, "image_path": tmp_path / "none.jpg"})
    samples = (type(first)(**vars(first) | {"target": outside}), lost)
    fitted = fit_to_data(info_of(bccd), type(bccd)(**vars(bccd) | {"samples": samples}))
    height, width = first.image_size
    assert [round(50 * 300 / width, 1), round(50 * 300 / height, 1)] in fitted.anchors[0]
    assert fitted.after.objects == 1
    assert np.isfinite(np.concatenate(fitted.anchors)).all()
    assert third.target.boxes.numel()


def test_a_run_with_fitted_boxes_keeps_them_wherever_its_weights_go(small_voc, tmp_path, capsys):
    path = tmp_path / "small.yaml"
    path.write_text(BASIC.format(root=small_voc))
    config = load_config(path, [f"output={tmp_path / 'run'}", "schedule.iterations=1"])
    train(config)
    said = " ".join(capsys.readouterr().err.split())
    assert "default boxes fitted to the data match" in said
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    shares = record["default_boxes"]
    assert shares["after"]["objects"] > shares["before"]["objects"]
    weights = load_weights(tmp_path / "run")
    assert weights.record["default_boxes"] == shares
    boxes = weights.info.options["anchors"]
    assert [len(level) for level in boxes] == [3, 6, 6, 6, 6, 6]
    assert [list(map(list, level.shapes())) for level in weights.model.anchors.levels] == boxes

    # The resumed run takes those of the checkpoint, not new ones.
    module = sys.modules[initial_model.__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit_to_data", lambda *_: pytest.fail("fitted again"))
        train(load_config(path, [f"output={tmp_path / 'run'}", "resume=true"]))
    assert load_weights(tmp_path / "run").info.options["anchors"] == boxes
    assert json.loads((tmp_path / "run" / "record.json").read_text())["default_boxes"] == shares
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 2
    with pytest.raises(ValueError, match="default_boxes was data, is published"):
        train(load_config(path, [f"output={tmp_path / 'run'}", "resume=true", "default_boxes=published"]))


def test_published_boxes_stay_out_of_record_and_options(small_voc, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(BASIC.format(root=small_voc).replace("default_boxes: data", ""))
    train(load_config(path, [f"output={tmp_path / 'run'}", "schedule.iterations=1"]))
    weights = load_weights(tmp_path / "run")
    assert weights.info.options == {}
    assert "default_boxes" not in weights.record

"""What a run starts with when it fine-tunes a detector: `weights` of other classes or default boxes."""

from types import SimpleNamespace

import pytest
import torch

from vovnet.data.formats import open_dataset
from vovnet.engine.config import load_config
from vovnet.engine.training.initial_model import initial_model
from vovnet.weights.detector import load_weights

BASIC = """
model: dsod300_vovnet27_slim
weights: bccd
data: {root: x}
schedule: {iterations: 1}
batch_size: 1
micro_batch_size: 1
"""


@pytest.fixture(scope="module")
def bccd():
    return load_weights("bccd")


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(BASIC)

    def build(classes, *overrides):
        dataset = SimpleNamespace(class_names=classes, category_ids=tuple(range(len(classes))))
        return initial_model(load_config(path, overrides), dataset, None)

    return build


def test_the_same_classes_start_with_everything(start, bccd):
    found = start(bccd.info.class_names)
    assert found.sentences == ()
    assert found.info.options == bccd.info.options
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, bccd.model.state_dict()[name]), name


def test_other_classes_start_with_what_fits(start, bccd):
    assert bccd.info.class_names == ("Platelets", "RBC", "WBC")
    found = start(("Platelets", "Parasite"))
    (said,) = found.sentences
    assert said == (
        "fine-tunes bccd: takes over backbone, neck, box heads and the logits of the background and Platelets; new, "
        "from random logits: Parasite; left out: RBC, WBC"
    )
    images = torch.rand(1, 3, 300, 300, generator=torch.Generator().manual_seed(0)) * 100
    with torch.no_grad():
        new, old = found.model.eval()(images), bccd.model(images)
    assert new["class_logits"].shape[-1] == 3
    torch.testing.assert_close(new["class_logits"][..., :2], old["class_logits"][..., [0, 1]], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(new["box_deltas"], old["box_deltas"], rtol=1e-3, atol=1e-3)


def test_other_default_boxes_are_said(start, bccd):
    found = start(bccd.info.class_names, "model_options.anchors=voc")
    assert found.info.options == {**bccd.info.options, "anchors": "voc"}
    (said,) = found.sentences
    assert said.endswith("; other default boxes: each starts as the one that is most like it")
    for name, value in found.model.state_dict().items():
        if name.startswith("backbone"):
            assert torch.equal(value, bccd.model.state_dict()[name])


def test_fine_tuning_keeps_boxes_that_match_as_much_as_fitted_ones(small_voc, tmp_path):
    """DSOD's smaller boxes, with which bccd was trained, match nearly all blood cells; the larger ones do not."""
    path = tmp_path / "config.yaml"
    path.write_text(BASIC.replace("root: x", f"root: {small_voc}"))
    dataset = open_dataset(small_voc, "train")
    kept = initial_model(load_config(path, ["default_boxes=data"]), dataset, None)
    assert kept.sentences == ("the default boxes of bccd stay, since fitted ones match no more",)
    assert (kept.info.options, kept.default_boxes) == ({"anchors": "coco"}, None)
    fitted = initial_model(load_config(path, ["default_boxes=data", "model_options.anchors=voc"]), dataset, None)
    assert fitted.default_boxes["after"]["small"] > fitted.default_boxes["before"]["small"]
    assert "default boxes fitted to the data match" in fitted.sentences[0]
    assert "other default boxes" in fitted.sentences[1]
    assert isinstance(fitted.info.options["anchors"], list)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=pelee304"],
            "weights=bccd must fit the config: model is dsod300_vovnet27_slim, expected pelee304; set "
            "model=dsod300_vovnet27_slim, or take other weights",
        ),
        (["model_options.pool=k2"], "pool is None, expected k2; leave out model_options.pool, or take other weights"),
        (["backbone_weights=x.pth"], "give one of them.*backbone_weights=null"),
    ],
)
def test_another_architecture_is_refused_with_what_would_fit(start, overrides, message):
    with pytest.raises(ValueError, match=message):
        start(("a",), *overrides)

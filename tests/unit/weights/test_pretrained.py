"""A detector that starts from a backbone's weights, made as timm names them: what is loaded, kept and refused."""

import json
import re

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from vovnet import create_backbone, create_model
from vovnet.engine.config import load_config
from vovnet.engine.train import train
from vovnet.weights.backbone import build_pretrained
from vovnet.weights.detector import ModelInfo, load_model
from vovnet.weights.file import BACKBONE_FORMAT, load_checkpoint
from vovnet.zoo import is_detector

PIXELS = {"mean": [120.0, 110.0, 100.0], "std": [50.0, 51.0, 52.0], "channel_order": "RGB"}


@pytest.fixture
def weights(tmp_path):
    """A VoVNet-27-slim with the stem "stride" and no classifier, trained on RGB images."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    options = {"stem": "stride", "identity": False, "ese": "none", "norm": "batch"}
    state = create_backbone("vovnet27_slim", features_only=True, **options).state_dict()
    path = tmp_path / "slim.safetensors"
    metadata = {
        "format": BACKBONE_FORMAT,
        "model": "vovnet27_slim",
        "model_options": json.dumps(options),
        "pixels": json.dumps(PIXELS),
    }
    save_file(state, path, metadata)
    return path, state


def info_of(name, **options):
    return ModelInfo(name, options, ("cat", "dog"), (1, 2))


def test_weights_bring_what_they_presuppose(weights):
    path, state = weights
    info, model = build_pretrained(info_of("refinedet320_vovnet27_slim", width=64), str(path))
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert info.options["width"] == 64
    assert info.options["backbone"]["stem"] == "stride"
    assert model.preprocessing.channel_order == "RGB"
    assert list(model.preprocessing.mean) == PIXELS["mean"]
    # The options alone, as they come back from a JSON file, make the same network again.
    again = create_model(info.name, 2, **json.loads(json.dumps(info.options)))
    again.load_state_dict(model.state_dict())
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)]
    torch.testing.assert_close(again.preprocessing(images), model.preprocessing(images))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        a, b = (m.eval()(x)["class_logits"] for m in (model, again))
    assert torch.equal(a, b)


def test_own_normalisation_goes_first(weights):
    _, model = build_pretrained(info_of("refinedet320_vovnet27_slim", pixels={"channel_order": "BGR"}), str(weights[0]))
    assert model.preprocessing.channel_order == "BGR"
    assert list(model.preprocessing.mean) == PIXELS["mean"]


@pytest.mark.parametrize("detector", ["maskrcnn", "fasterrcnn"])
def test_two_stage_detectors_freeze_the_norms(weights, detector):
    path, state = weights
    info, model = build_pretrained(info_of(f"{detector}_vovnet27_slim", rois=64), str(path))
    assert sum(isinstance(module, FrozenBatchNorm2d) for module in model.backbone.modules()) == 27
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert info.options["rois"] == 64
    # As the weights say, where the detector's own default is another one.
    assert info.options["backbone"]["identity"] is False
    assert isinstance(model.backbone.stem_pool, nn.Identity)
    assert model.preprocessing.channel_order == "RGB"
    assert list(model.preprocessing.mean) == PIXELS["mean"]
    again = create_model(info.name, 2, **json.loads(json.dumps(info.options)))
    again.load_state_dict(model.state_dict())


def test_norms_that_are_trained_on_request(weights):
    path, state = weights
    info, model = build_pretrained(info_of("maskrcnn_vovnet27_slim", backbone={"norm": "batch"}), str(path))
    assert info.options["backbone"]["norm"] == "batch"
    assert model.backbone.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.backbone.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("refinedet320_vovnet39", {}, "holds weights of vovnet27_slim, not of vovnet39"),
        ("refinedet320_resnet50", {}, "holds weights of vovnet27_slim, not of resnet50"),
        (
            "refinedet320_vovnet27_slim",
            {"backbone": {"bottleneck": True}},
            "needs bottleneck=False, got bottleneck=True",
        ),
        ("refinedet320_vovnet27_slim", {"backbone": {"stem": "ponds"}}, "stem must be 'pool' or 'stride', got 'ponds'"),
        ("maskrcnn_vovnet39", {}, "holds weights of vovnet27_slim, not of vovnet39"),
        ("maskrcnn_vovnet27_slim", {"backbone": {"norm": "group"}}, "needs norm='batch', got norm='group'"),
        ("maskrcnn_vovnet27_slim_gn", {}, "backbone_weights is for RefineDet, .* got maskrcnn_vovnet27_slim_gn"),
        ("dsod300_vovnet27_slim", {}, "backbone_weights is for RefineDet, Mask R-CNN and Faster R-CNN on a VoVNet"),
    ],
)
def test_refusals(weights, name, options, message):
    with pytest.raises(ValueError, match=message):
        build_pretrained(info_of(name, **options), str(weights[0]))


def test_the_published_stem_from_weights_of_the_other(weights, caplog):
    """Both stems have the same convolutions, so all weights fit; the warning says that the features differ."""
    path, state = weights
    info, model = build_pretrained(
        info_of("refinedet320_vovnet27_slim", width=16, backbone={"stem": "pool"}), str(path)
    )
    assert info.options["backbone"]["stem"] == "pool"
    published = create_backbone("vovnet27_slim", features_only=True, stem="pool").eval()
    published.load_state_dict(state)
    other = create_backbone("vovnet27_slim", features_only=True, stem="stride").eval()
    other.load_state_dict(state)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected, foreign in zip(model.backbone.eval()(x), published(x), other(x), strict=True):
            assert torch.equal(ours, expected)
            assert ours.shape == foreign.shape
            assert not torch.allclose(ours, foreign, atol=1e-2)
    assert "slim.safetensors was trained with stem='stride', and this backbone has stem='pool'" in caplog.text
    assert "stay random: none; tensors of the file that are not used: none" in caplog.text
    again = create_model(info.name, 2, **json.loads(json.dumps(info.options)))
    again.load_state_dict(model.state_dict())
    assert isinstance(again.backbone.stem_pool, nn.MaxPool2d)


@pytest.mark.parametrize(
    ("options", "random", "unused"),
    [
        ({"stem": "pool"}, "none", "none"),
        ({"stem": "pool", "identity": False, "ese": "none"}, "none", "stages.0.0.ese.fc.bias, .*, … and 5 more"),
        (
            {"ese": "all"},
            r"stages.2.0.ese.fc.bias, .*, stages.3.0.ese.fc.bias, … and 1 more",
            "none",
        ),
    ],
)
def test_what_other_options_leave_random_or_unused(tmp_path, caplog, options, random, unused):
    import timm

    torch.manual_seed(2)
    torch.save(timm.create_model("ese_vovnet39b").state_dict(), tmp_path / "timm.pth")
    _, model = build_pretrained(
        info_of("refinedet320_vovnet39", width=16, backbone=options), str(tmp_path / "timm.pth")
    )
    pattern = rf"stay random: {random}; tensors of the file that are not used: {unused}$"
    assert re.search(pattern, caplog.text, re.MULTILINE), caplog.text
    (tmp_path / "timm.pth").unlink()
    assert model.backbone.stages[2][1].identity is options.get("identity", True)


def test_the_stride_of_caffes_resnet_from_torchvisions_weights(tmp_path, caplog):
    import torchvision

    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "weights.pth")
    path = str(tmp_path / "weights.pth")
    _, plain = build_pretrained(info_of("refinedet320_resnet50", width=16), path)
    assert not caplog.text
    assert plain.backbone.layer2[0].conv2.stride == (2, 2)
    _, model = build_pretrained(info_of("refinedet320_resnet50", width=16, backbone={"style": "caffe"}), path)
    assert model.backbone.layer2[0].conv1.stride == (2, 2)
    assert torch.equal(model.backbone.layer4[2].conv3.weight, plain.backbone.layer4[2].conv3.weight)
    assert "was trained with style='torchvision', and this backbone has style='caffe'" in caplog.text
    (tmp_path / "weights.pth").unlink()


def test_fine_tuning(small_voc, weights, tmp_path):
    """A run moves every weight that it loaded, goes on, and leaves files that need the first weights no more."""
    path, state = weights
    config = tmp_path / "run.yaml"
    config.write_text(
        f"""
model: refinedet320_vovnet27_slim
model_options: {{width: 16}}
backbone_weights: {path}
data: {{root: {small_voc}, val: null}}
optimizer: {{learning_rate: 1e-3}}
schedule: {{iterations: 2}}
batch_size: 2
micro_batch_size: 2
threads: 1
workers: 0
tensorboard: false
output: {tmp_path / "run"}
"""
    )
    assert train(load_config(config)).finished
    (tmp_path / "elsewhere").mkdir()
    path.rename(tmp_path / "elsewhere" / path.name)  # what goes on needs the first weights no more
    assert train(load_config(config, ["resume=true"])).steps == 2
    tuned = load_checkpoint(tmp_path / "run" / "last.pt")["model"]
    for name in create_backbone("vovnet27_slim", features_only=True).state_dict():
        if not name.endswith("num_batches_tracked"):
            assert not torch.equal(tuned[f"backbone.{name}"], state[name]), name
    loaded = load_model(tmp_path / "run" / "best.safetensors")
    assert loaded.info.options["backbone"]["stem"] == "stride"
    assert loaded.model.preprocessing.channel_order == "RGB"


def test_group_norm_in_a_name_of_timms_is_its_own():
    model = create_model("refinedet320_timm/resnet50_gn", 2)
    assert any(isinstance(module, torch.nn.GroupNorm) for module in model.backbone.modules())
    assert is_detector("maskrcnn_timm/resnet50_gn")
    with pytest.raises(
        FileNotFoundError, match="nowhere.safetensors is neither a weights file"
    ):  # not that such a name is refused
        build_pretrained(info_of("refinedet320_timm/resnet50_gn"), "nowhere.safetensors")


@pytest.fixture
def timm_weights(tmp_path):
    """A file as timm's own: random weights of a ResNet-18 with its classifier."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(1)
    net = timm.create_model("resnet18")
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    path = tmp_path / "resnet18.safetensors"
    save_file(net.state_dict(), path)
    return path, net.eval()


@pytest.mark.parametrize("name", ["maskrcnn_timm/resnet18", "refinedet320_timm/resnet18"])
def test_a_backbone_of_timms_starts_from_its_weights(timm_weights, name):
    path, net = timm_weights
    info, model = build_pretrained(info_of(name), str(path))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        last = model.eval().backbone(x)[-1]
        torch.testing.assert_close(last, net.forward_features(x), rtol=1e-4, atol=1e-4)
    assert model.preprocessing.channel_order == "RGB"
    assert model.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))
    frozen = not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.backbone.modules())
    assert frozen is name.startswith("maskrcnn")
    again = create_model(info.name, 2, **json.loads(json.dumps(info.options)))
    again.load_state_dict(model.state_dict())
    assert list(again.preprocessing.mean) == list(model.preprocessing.mean)


@pytest.mark.parametrize("change", ["missing", "left over"])
def test_weights_of_timms_must_be_whole(timm_weights, tmp_path, change):
    from safetensors.torch import load_file, save_file

    tensors = load_file(timm_weights[0])
    if change == "missing":
        del tensors["layer2.0.conv1.weight"]
    else:
        tensors["layer5.0.conv1.weight"] = torch.zeros(1)
    save_file(tensors, tmp_path / "changed.safetensors")
    with pytest.raises(ValueError, match=r"does not hold the weights of timm/resnet18: .*layer[25]\.0\.conv1"):
        build_pretrained(info_of("maskrcnn_timm/resnet18"), str(tmp_path / "changed.safetensors"))


def test_weights_of_another_network_of_timms_are_refused(timm_weights):
    with pytest.raises(ValueError, match="does not hold the weights of timm/resnet26"):
        build_pretrained(info_of("maskrcnn_timm/resnet26"), str(timm_weights[0]))
    with pytest.raises(ValueError, match=r"no weights are called 'timm/resnet18.a1_in2k', did you mean 'timm/resnet18"):
        build_pretrained(info_of("maskrcnn_timm/resnet18"), "timm/resnet18.a1_in2k")

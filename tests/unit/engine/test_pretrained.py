"""A detector that starts from a backbone's weights, made as timm names them: what is loaded, kept and refused."""

import json

import pytest
import torch

from vovnet import create_backbone, create_model
from vovnet.engine.checkpoint import ModelInfo, load_checkpoint, load_model
from vovnet.engine.config import load_config
from vovnet.engine.pretrained import build_pretrained
from vovnet.engine.train import train
from vovnet.models.weights import FORMAT

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
        "format": FORMAT,
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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("refinedet320_vovnet39", {}, "holds weights of vovnet27_slim, not of vovnet39"),
        ("refinedet320_resnet50", {}, "holds weights of vovnet27_slim, not of resnet50"),
        ("refinedet320_vovnet27_slim", {"backbone": {"stem": "pool"}}, "needs stem='stride', got stem='pool'"),
        ("dsod300_vovnet27_slim", {}, "backbone_weights is for RefineDet on a VoVNet"),
    ],
)
def test_refusals(weights, name, options, message):
    with pytest.raises(ValueError, match=message):
        build_pretrained(info_of(name, **options), str(weights[0]))


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
    assert train(load_config(config, ["resume=true"])).steps == 2
    tuned = load_checkpoint(tmp_path / "run" / "last.pt")["model"]
    for name in create_backbone("vovnet27_slim", features_only=True).state_dict():
        if not name.endswith("num_batches_tracked"):
            assert not torch.equal(tuned[f"backbone.{name}"], state[name]), name
    path.unlink()
    loaded = load_model(tmp_path / "run" / "best.safetensors")
    assert loaded.info.options["backbone"]["stem"] == "stride"
    assert loaded.model.preprocessing.channel_order == "RGB"

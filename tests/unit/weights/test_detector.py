"""Detectors in files: written, read again, damaged, hostile, and from where `load_weights` takes them."""

import json
import struct

import pytest
import torch

import vovnet
from vovnet import zoo
from vovnet.names import shipped_weights
from vovnet.weights.detector import ModelInfo, load_model, load_weights, save_weights
from vovnet.weights.file import DETECTOR_FORMAT, write_safetensors

from .serving import Server, files

INFO = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, ("cat", "dog"), (17, 18))


def write_unchecked(path, state, info):
    """What a hostile file may hold: options of a model that was never built."""
    metadata = {
        "format": DETECTOR_FORMAT,
        "model": info.name,
        "model_options": json.dumps(info.options),
        "class_names": json.dumps(info.class_names),
        "category_ids": json.dumps(info.category_ids),
        "record": "{}",
    }
    write_safetensors(path, state, metadata)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    torch.manual_seed(0)
    model = INFO.build()
    save_weights(path, model.state_dict(), INFO, {"step": 3})
    return path, model


def test_round_trip(weights):
    path, model = weights
    loaded = load_model(path)
    assert loaded.info == INFO
    assert loaded.record == {"step": 3}
    assert not loaded.model.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_values_that_are_not_finite_are_refused(weights, tmp_path, value):
    """A network with one of them finds nothing anywhere, and says nothing."""
    _, model = weights
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = [name for name in state if name.endswith(".weight")][-1]
    state[name].view(-1)[-1] = value
    save_weights(tmp_path / "diverged.safetensors", state, INFO, {})
    with pytest.raises(ValueError, match=rf"diverged.safetensors cannot be used: {name} has values that"):
        load_model(tmp_path / "diverged.safetensors")


def test_half_precision_weights_load_as_float(weights, tmp_path):
    _, model = weights
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_weights(tmp_path / "half.safetensors", half, INFO, {})
    loaded = load_model(tmp_path / "half.safetensors").model
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        *((name, {}, 0) for name, spec in zoo.SPECS.items() if not spec.backbones),
        *((f"refinedet320_{name}", {"width": 16}, 128) for name in ("vovnet27_slim", "vgg16", "densenet161")),
        ("maskrcnn_vovnet27_slim_gn", {}, 128),
        ("maskrcnn_vovnet27_slim", {"anchors": "detectron"}, 128),
        ("fasterrcnn_resnet50", {}, 128),
        ("refinedet320_timm/resnet18", {"width": 16}, 128),
        ("maskrcnn_timm/resnet18", {}, 128),
        ("refinedet320_timm/maxvit_pico_rw_256", {"width": 16}, 256),  # has tables that are not in its state
    ],
)
def test_a_loaded_detector_gives_the_same_as_the_one_saved(tmp_path, name, options, side):
    """Every family: a detector that is built without memory first must miss nothing that is not in its state."""
    torch.manual_seed(0)
    info = ModelInfo(name, options, ("cat", "dog"), (1, 2))
    model = info.build().eval().to(memory_format=torch.channels_last)
    save_weights(tmp_path / "w.safetensors", model.state_dict(), info, {})
    loaded = load_model(tmp_path / "w.safetensors").model
    for (own_name, own), (loaded_name, other) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
        assert own_name == loaded_name
        assert other.requires_grad == own.requires_grad
        assert other.dtype == torch.float32
        assert other.stride() == own.stride(), own_name
    size = (side, side) if side else model.preprocessing.image_size
    images = torch.randn(1, 3, *size).to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected, outputs = model(images), loaded(images)
    assert outputs.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(torch.as_tensor(outputs[key]), torch.as_tensor(value)), key


def test_tensors_outside_the_state_have_values(tmp_path, monkeypatch):
    """As in some networks of timm: such a detector is built a second time."""

    class Offset(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.arange(3.0), persistent=False)

    real_build = ModelInfo.build

    def build(info):
        model = real_build(info)
        model.extra = Offset()
        return model

    monkeypatch.setattr(ModelInfo, "build", build)
    state = INFO.build().state_dict()
    save_weights(tmp_path / "w.safetensors", state, INFO, {})
    loaded = load_model(tmp_path / "w.safetensors").model
    assert loaded.extra.table.tolist() == [0, 1, 2]
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


def test_a_loaded_detector_does_not_change_with_its_file(weights, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights[0].read_bytes())
    loaded = load_model(path).model
    path.write_bytes(b"\0" * path.stat().st_size)  # in place, as `cp` writes
    for name, value in weights[1].state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("cut", [4, 1000, -1])
def test_damaged_weights(weights, tmp_path, cut):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(weights[0].read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"damaged.safetensors is damaged or is no safetensors file"):
        load_model(path)


def test_other_files(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_model(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="holds no vovnet detector"):
        load_model(tmp_path / "x.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_model(tmp_path / "broken.pt")
    torch.save({"a": 1}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="not a vovnet training checkpoint"):
        load_model(tmp_path / "a.pt")


@pytest.mark.parametrize("key", ["model", "model_options", "class_names", "record"])
def test_damaged_metadata(weights, tmp_path, key):
    from safetensors import safe_open

    with safe_open(weights[0], framework="pt") as file:
        metadata = file.metadata()
    for changed in ({name: text for name, text in metadata.items() if name != key}, metadata | {key: "{"}):
        if changed.get(key) == "{" and key == "model":
            continue  # any text may be a name
        write_safetensors(tmp_path / "w.safetensors", weights[1].state_dict(), changed)
        with pytest.raises(ValueError, match="w.safetensors has damaged metadata"):
            load_model(tmp_path / "w.safetensors")


def test_weights_of_another_model(weights, tmp_path):
    _, model = weights
    more = ModelInfo(INFO.name, INFO.options, ("a", "b", "c"), (1, 2, 3))
    save_weights(tmp_path / "w.safetensors", model.state_dict(), more, {})
    with pytest.raises(ValueError, match=r"another model: wrong shape of heads.0.cls.conv.weight.*expected \(16, "):
        load_model(tmp_path / "w.safetensors")
    state = dict(list(model.state_dict().items())[1:])
    save_weights(tmp_path / "w.safetensors", state, INFO, {})
    with pytest.raises(ValueError, match=f"another model: missing {next(iter(model.state_dict()))}$"):
        load_model(tmp_path / "w.safetensors")


def test_metadata_is_readable_by_others(weights):
    content = weights[0].read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["class_names"]) == ["cat", "dog"]


@pytest.mark.parametrize("name", ["refinedet320_vovnet27_slim", "maskrcnn_vovnet27_slim_gn"])
def test_options_of_strangers_fetch_and_read_nothing(weights, tmp_path, monkeypatch, name):
    """A backbone may start from weights elsewhere, but never because a file says so."""
    monkeypatch.setattr("vovnet.weights.backbone.read_source", lambda source: pytest.fail(f"asked for {source}"))
    info = ModelInfo(name, {"backbone": {"weights": "http://127.0.0.1:9/evil.pth"}}, ("cat",), (1,))
    path = write_unchecked(tmp_path / "evil.safetensors", weights[1].state_dict(), info)
    with pytest.raises(ValueError, match="no option of vovnet27_slim is called 'weights'"):
        load_model(path)


def test_options_of_strangers_take_no_memory(weights, tmp_path):
    """Terabytes, of which only the shapes are compared."""
    info = ModelInfo("refinedet320_vovnet27_slim", {"width": 60_000}, ("cat",), (1,))
    path = write_unchecked(tmp_path / "evil.safetensors", weights[1].state_dict(), info)
    with pytest.raises(ValueError, match="holds weights of another model"):
        load_model(path)


# --- load_weights -------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file(weights):
    path, model = weights
    loaded = load_weights(path)
    assert loaded.info.class_names == INFO.class_names
    assert loaded.record == {"step": 3}
    assert not loaded.model.training

    detector = vovnet.load(path, device="cpu")
    assert detector.class_names == INFO.class_names
    assert detector.category_ids == INFO.category_ids
    assert detector.metadata == {"step": 3}
    for name, tensor in detector.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_a_name_or_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bcd is neither .*, did you mean 'bccd'\?"):
        vovnet.load("bcd")
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors is neither a weights file"):
        vovnet.load(tmp_path / "gone.safetensors")


@pytest.mark.skipif("bccd" not in shipped_weights(), reason="src/vovnet/weights/bccd.safetensors is not there yet")
def test_the_shipped_weights():
    loaded = load_weights("bccd")
    assert loaded.info.class_names == ("Platelets", "RBC", "WBC")
    assert "config" in loaded.record


def test_a_url_is_downloaded_once(weights, cache):
    with Server(weights[0].read_bytes()) as server:
        url = f"{server.url}/models/cells.safetensors"
        first = load_weights(url)
    (kept,) = files(cache)
    assert kept.name.endswith("-cells.safetensors")
    second = load_weights(url)  # the server has stopped
    assert len(server.visits) == 1
    assert first.info == second.info == INFO


def test_a_download_that_is_no_detector_is_not_kept(cache):
    with Server(b"something else") as server:
        for visits in (1, 2):
            with pytest.raises(ValueError, match=r"odd\.safetensors sent no usable weights .*no safetensors file"):
                vovnet.load(f"{server.url}/odd.safetensors")
            assert len(server.visits) == visits
    assert not files(cache)

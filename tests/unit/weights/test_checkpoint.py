import json
import struct

import pytest
import torch

from vovnet.weights.checkpoint import ModelInfo, load_checkpoint, load_model, save_checkpoint, save_weights

INFO = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, ("cat", "dog"), (17, 18))


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


def test_half_precision_weights_load_as_float(weights, tmp_path):
    _, model = weights
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_weights(tmp_path / "half.safetensors", half, INFO, {})
    loaded = load_model(tmp_path / "half.safetensors").model
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


@pytest.mark.parametrize("cut", [4, 1000, -1])
def test_damaged_weights(weights, tmp_path, cut):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(weights[0].read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"damaged.safetensors is not a whole safetensors file"):
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


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"format": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_checkpoint_of_another_model(weights, tmp_path):
    _, model = weights
    more = ModelInfo(INFO.name, INFO.options, ("a", "b", "c"), (1, 2, 3))
    save_weights(tmp_path / "w.safetensors", model.state_dict(), more, {})
    with pytest.raises(ValueError, match=r"another model: heads.0.cls.conv.weight has shape .* expected"):
        load_model(tmp_path / "w.safetensors")
    state = dict(list(model.state_dict().items())[1:])
    save_weights(tmp_path / "w.safetensors", state, INFO, {})
    with pytest.raises(ValueError, match="is missing in the file"):
        load_model(tmp_path / "w.safetensors")


def test_metadata_is_readable_by_others(weights):
    content = weights[0].read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["class_names"]) == ["cat", "dog"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"format": "old"})
    old = path.read_bytes()

    def full(state, temporary):
        temporary.write_bytes(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not write .*last.pt .*free some disk space.*unharmed"):
        save_checkpoint(path, {"format": "new"})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["refinedet320_vovnet27_slim", "maskrcnn_vovnet27_slim_gn"])
def test_options_of_strangers_fetch_and_read_nothing(weights, tmp_path, monkeypatch, name):
    """A backbone may start from weights elsewhere, but never because a file says so."""
    info = ModelInfo(name, {"backbone": {"weights": "http://127.0.0.1:9/evil.pth"}}, ("cat",), (1,))
    monkeypatch.setattr("vovnet.weights.checkpoint._shape_only", lambda _: weights[1])
    save_weights(tmp_path / "evil.safetensors", weights[1].state_dict(), info, {})
    monkeypatch.undo()
    monkeypatch.setattr("vovnet.weights.backbone.read_weights", lambda source: pytest.fail(f"asked for {source}"))
    with pytest.raises(ValueError, match="no option of vovnet27_slim is called 'weights'"):
        load_model(tmp_path / "evil.safetensors")


def test_options_of_strangers_take_no_memory(weights, tmp_path, monkeypatch):
    """Terabytes, which only the shapes are compared of."""
    info = ModelInfo("refinedet320_vovnet27_slim", {"width": 200_000}, ("cat",), (1,))
    monkeypatch.setattr("vovnet.weights.checkpoint._shape_only", lambda _: weights[1])
    save_weights(tmp_path / "evil.safetensors", weights[1].state_dict(), info, {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="is a checkpoint of another model"):
        load_model(tmp_path / "evil.safetensors")

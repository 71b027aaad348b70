"""Weights of other sources: the same outputs after import, or a sentence that says what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from vovnet import create_backbone
from vovnet.weights.backbone import read_weights
from vovnet.weights.importing import import_weights

State = dict[str, Tensor]


def lively(model: nn.Module) -> nn.Module:
    """The model with norms as of a trained one, in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return model.eval()


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal outputs, within 1e-5 of the largest value of each."""
    ours, theirs = ([x] if isinstance(x, Tensor) else x for x in (ours, theirs))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def images() -> Tensor:
    return torch.rand(1, 3, 64, 96)


# --- timm ---------------------------------------------------------------------------------------------------------

TIMM = {
    "vovnet39a": ("vovnet39", False, "none"),
    "vovnet57a": ("vovnet57", False, "none"),
    "ese_vovnet19b_slim_dw": ("vovnet19_slim_dw_ese", True, "last"),
    "ese_vovnet19b_dw": ("vovnet19_dw_ese", True, "last"),
    "ese_vovnet19b_slim": ("vovnet19_slim_ese", True, "last"),
    "ese_vovnet39b": ("vovnet39_ese", True, "last"),
    "ese_vovnet57b": ("vovnet57_ese", True, "last"),
    "ese_vovnet99b": ("vovnet99_ese", True, "last"),
}
NOT_OURS = {"eca_vovnet39b": "unexpected .*attn.conv.weight", "ese_vovnet39b_evos": r"unexpected .*\.bn\.v"}


def timm_model(name: str) -> nn.Module:
    import timm

    return lively(timm.create_model(name, pretrained=False))


def test_every_vovnet_of_timm_is_here() -> None:
    import timm

    assert set(timm.list_models("*vovnet*")) == TIMM.keys() | NOT_OURS.keys()


@pytest.mark.parametrize("name", TIMM)
def test_a_model_of_timm_gives_the_same_after_import(name: str, tmp_path: Path) -> None:
    model, identity, ese = TIMM[name]
    theirs = timm_model(name)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    report = import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert (report.scheme, report.model, report.num_classes, report.norm) == ("timm", model, 1000, "batch")
    assert report.options == {"stem": "stride", "identity": identity, "ese": ese, "norm": "batch"}
    assert report.parameters == sum(p.numel() for p in theirs.parameters())
    assert report.pixels["mean"][0] == (127.5 if name == "ese_vovnet57b" else 123.675)

    ours, x = create_backbone(model, weights=tmp_path / "ours.safetensors").eval(), images()
    with torch.no_grad():
        assert_same(ours(x), theirs(x))
        maps = theirs.forward_intermediates(x, intermediates_only=True)[1:]  # the first is the stem's
        assert_same(ours.features(x), maps)


@pytest.mark.parametrize("name", NOT_OURS)
def test_timms_other_attention_and_norm_are_refused(name: str, tmp_path: Path) -> None:
    torch.save(timm_model(name).state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match=f"theirs.pth is not a complete vovnet39.* of timm: .*{NOT_OURS[name]}"):
        read_weights(tmp_path / "theirs.pth")


# --- the authors' sources, made of our own model by renaming, written out independently ---------------------------


def osa_names(model: nn.Module) -> State:
    """The state of a network of ours under the names of the authors' PyTorch code."""
    state: State = {}

    def unit(module: nn.Module, name: str) -> None:
        parts = {"conv": "conv", "norm": "norm", "depthwise": "dw_conv3x3"}
        if hasattr(module, "pointwise"):
            unit_parts = {"dw_conv3x3": module.depthwise, "pw_conv1x1": module.pointwise.conv}
            unit_parts["pw_norm"] = module.pointwise.norm
        else:
            unit_parts = {parts[child]: part for child, part in module.named_children() if child in parts}
        for part, layer in unit_parts.items():
            state.update({f"{name}/{part}.{key}": value for key, value in layer.state_dict().items()})

    for i in (1, 2, 3):
        unit(model.stem[i - 1], f"stem.stem_{i}")
    for s in (2, 3, 4, 5):
        for m, module in enumerate(model.stages[s - 2], start=1):
            osa = f"OSA{s}_{m}"
            for number, layer in enumerate(module.layers):
                unit(layer, f"stage{s}.{osa}.layers.{number}.{osa}_{number}")
            unit(module.concat, f"stage{s}.{osa}.concat.{osa}_concat")
            if list(module.reduction.children()):
                unit(module.reduction, f"stage{s}.{osa}.conv_reduction.{osa}_reduction_0")
            if list(module.ese.children()):
                state[f"stage{s}.{osa}.ese.fc.weight"] = module.ese.fc.weight.data
                state[f"stage{s}.{osa}.ese.fc.bias"] = module.ese.fc.bias.data
    if model.head is not None:
        state |= {"classifier.weight": model.head.weight.data, "classifier.bias": model.head.bias.data}
    return state


def caffe_names(model: nn.Module, factor: float) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}

    def unit(module: nn.Module, name: str) -> None:
        arrays[f"{name}/conv.0"] = module.conv.weight.detach().numpy()
        arrays[f"{name}/bn.0"] = module.norm.running_mean.numpy() * factor
        arrays[f"{name}/bn.1"] = module.norm.running_var.numpy() * factor
        arrays[f"{name}/bn.2"] = np.array([factor], dtype=np.float32)
        arrays[f"{name}/scale.0"] = module.norm.weight.detach().numpy()
        arrays[f"{name}/scale.1"] = module.norm.bias.detach().numpy()

    for i in range(3):
        unit(model.stem[i], f"stem{i + 1}")
    for s, transitions in {2: [""], 3: [""], 4: ["A", "B"], 5: ["A", "B"]}.items():
        for module, transition, letters in zip(model.stages[s - 2], transitions, ["abcde", "fghij"], strict=False):
            for layer, letter in zip(module.layers, letters, strict=True):
                unit(layer, f"DiverseBlock{s}{letter}")
            unit(module.concat, f"Transition{s}{transition}")
    arrays["fc1000.0"] = model.head.weight.detach().numpy()
    arrays["fc1000.1"] = model.head.bias.detach().numpy()
    return arrays


def without(state: State, *ends: str) -> State:
    return {name: tensor for name, tensor in state.items() if not name.endswith(ends)}


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_vovnet_pytorch(prefix: str, tmp_path: Path) -> None:
    theirs = lively(create_backbone("vovnet39", stem="stride", identity=True))
    torch.save(under(prefix, osa_names(theirs)), tmp_path / "vovnet39_torchvision.pth")
    report = import_weights(tmp_path / "vovnet39_torchvision.pth", tmp_path / "ours.safetensors")
    assert (report.scheme, report.model, report.norm, report.set_aside) == ("VoVNet.pytorch", "vovnet39", "batch", {})
    assert report.parameters == 22_600_296

    ours, x = create_backbone("vovnet39", weights=tmp_path / "ours.safetensors").eval(), images()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("prefix", ["", "backbone.body."])
def test_frozen_norms_of_vovnet_detectron_have_no_eps(prefix: str, tmp_path: Path) -> None:
    batch = lively(create_backbone("vovnet27_slim", stem="stride", features_only=True))
    theirs = create_backbone("vovnet27_slim", stem="stride", features_only=True, norm="frozen").eval()
    theirs.load_state_dict(batch.state_dict())
    for module in theirs.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
            module.running_var.mul_(1e-4)  # where 1e-5 more or less is much
            module.weight.mul_(1e-2)
    neck = {"backbone.fpn.fpn_inner1.weight": torch.ones(2), "backbone.fpn.fpn_inner1.bias": torch.ones(2)}
    detector = {**neck, "rpn.head.conv.weight": torch.ones(2)} if prefix else {}
    state = under(prefix, without(osa_names(theirs), "num_batches_tracked"))
    torch.save({"model": {**detector, **state}, "iteration": 90000}, tmp_path / "theirs.pth")

    report = import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert (report.scheme, report.norm, report.num_classes) == ("VoVNet-Detectron", "frozen batch", None)
    assert report.set_aside == ({"backbone.fpn": 2, "rpn.head": 1} if prefix else {})
    ours = create_backbone("vovnet27_slim", features_only=True, weights=tmp_path / "ours.safetensors").eval()
    with torch.no_grad():
        x = images()
        assert_same(ours(x), theirs(x))


def test_group_norms_of_vovnet_detectron(tmp_path: Path) -> None:
    theirs = lively(create_backbone("vovnet27_slim", stem="stride", features_only=True, norm="group"))
    torch.save({"model": under("backbone.body.", osa_names(theirs))}, tmp_path / "theirs.pth")
    assert import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors").norm == "group"
    ours = create_backbone("vovnet27_slim", features_only=True, weights=tmp_path / "ours.safetensors").eval()
    with torch.no_grad():
        x = images()
        assert torch.equal(ours(x)[3], theirs(x)[3])


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(("name", "prefix"), [("vovnet19_slim_dw_ese", ""), ("vovnet39_ese", "backbone.bottom_up.")])
def test_vovnet_detectron2(name: str, prefix: str, frozen: bool, tmp_path: Path) -> None:
    theirs = lively(create_backbone(name, features_only=True))
    state = without(osa_names(theirs), "num_batches_tracked" if frozen else "nothing")
    torch.save({"model": under(prefix, state)}, tmp_path / "theirs.pth")
    report = import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert (report.scheme, report.model) == ("vovnet-detectron2", name)
    assert report.norm == ("frozen batch" if frozen else "batch")
    assert report.options["ese"] == "all"
    ours = create_backbone(name, features_only=True, weights=tmp_path / "ours.safetensors").eval()
    with torch.no_grad():
        x = images()
        assert_same(ours(x), theirs(x))


def test_caffe(tmp_path: Path) -> None:
    theirs = lively(create_backbone("vovnet39"))
    np.savez(tmp_path / "theirs.npz", **caffe_names(theirs, factor=999.5))
    report = import_weights(tmp_path / "theirs.npz", tmp_path / "ours.safetensors")
    assert (report.scheme, report.model, report.parameters) == ("Caffe", "vovnet39", 22_600_296)
    assert report.options == {"stem": "pool", "identity": False, "ese": "none", "norm": "batch"}
    assert report.pixels == {"mean": (104, 117, 123), "std": (1, 1, 1), "channel_order": "BGR"}
    ours = create_backbone("vovnet39", weights=tmp_path / "ours.safetensors").eval()
    with torch.no_grad():
        x = images()
        assert_same(ours(x), theirs(x))


# --- what the file says of itself, and options --------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of VoVNet.pytorch's with VoVNet-27-slim."""
    torch.manual_seed(0)
    model = lively(create_backbone("vovnet27_slim", num_classes=7, stem="stride", identity=True))
    path = tmp_path_factory.mktemp("weights") / "slim.pth"
    torch.save(osa_names(model), path)
    return path


def small_state(small: Path) -> State:
    return torch.load(small, weights_only=True)


def test_the_file_written_says_what_it_is(small: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    output = tmp_path / "new" / "ours.safetensors"
    report = import_weights(small, output)
    with safe_open(output, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "vovnet-backbone-1"
    assert metadata["model"] == "vovnet27_slim"
    assert json.loads(metadata["model_options"]) == report.options
    assert json.loads(metadata["pixels"])["channel_order"] == "RGB"
    assert metadata["source"] == "slim.pth"
    assert metadata["source_sha256"] == report.source_sha256 == hashlib.sha256(small.read_bytes()).hexdigest()
    assert json.loads(json.dumps(asdict(report)))["num_classes"] == 7
    direct, imported = read_weights(small), read_weights(output)
    assert (direct.model, direct.options, direct.pixels) == (imported.model, imported.options, imported.pixels)
    assert all(torch.equal(tensor, imported.state[name]) for name, tensor in direct.state.items())
    with pytest.raises(ValueError, match="ours.safetensors is imported already: it holds weights of vovnet27_slim"):
        import_weights(output, tmp_path / "again.safetensors")


def test_half_precision_is_read_as_single(small: Path, tmp_path: Path) -> None:
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in small_state(small).items()
    }
    torch.save(half, tmp_path / "half.pth")
    state = read_weights(tmp_path / "half.pth").state
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}


def test_the_weights_set_the_options(small: Path) -> None:
    model = create_backbone("vovnet27_slim", weights=small)
    assert isinstance(model.stem_pool, nn.Identity)
    assert model.head.out_features == 7
    assert model.pixels["channel_order"] == "RGB"
    frozen = create_backbone("vovnet27_slim", norm="frozen", weights=small)
    assert isinstance(frozen.stem[0].norm, FrozenBatchNorm2d)
    with torch.no_grad():
        assert_same(frozen(x := images()), model.eval()(x))
    features = create_backbone("vovnet27_slim", features_only=True, pool="k2", stem="stride", weights=str(small))
    assert features.head is None
    assert torch.equal(features.stem[0].conv.weight, model.stem[0].conv.weight)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vovnet27_slim", {"stem": "pool"}, r"slim.pth needs stem='stride', got stem='pool'; leave it out"),
        ("vovnet27_slim", {"identity": False}, "needs identity=True, got identity=False"),
        ("vovnet27_slim", {"ese": "all"}, "needs ese='none', got ese='all'"),
        ("vovnet27_slim", {"norm": "group"}, "needs norm='batch', got"),
        ("vovnet27_slim", {"num_classes": 1000}, "needs num_classes=7, got num_classes=1000"),
        ("vovnet27_slim", {"bottleneck": True}, "needs bottleneck=False"),
        ("vovnet27_slim", {"steam": "pool"}, "did you mean 'stem'"),
        ("vovnet39", {}, "holds weights of vovnet27_slim, not of vovnet39"),
        ("resnet50", {}, "holds weights of vovnet27_slim, not of resnet50"),
    ],
)
def test_options_that_contradict_the_weights(small: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_backbone(name, weights=small, **options)


def test_a_classifier_is_not_invented(small: Path, tmp_path: Path) -> None:
    torch.save(without(small_state(small), "classifier.weight", "classifier.bias"), tmp_path / "body.pth")
    with pytest.raises(ValueError, match="body.pth holds no classifier; set features_only=True"):
        create_backbone("vovnet27_slim", weights=tmp_path / "body.pth")
    assert create_backbone("vovnet27_slim", features_only=True, weights=tmp_path / "body.pth").head is None


# --- files that are not right -------------------------------------------------------------------------------------

CONV = "stage5.OSA5_1.concat.OSA5_1_concat/conv.weight"
NORM = "stage5.OSA5_1.concat.OSA5_1_concat/norm"


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, CONV), f"broken.pth is not a complete vovnet27_slim of VoVNet.pytorch: missing {CONV}$"),
        (lambda s: without(s, "running_var"), r"missing (\S+running_var, ){3}… and 24 more$"),
        (lambda s: without(s, f"{NORM}.num_batches_tracked"), f"missing {NORM}.num_batches_tracked$"),
        (lambda s: without(s, "classifier.weight"), "missing classifier.weight$"),
        (lambda s: s | {"classifier.weight": torch.ones(())}, "wrong shape of classifier.\\w+"),
        (lambda s: s | {"stage6.OSA6_1.odd": torch.ones(1)}, "unexpected stage6.OSA6_1.odd$"),
        (lambda s: s | {"\n\x1b[2J": torch.ones(1)}, "unexpected \N{REPLACEMENT CHARACTER}\\[2J$"),
        (lambda s: s | {CONV: s[CONV][:, :-1]}, f"wrong shape of {CONV}: \\S+ .*, expected "),
        (lambda s: s | {CONV: torch.full_like(s[CONV], torch.nan)}, f"{CONV} has values that are not finite"),
        (
            lambda s: s | {CONV: torch.zeros(()).expand(s[CONV].shape)},
            f"{CONV} in .*broken.pth must be a dense tensor of",
        ),
        (lambda s: s | {CONV: s[CONV].to_sparse()}, f"{CONV} in .*broken.pth must be a dense tensor of"),
        (lambda s: s | {CONV: s[CONV].to("meta")}, f"{CONV} in .*broken.pth must be a dense tensor of"),
        (lambda s: s | {CONV: s[CONV].to(torch.complex64)}, f"{CONV} in .*broken.pth must be a dense tensor of"),
        (lambda s: s | {CONV: "text"}, f"must hold a tensor under each name, got str under '{CONV}'"),
        (lambda s: {"model": [1, 2]}, "must hold a tensor under each name, got list under 'model'"),
        (lambda s: [s], "must hold a state dict, got list"),
        (lambda s: {"conv1.weight": torch.ones(1)}, "must name its tensors as a VoVNet of .*, but has conv1.weight$"),
        (lambda s: {}, "but has none$"),
    ],
)
def test_a_file_with_something_wrong_is_refused(
    small: Path, tmp_path: Path, change: Callable[[State], Any], message: str
) -> None:
    torch.save(change(small_state(small)), tmp_path / "broken.pth")
    with pytest.raises(ValueError, match=message) as caught:
        import_weights(tmp_path / "broken.pth", tmp_path / "ours.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_norm_without_variance_or_eps_is_refused(small: Path, tmp_path: Path) -> None:
    state = without(small_state(small), "num_batches_tracked", "classifier.weight", "classifier.bias")
    state[f"{NORM}.running_var"][3] = 0
    torch.save({"model": state}, tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match=f"{NORM}.weight has values that are not finite"):
        read_weights(tmp_path / "theirs.pth")


def test_caffe_files_with_something_wrong(tmp_path: Path) -> None:
    arrays = caffe_names(lively(create_backbone("vovnet39")), factor=0.0)
    np.savez(tmp_path / "untrained.npz", **arrays)
    with pytest.raises(ValueError, match="/bn.0 has values that are not finite"):
        read_weights(tmp_path / "untrained.npz")
    del arrays["DiverseBlock4g/bn.2"]
    np.savez(tmp_path / "short.npz", **arrays)
    with pytest.raises(
        ValueError, match=r"short.npz is not a complete vovnet39 of Caffe: missing DiverseBlock4g/bn.2$"
    ):
        read_weights(tmp_path / "short.npz")
    np.savez(tmp_path / "objects.npz", **{"stem1/conv.0": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match=r"objects.npz holds no array of numbers under stem1/conv.0"):
        read_weights(tmp_path / "objects.npz")


class Hostile:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_code_in_a_file_is_not_run(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"stem.stem_1/conv.weight": Hostile()}, f"zip{suffix}")
    Path(f"plain{suffix}").write_bytes(pickle.dumps(Hostile()))
    for name in ("zip", "plain"):
        with pytest.raises(
            ValueError, match="holds more than tensors, which vovnet does not read .objects of posix.mkdir"
        ):
            read_weights(f"{name}{suffix}")
    assert not Path("executed").exists()


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_file(suffix: str, kept: float, small: Path, tmp_path: Path) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in small_state(small).items()})
    elif suffix == ".safetensors":
        import_weights(small, path)
    content = small.read_bytes() if suffix == ".pth" else path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match="cut.* is damaged"):
        read_weights(path)


def test_a_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", **{"stem1/conv.0": np.zeros(2**20)})
    with pytest.raises(ValueError, match="is not a complete vovnet27_slim"):
        read_weights(tmp_path / "bomb.npz")
    monkeypatch.setenv("VOVNET_LIMITS", "weights_bytes=1_048_576")
    with pytest.raises(ValueError, match=r"bomb.npz unpacked has more than 1,048,576 bytes: raise .*weights_bytes=N"):
        read_weights(tmp_path / "bomb.npz")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "vovnet40"},
        {"model_options": "[1]"},
        {"model_options": '{"stem": "none"}'},
        {"pixels": "{}"},
        {"pixels": "not json"},
    ],
)
def test_damaged_metadata_of_a_file_of_ours(small: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "ours.safetensors"
    import_weights(small, path)
    with safe_open(path, framework="pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(state, path, metadata | changes)
    with pytest.raises(ValueError, match="ours.safetensors has damaged metadata"):
        read_weights(path)
    del state["stem.0.conv.weight"]
    save_file(state, path, metadata)
    with pytest.raises(ValueError, match=r"is not a complete vovnet27_slim: missing stem.0.conv.weight$"):
        read_weights(path)


def test_weights_of_a_whole_detector_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"bccd holds a whole detector \(dsod300_vovnet27_slim\), expected .*weights=bccd backbone_weights",
    ):
        read_weights("bccd")


def test_names_of_files(small: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"gone.pth is neither a weights file nor the name of weights .*timm/ese_vovnet39b"
    ):
        read_weights("gone.pth")
    with pytest.raises(ValueError, match=r"a file that ends in .safetensors, got out.pth"):
        import_weights(small, "out.pth")
    (tmp_path / "weights.pkl").touch()
    with pytest.raises(
        ValueError, match=r"files that end in .pth, .pt, .safetensors, .npz, .pth.tar, .ckpt, .bin, .pth.zip, got .*pkl"
    ):
        read_weights(tmp_path / "weights.pkl")

"""pytorchcv's VoVNets: the same outputs in both directions, its releases by name, and archives that are not right."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vovnet import create_backbone
from vovnet.errors import UsageError
from vovnet.weights import published
from vovnet.weights.backbone import read_weights
from vovnet.weights.file import read_tensors
from vovnet.weights.find import find_weights, read_source
from vovnet.weights.importing import import_weights
from vovnet.weights.names import recognise
from vovnet.weights.published import FROM_PYTORCHCV, PUBLISHED, pytorchcv_url

from .recorded_names import recorded_state
from .serving import Server, files

OURS = {"vovnet27s": "vovnet27_slim", "vovnet39": "vovnet39", "vovnet57": "vovnet57"}
SMALL = {"a": torch.arange(12.0).reshape(3, 4)}
PARAMETERS = {"vovnet27s": 3_525_736, "vovnet39": 22_600_296, "vovnet57": 36_640_296}  # as pytorchcv states them


def lively(model: nn.Module) -> nn.Module:
    """The model with norms as of a trained one, in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return model.eval()


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Equal, within 1e-5 of the largest value."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert theirs.std() > 1e-3  # equal values would prove nothing


def saved(state: dict[str, Tensor], **options: Any) -> bytes:
    content = io.BytesIO()
    torch.save(state, content, **options)
    return content.getvalue()


def zipped(contents: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return target.getvalue()


# --- the real library ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_a_model_of_pytorchcv_gives_the_same_after_import(name: str, tmp_path: Path) -> None:
    vovnet = pytest.importorskip("pytorchcv.models.vovnet", reason="needs pytorchcv")
    theirs = lively(getattr(vovnet, name)())
    content = zipped({f"{name}-0564-63bfa613.pth": saved(theirs.state_dict())})
    (tmp_path / "theirs.pth.zip").write_bytes(content)
    report = import_weights(tmp_path / "theirs.pth.zip", tmp_path / "ours.safetensors")
    assert (report.scheme, report.model, report.num_classes, report.norm) == ("pytorchcv", OURS[name], 1000, "batch")
    assert report.options == {"stem": "stride", "identity": True, "ese": "none", "norm": "batch"}
    assert report.parameters == PARAMETERS[name] == sum(p.numel() for p in theirs.parameters())

    ours, x = create_backbone(OURS[name], weights=tmp_path / "ours.safetensors").eval(), torch.rand(1, 3, 224, 224)
    maps: list[Tensor] = []
    for stage in (1, 2, 3, 4):
        getattr(theirs.features, f"stage{stage}").register_forward_hook(lambda _, __, out: maps.append(out))
    with torch.no_grad():
        assert_same(ours(x), theirs(x))
        for our_map, their_map in zip(ours.features(x), maps, strict=True):
            assert_same(our_map, their_map)


@pytest.mark.parametrize("name", OURS)
def test_our_weights_give_the_same_in_pytorchcv(name: str) -> None:
    vovnet = pytest.importorskip("pytorchcv.models.vovnet", reason="needs pytorchcv")
    ours = lively(create_backbone(OURS[name], stem="stride", identity=True))
    theirs = getattr(vovnet, name)().eval()
    scheme = recognise(theirs.state_dict())
    assert scheme is not None
    theirs.load_state_dict({scheme.name_in_file(key): value for key, value in ours.state_dict().items()})
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert_same(ours(x), theirs(x))


def test_the_releases_are_those_that_pytorchcv_states() -> None:
    store = pytest.importorskip("pytorchcv.models.common.model_store", reason="needs pytorchcv")
    assert [f"pytorchcv/{name}" for name in OURS] == list(FROM_PYTORCHCV)
    for name in OURS:
        error, sha1, release = store.get_model_name_suffix_data(name)
        file = f"{name}-{error}-{sha1[:8]}.pth.zip"
        assert pytorchcv_url(f"pytorchcv/{name}") == f"{store.imgclsmob_repo_url}/releases/download/{release}/{file}"
        assert published._RELEASES[f"pytorchcv/{name}"][1] == sha1


# --- what pytorchcv 0.0.74 was seen to have -----------------------------------------------------------------------


def test_every_name_of_pytorchcv_has_its_place(tmp_path: Path) -> None:
    state = recorded_state("pytorchcv_vovnet39")
    torch.save(state, tmp_path / "theirs.pth")
    weights = read_weights(tmp_path / "theirs.pth")
    assert weights.model == "vovnet39"
    pairs = {
        "stem.2.norm.running_var": "features.init_block.conv3.bn.running_var",
        "stages.2.1.layers.4.conv.weight": "features.stage3.unit2.branches.branch5.conv.weight",
        "stages.3.0.concat.norm.bias": "features.stage4.unit1.concat_conv.bn.bias",
        "head.bias": "output.bias",
    }
    for ours, theirs in pairs.items():
        assert torch.equal(weights.state[ours], state[theirs])
    assert len(weights.state) == len(state)


@pytest.mark.parametrize("lost", ["features.stage3.unit2.concat_conv.bn.bias", "features.init_block.conv1.conv.weight"])
def test_a_part_that_is_missing_is_named(lost: str, tmp_path: Path) -> None:
    state = recorded_state("pytorchcv_vovnet39")
    del state[lost]
    torch.save(state, tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match=f"is not a complete vovnet39 of pytorchcv: missing {lost}$"):
        read_weights(tmp_path / "theirs.pth")


# --- releases -----------------------------------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server in place of GitHub's, with an archive of a small state, which the table of releases describes."""
    content = saved(SMALL)
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(
        published._RELEASES, "pytorchcv/vovnet39", ("0564", hashlib.sha1(content).hexdigest(), "v0.0.493")
    )
    with Server(zipped({"vovnet39-0564-63bfa613.pth": content})) as server:
        monkeypatch.setattr(published, "PYTORCHCV_RELEASES", f"{server.url}/releases")
        yield server


def test_a_release_is_downloaded_once(release: Server, tmp_path: Path) -> None:
    for _ in range(2):
        _, tensors, _ = read_source("pytorchcv/vovnet39")
        assert torch.equal(tensors["a"], SMALL["a"])
    assert len(release.visits) == 1
    assert release.visits[0].startswith("GET /releases/v0.0.493/vovnet39-0564-")
    assert len(files(tmp_path / "cache")) == 1


def test_a_release_that_is_altered_is_not_kept(release: Server, tmp_path: Path) -> None:
    release.content = zipped({"vovnet39-0564-63bfa613.pth": saved({"a": torch.ones(3)})})
    with pytest.raises(OSError, match=r"pytorchcv/vovnet39: .* arrived with a \.pth of SHA-1 \w{40}, pytorchcv states"):
        read_weights("pytorchcv/vovnet39")
    release.content = b"not an archive" * 100
    with pytest.raises(OSError, match=r"arrived with no archive of weights \(it is damaged"):
        read_weights("pytorchcv/vovnet39")
    assert not files(tmp_path / "cache")


def test_a_release_without_a_network(release: Server) -> None:
    release.stop()
    with pytest.raises(OSError, match=r"pytorchcv/vovnet39: could not reach .*; or give the path of a copy of that"):
        read_weights("pytorchcv/vovnet39")


def test_names_that_pytorchcv_lacks() -> None:
    with pytest.raises(UsageError, match="no weights are called 'pytorchcv/vovnet27', did you mean 'pytorchcv/vovnet"):
        find_weights("pytorchcv/vovnet27", PUBLISHED)


# --- archives that are not right ----------------------------------------------------------------------------------


def read(content: bytes, folder: Path) -> dict[str, Tensor]:
    (folder / "theirs.pth.zip").write_bytes(content)
    return read_tensors(folder / "theirs.pth.zip")[0]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("new_format", [False, True])
def test_an_archive_holds_either_format_of_pytorch(compression: int, new_format: bool, tmp_path: Path) -> None:
    content = saved(SMALL, _use_new_zipfile_serialization=new_format)
    state = read(zipped({"a.pth": content}, compression), tmp_path)
    assert state.keys() == SMALL.keys()
    assert torch.equal(state["a"], SMALL["a"])


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "must hold one .pth file and nothing else, but holds nothing"),
        ({"a.txt": b"a"}, "must hold one .pth file and nothing else, but holds 'a.txt'"),
        ({"a.pth": b"a", "b.pth": b"b"}, "must hold one .pth file and nothing else, but holds 'a.pth', 'b.pth'"),
        ({"": b"a"}, "must hold one .pth file and nothing else, but holds ''"),
        ({"a.pth": b"a"}, "is no file of torch.save|is damaged"),
        ({"a.pth": bytes(70 * 2**20)}, "would unpack to [0-9]+ times its size"),
    ],
    ids=["empty", "a text", "two", "no name", "no pickle", "a bomb"],
)
def test_archives_that_hold_something_else(contents: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"theirs\.pth\.zip ({message})"):
        read(zipped(contents, zipfile.ZIP_DEFLATED), tmp_path)


def test_no_name_in_an_archive_is_used_as_a_path(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    content = saved(SMALL)
    for name in ("../../escaped.pth", str(tmp_path / "escaped.pth"), "a/b/c.pth"):
        state = read(zipped({name: content, "__MACOSX/._c.pth": b"left by the Finder"}), inside)
        assert torch.equal(state["a"], SMALL["a"])
    assert files(tmp_path) == [inside / "theirs.pth.zip"]


def test_damaged_archives(tmp_path: Path) -> None:
    content = zipped({"a.pth": saved({"a": torch.rand(100_000)})}, zipfile.ZIP_DEFLATED)
    middle = len(content) // 2
    with pytest.raises(ValueError, match=r"theirs\.pth\.zip is damaged .*: download or copy it again"):
        read(content[:middle], tmp_path)
    with pytest.raises(ValueError, match=r"theirs\.pth\.zip is damaged .*: download or copy it again"):
        read(content[:middle] + bytes(64) + content[middle + 64 :], tmp_path)
    with pytest.raises(ValueError, match=r"theirs\.pth\.zip is compressed in an unusual way: unpack it"):
        read(zipped({"a.pth": b"a"}, zipfile.ZIP_BZIP2), tmp_path)


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm"),))


def test_nothing_in_an_archive_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"theirs\.pth\.zip holds more than tensors, which vovnet does not read"):
        read(zipped({"a.pth": pickle.dumps({"a": Harm()})}), tmp_path)
    assert not Path("harm").exists()


def test_an_archive_above_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "weights_bytes=1000")
    with pytest.raises(ValueError, match=r"theirs\.pth\.zip unpacked has more than 1,000 bytes: raise the limit"):
        read(zipped({"a.pth": saved({"a": torch.ones(1000)})}), tmp_path)

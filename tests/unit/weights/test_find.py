"""Files of weights: shipped, on this machine, behind URLs and on the hub, both played by a server on this machine."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from vovnet import create_backbone, load
from vovnet.engine.predicting.sources import expand_sources
from vovnet.errors import UsageError
from vovnet.weights import find, published
from vovnet.weights import hub as hub_module
from vovnet.weights.backbone import read_weights
from vovnet.weights.find import find_weights, open_weights, read_source
from vovnet.weights.hub import VOVNETS_ON_HUB
from vovnet.weights.published import FROM_TORCHVISION

from .serving import Server, files, use_as_hub

NAME = "timm/ese_vovnet39b.ra_in1k"
CONTENT = b"weights" * 1000


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(CONTENT) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    use_as_hub(server.url, tmp_path, monkeypatch)
    return server


# --- names, files and folders -------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cells.safetensors"
    path.write_bytes(CONTENT)
    return path


def test_a_name_that_nothing_has(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "shipped_weights", lambda: {"bccd": file, "voc": file})
    assert find_weights("bccd") == file
    with pytest.raises(FileNotFoundError, match=r"bcd is neither .*, did you mean 'bccd'\? \(names: bccd, voc\)"):
        find_weights("bcd")
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors is neither a weights file nor the name of weights"):
        find_weights(tmp_path / "gone.safetensors")
    with pytest.raises(FileNotFoundError, match=rf"{NAME} is neither a weights file"):  # no backbone is wanted here
        find_weights(NAME)


@pytest.mark.parametrize("name", ["refinedet320_vovnet39", "maskrcnn_timm/resnet50", "vovnet57", "coco", "voc2007"])
def test_weights_that_are_not_published(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"^{name} .*bccd.*; no weights trained on COCO or VOC are published$"):
        load(name)
    shipped = ", ".join(find.shipped_weights())
    with pytest.raises(
        FileNotFoundError, match=f"{name}' does not exist; the weights that ship with vovnet are {shipped};"
    ):
        expand_sources([name])


def test_a_name_of_weights_in_place_of_an_image() -> None:
    with pytest.raises(FileNotFoundError, match="'bccd' does not exist; it is the name of weights, which --weights"):
        expand_sources(["bccd"])
    with pytest.raises(FileNotFoundError, match="'photo' does not exist$"):
        expand_sources(["photo"])


def test_a_shipped_name_comes_before_a_file_of_that_name(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "shipped_weights", lambda: {"bccd": file})
    monkeypatch.chdir(tmp_path)
    Path("bccd").touch()
    assert find_weights("bccd") == file
    assert find_weights("./bccd") == Path("bccd")


def test_the_folder_of_a_run(file: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(FileNotFoundError, match="run holds no best.safetensors; name a weights file"):
        find_weights(tmp_path / "run")
    best = file.rename(tmp_path / "run" / "best.safetensors")
    assert find_weights(tmp_path / "run") == find_weights(str(best)) == best


# --- URLs ---------------------------------------------------------------------------------------------------------


def test_a_url_is_downloaded_once(server: Server, cache: Path) -> None:
    first = find_weights(f"{server.url}/a/vovnet39.pth")
    assert first.read_bytes() == CONTENT
    assert first.parent == cache
    assert first.name.endswith("-vovnet39.pth")
    assert find_weights(f"{server.url}/a/vovnet39.pth") == first
    assert len(server.visits) == 1
    assert find_weights(f"{server.url}/b/vovnet39.pth") != first
    assert len(files(cache)) == 2


@pytest.mark.parametrize("path", ["../../escaped.safetensors", "a/../..", "..%2F..%2Fescaped", "", "?name=../x"])
def test_a_url_cannot_lead_out_of_the_cache(server: Server, cache: Path, path: str) -> None:
    downloaded = find_weights(f"{server.url}/{path}")
    assert downloaded.resolve().parent == cache.resolve()
    assert files(cache.parent) == [downloaded]


def test_the_cache_without_the_variable_is_in_the_home_folder(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOVNET_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_weights(f"{server.url}/cells.safetensors").parent == tmp_path / ".cache" / "vovnet"


def test_a_download_that_is_no_weights_is_tried_again(server: Server, cache: Path, file: Path) -> None:
    for visits in (1, 2):
        with pytest.raises(ValueError, match=r"page.pth sent no usable weights \(.* is damaged"):
            read_weights(f"{server.url}/page.pth")
        assert len(server.visits) == visits
    assert files(cache) == []
    with pytest.raises(ValueError, match="damaged"), open_weights(file):
        raise ValueError("damaged")
    assert file.exists()  # the user's own


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
@pytest.mark.parametrize(
    ("name", "reads"),
    [("page.pth", "vovnet.weights.program.Reader.run"), ("cells.safetensors", "safetensors.safe_open")],
)
def test_a_lack_of_memory_discards_no_download(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, reads: str, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(reads, fail)
    with pytest.raises((MemoryError, RuntimeError)):
        read_weights(f"{server.url}/{name}")
    assert len(files(cache)) == 1


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (UsageError("no detector is called 'dsod'"), True),
        (UsageError("refinedet320_vovnet39 needs stem='stride', got stem='pool'"), True),
        (OSError("the disk is full"), True),
        (ValueError("damaged"), False),
    ],
)
def test_only_a_fault_of_the_file_discards_a_download(server: Server, error: Exception, kept: bool) -> None:
    url = f"{server.url}/cells.safetensors"
    with pytest.raises(type(error)), open_weights(url) as path:
        raise error
    assert path.is_file() is kept


@pytest.mark.parametrize("name", ["page.pth", "cells.safetensors"])
def test_a_download_above_a_limit_is_kept_until_the_limit_is_raised(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    url = f"{server.url}/{name}"
    find_weights(url)
    monkeypatch.setenv("VOVNET_LIMITS", "weights_bytes=1")
    with pytest.raises(ValueError, match="raise the limit with --limit weights_bytes=N"):
        read_weights(url)
    assert len(files(cache)) == len(server.visits) == 1


def test_a_url_must_say_which_format_it_has(server: Server) -> None:
    with pytest.raises(
        ValueError,
        match=r"must end in .pth, .pt, .*, .npz, .pth.tar, .*, .pth.zip, got .*download.id=3; download",
    ):
        read_source(f"{server.url}/download?id=3")
    assert server.visits == []


def test_a_download_that_breaks_off_leaves_nothing(server: Server, cache: Path) -> None:
    with pytest.raises(OSError, match=r"broken.pth closed the connection after 3500 of 7000 bytes; try again") as error:
        find_weights(f"{server.url}/broken.pth")
    assert "\n" not in str(error.value)
    assert not files(cache)


def test_urls_that_give_nothing(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match=r"missing.pth answered with 404 Not Found; check the URL"):
        find_weights(f"{server.url}/missing.pth")
    with pytest.raises(ValueError, match="only http:// and https:// URLs can be downloaded, got ftp://127.0.0.1/a.pth"):
        find_weights("ftp://127.0.0.1/a.pth")
    monkeypatch.setenv("VOVNET_LIMITS", "weights_bytes=6999")
    with pytest.raises(ValueError, match=r"a.pth is larger than the limit of 6999 bytes: .* --limit weights_bytes=N"):
        find_weights(f"{server.url}/a.pth")
    assert not files(cache)
    server.stop()
    with pytest.raises(OSError, match=r"could not reach 127\.0\.0\.1: Connection refused"):
        find_weights(f"{server.url}/cells.safetensors")
    assert not files(cache)


def test_a_full_disk_leaves_nothing(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vovnet.files.os.fsync", full)
    with pytest.raises(OSError, match=r"could not write .*cells\.safetensors \(No space left on device\); free some"):
        find_weights(f"{server.url}/cells.safetensors")
    assert not files(cache)


# --- torchvision --------------------------------------------------------------------------------------------------


@pytest.fixture
def torchvision_files(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server in place of PyTorch's, whose file has the first digits of its SHA-256 in its name."""
    monkeypatch.setattr(published, "TORCHVISION_HOST", "127.0.0.1")
    monkeypatch.setattr(
        published, "torchvision_url", lambda name: f"{server.url}/{name.split('/')[1]}-{server.sha256[:8]}.pth"
    )
    return server


def test_a_name_of_torchvisions_is_downloaded_once(torchvision_files: Server, cache: Path) -> None:
    first = find_weights("torchvision/resnet50", FROM_TORCHVISION)
    assert first.read_bytes() == CONTENT
    assert find_weights("torchvision/resnet50", FROM_TORCHVISION) == first
    assert len(torchvision_files.visits) == 1
    assert files(cache) == [first]


def test_a_file_that_its_name_does_not_describe_is_not_kept(torchvision_files: Server, cache: Path) -> None:
    torchvision_files.content = b"altered" * 1000
    for visits in (1, 2):
        with pytest.raises(OSError, match=r"torchvision/densenet161: .* arrived with SHA-256 \w+, its name states"):
            find_weights("torchvision/densenet161", FROM_TORCHVISION)
        assert len(torchvision_files.visits) == visits
    assert not files(cache)


def test_torchvision_without_a_network(torchvision_files: Server) -> None:
    torchvision_files.stop()
    message = r"torchvision/resnet101: could not reach 127\.0\.0\.1: Connection refused.*; or give the path of a copy"
    with pytest.raises(OSError, match=message):
        find_weights("torchvision/resnet101", FROM_TORCHVISION)


def test_a_backbone_from_torchvision(torchvision_files: Server, cache: Path) -> None:
    torch.manual_seed(0)
    import torchvision

    theirs = torchvision.models.resnet50(weights=None).eval()
    buffer = io.BytesIO()
    torch.save(theirs.state_dict(), buffer)
    torchvision_files.content = buffer.getvalue()
    torchvision_files.sha256 = hashlib.sha256(torchvision_files.content).hexdigest()
    ours = create_backbone("resnet50", weights="torchvision/resnet50").eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    (path,) = files(cache)
    path.write_bytes(b"damaged on the disk")
    with pytest.raises(ValueError, match=r"torchvision/resnet50 sent no usable weights \(.* is damaged"):
        create_backbone("resnet50", weights="torchvision/resnet50")
    assert not files(cache)  # the next try downloads it again


def test_names_that_torchvision_lacks() -> None:
    with pytest.raises(UsageError, match=r"no weights are called 'torchvision/resnet5', did you mean"):
        find_weights("torchvision/resnet5", FROM_TORCHVISION)
    with pytest.raises(FileNotFoundError, match="did you mean 'torchvision/resnet50'"):
        read_weights("torchvision:resnet50")


def test_the_names_are_those_that_torchvision_has_weights_for() -> None:
    from torchvision.models import get_model_weights

    networks = {"resnet50", "resnet101", "densenet161", "densenet201"}
    urls = {weights.url for network in networks for weights in get_model_weights(network)}
    assert {published.torchvision_url(name) for name in FROM_TORCHVISION} == urls
    assert published.torchvision_url("torchvision/resnet50").endswith("/resnet50-0676ba61.pth")


# --- the hub ------------------------------------------------------------------------------------------------------


def test_a_name_is_downloaded_from_the_hub_once(hub: Server) -> None:
    first = find_weights(NAME, VOVNETS_ON_HUB)
    assert first.read_bytes() == CONTENT
    assert f"GET /{NAME}/resolve/main/model.safetensors" in hub.visits
    visits = len(hub.visits)
    hub.stop()
    assert find_weights(NAME, VOVNETS_ON_HUB) == first
    assert len(hub.visits) == visits


def test_a_file_that_is_not_what_the_hub_states_is_not_kept(hub: Server, tmp_path: Path) -> None:
    hub.content = b"altered" * 1000
    for _ in range(2):
        with pytest.raises(OSError, match=rf"{NAME} arrived with SHA-256 \w+, the hub states {hub.sha256}; try again"):
            find_weights(NAME, VOVNETS_ON_HUB)
    assert not [path for path in files(tmp_path) if path.read_bytes() == hub.content]
    hub.content = CONTENT
    assert find_weights(NAME, VOVNETS_ON_HUB).read_bytes() == CONTENT


def test_a_hub_that_states_no_hash(hub: Server, tmp_path: Path) -> None:
    hub.sha256 = "abc"
    with pytest.raises(OSError, match=f"{NAME} could not be downloaded from the hub"):
        find_weights(NAME, VOVNETS_ON_HUB)
    assert CONTENT not in [path.read_bytes() for path in files(tmp_path)]


def test_without_a_network_the_error_says_where_to_put_the_file(
    hub: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stop()
    path = cache / f"{NAME}.safetensors"
    message = f"download model.safetensors from https://huggingface.co/{NAME} and save it as {path}"
    with pytest.raises(OSError, match=message):
        find_weights(NAME, VOVNETS_ON_HUB)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"by hand")
    assert find_weights(NAME, VOVNETS_ON_HUB) == path


def test_offline_mode_asks_nobody(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(OSError, match=r"could not be downloaded from the hub \(OfflineModeIsEnabled\)"):
        find_weights(NAME, VOVNETS_ON_HUB)
    close_session()
    assert not hub.visits


def test_a_hub_that_does_not_answer_costs_little(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "HUB_TIMEOUT_S", 0.05)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: time.sleep(1))
    start = time.monotonic()
    with pytest.raises(OSError, match=r"could not be downloaded from the hub \(TimeoutError\)"):
        find_weights(NAME, VOVNETS_ON_HUB)
    assert time.monotonic() - start < 0.9


def test_a_name_that_the_hub_lacks(hub: Server) -> None:
    with pytest.raises(ValueError, match=f"no weights are called 'timm/ese_vovnet39b', did you mean '{NAME}'"):
        find_weights("timm/ese_vovnet39b", VOVNETS_ON_HUB)
    assert not hub.visits


def test_the_names_are_those_that_timm_has_weights_for() -> None:
    import timm

    assert tuple(f"timm/{name}" for name in timm.list_pretrained("*vovnet*")) == VOVNETS_ON_HUB


def test_a_backbone_from_the_hub(hub: Server) -> None:
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("ese_vovnet39b", pretrained=False).eval()
    hub.content = save(theirs.state_dict())
    hub.sha256 = hashlib.sha256(hub.content).hexdigest()
    ours = create_backbone("vovnet39", weights=NAME).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_without_the_hubs_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r'timm/.* needs an extra: pip install "vovnet\[timm\]"'):
        find_weights(NAME, VOVNETS_ON_HUB)


@pytest.mark.parametrize("url", ["http://[::1/a.pth", "http:///a.pth", "http://localhost:99999/a.npz", "https://"])
def test_a_malformed_url_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(url)} is no valid URL"):
        read_source(url)


def test_a_folder_without_best_weights_names_the_files_in_it(tmp_path: Path) -> None:
    """A run that was stopped before its first evaluation has only a checkpoint."""
    for name in ("last.pt", "last.safetensors", "log.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(
        FileNotFoundError, match="no best.safetensors; name one of its files: last.pt, last.safetensors$"
    ):
        find_weights(tmp_path)


def test_without_a_home_a_download_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VOVNET_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(OSError, match="no home folder is known; set VOVNET_CACHE to a folder for downloads"):
        find_weights("https://example.org/a.safetensors")

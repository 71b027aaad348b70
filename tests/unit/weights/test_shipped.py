from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import vovnet
from vovnet.engine.detector import load
from vovnet.weights import shipped as weights
from vovnet.weights.checkpoint import ModelInfo, save_weights
from vovnet.weights.shipped import find_weights, load_weights, shipped_weights

NAMES = ("Platelets", "RBC", "WBC")


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector, with a norm statistic that no new one has."""
    torch.manual_seed(0)
    info = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, NAMES, (1, 2, 7))
    state = info.build().state_dict()
    state[next(name for name in state if name.endswith("running_mean"))] += 1
    path = tmp_path_factory.mktemp("weights") / "cells.safetensors"
    save_weights(path, state, info, {"val_voc07_map": 0.5})
    return path


class Server:
    """Answers on 127.0.0.1; `visits` counts the requests."""

    def __init__(self, content: bytes) -> None:
        self.visits = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler: BaseHTTPRequestHandler) -> None:  # noqa: N805
                self.visits += 1
                if "missing" in handler.path:
                    handler.send_error(404)
                    return
                broken = "broken" in handler.path
                handler.send_response(200)
                handler.send_header("Content-Type", "application/octet-stream")
                handler.send_header("Content-Length", str(len(content)))
                handler.end_headers()
                handler.wfile.write(content[: len(content) // 2] if broken else content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self.http.serve_forever, args=(0.01,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(weights_file: Path) -> Iterator[Server]:
    with Server(weights_file.read_bytes()) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("VOVNET_CACHE", str(folder))
    return folder


def files(folder: Path) -> list[Path]:
    """Everything in a folder, hidden files too."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file(weights_file: Path) -> None:
    loaded = load_weights(weights_file)
    assert loaded.info.class_names == NAMES
    assert loaded.record == {"val_voc07_map": 0.5}
    assert not loaded.model.training

    detector = vovnet.load(weights_file, device="cpu")
    assert detector.class_names == NAMES
    assert detector.category_ids == (1, 2, 7)
    assert detector.metadata == {"val_voc07_map": 0.5}
    for name, tensor in detector.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name])


def test_a_name_that_nothing_has(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "shipped_weights", lambda: {"bccd": weights_file, "voc": weights_file})
    assert find_weights("bccd") == weights_file
    with pytest.raises(FileNotFoundError, match=r"bcd is neither .*, did you mean 'bccd'\? \(there are: bccd, voc\)"):
        load("bcd")
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors is neither a weights file nor the name of shipped"):
        load(tmp_path / "gone.safetensors")


def test_a_shipped_name_comes_before_a_file_of_that_name(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "shipped_weights", lambda: {"bccd": weights_file})
    monkeypatch.chdir(tmp_path)
    Path("bccd").touch()
    assert find_weights("bccd") == weights_file
    assert find_weights("./bccd") == Path("bccd")


@pytest.mark.skipif("bccd" not in shipped_weights(), reason="src/vovnet/weights/bccd.safetensors is not there yet")
def test_the_shipped_weights() -> None:
    loaded = load_weights("bccd")
    assert loaded.info.class_names == NAMES
    assert "config" in loaded.record


def test_an_address_is_fetched_once(server: Server, cache: Path) -> None:
    url = f"{server.url}/models/cells.safetensors"
    first = load_weights(url)
    assert server.visits == 1
    (kept,) = files(cache)
    assert kept.name.endswith("-cells.safetensors")
    server.stop()
    second = load_weights(url)
    assert server.visits == 1
    assert first.info == second.info


def test_two_addresses_with_one_file_name_are_two_files(server: Server, cache: Path) -> None:
    paths = {find_weights(f"{server.url}/{folder}/cells.safetensors") for folder in ("a", "b")}
    assert len(paths) == len(files(cache)) == 2


def test_an_interrupted_download_leaves_nothing(server: Server, cache: Path, weights_file: Path) -> None:
    size = weights_file.stat().st_size
    with pytest.raises(OSError, match=f"closed the connection after {size // 2} of {size} bytes; try again") as caught:
        load(f"{server.url}/broken.safetensors")
    assert "\n" not in str(caught.value)
    assert not files(cache)


def test_an_address_that_is_not_there(server: Server, cache: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.safetensors answered with 404 Not Found; check the URL"):
        load(f"{server.url}/missing.safetensors")
    server.stop()
    with pytest.raises(OSError, match="cannot be reached"):
        load(f"{server.url}/cells.safetensors")
    with pytest.raises(ValueError, match="only http:// and https:// URLs"):
        load("ftp://127.0.0.1/cells.safetensors")
    assert not files(cache)


def test_an_answer_that_is_no_detector_is_not_kept(cache: Path) -> None:
    with Server(b"something else") as server:
        for visits in (1, 2):
            with pytest.raises(
                ValueError, match=r"odd\.safetensors did not send weights that can be used .*not a whole"
            ):
                load(f"{server.url}/odd.safetensors")
            assert server.visits == visits
    assert not files(cache)


def test_a_full_disk_leaves_nothing(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vovnet.files.os.fsync", full)
    with pytest.raises(OSError, match=r"could not write .*cells\.safetensors \(No space left on device\); free some"):
        load(f"{server.url}/cells.safetensors")
    assert not files(cache)


@pytest.mark.parametrize("path", ["../../escaped.safetensors", "a/../..", "..%2F..%2Fescaped", "", "?name=../x"])
def test_an_address_cannot_lead_out_of_the_cache(server: Server, cache: Path, path: str) -> None:
    found = find_weights(f"{server.url}/{path}")
    assert found.resolve().parent == cache.resolve()
    assert files(cache.parent) == [found]


def test_the_cache_without_the_variable_is_in_the_home_folder(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOVNET_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_weights(f"{server.url}/cells.safetensors").parent == tmp_path / ".cache" / "vovnet"

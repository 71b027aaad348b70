"""Files of weights from addresses and from timm's hub, both played by a server on this machine."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from vovnet import create_backbone
from vovnet.weights import find as weights_download
from vovnet.weights.backbone import read_weights
from vovnet.weights.find import ON_HUB, find_file

NAME = "timm/ese_vovnet39b.ra_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"weights" * 1000


class Server:
    """Answers on 127.0.0.1 as a hub does: headers with commit and hash, then the file. `visits` are its answers."""

    def __init__(self) -> None:
        self.content, self.sha256 = CONTENT, hashlib.sha256(CONTENT).hexdigest()
        self.visits: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(handler: BaseHTTPRequestHandler) -> None:  # noqa: N805
                self.visits.append(f"{handler.command} {handler.path}")
                if "missing" in handler.path:
                    handler.send_error(404)
                    return
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(self.content)))
                handler.send_header("X-Repo-Commit", COMMIT)
                handler.send_header("ETag", f'"{self.sha256}"')
                handler.end_headers()

            def do_GET(handler: BaseHTTPRequestHandler) -> None:  # noqa: N805
                handler.do_HEAD()
                broken = "broken" in handler.path
                handler.wfile.write(self.content[: len(self.content) // 2] if broken else self.content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.http.serve_forever, args=(0.01,)).start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def use_as_hub(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    use_as_hub(server.url, tmp_path, monkeypatch)
    return server


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- addresses ----------------------------------------------------------------------------------------------------


def test_an_address_is_fetched_once(server: Server, cache: Path) -> None:
    first = find_file(f"{server.url}/a/vovnet39.pth")
    assert first.read_bytes() == CONTENT
    assert first.parent == cache
    assert first.name.endswith("-vovnet39.pth")
    assert find_file(f"{server.url}/a/vovnet39.pth") == first
    assert len(server.visits) == 1
    assert find_file(f"{server.url}/b/vovnet39.pth") != first


def test_an_answer_that_is_no_weights_is_asked_for_again(server: Server, cache: Path) -> None:
    for visits in (1, 2):
        with pytest.raises(ValueError, match=r"damaged or holds more than tensors"):
            read_weights(f"{server.url}/page.pth")
        assert len(server.visits) == visits
    assert files(cache) == []


def test_an_address_must_say_what_it_holds(server: Server) -> None:
    with pytest.raises(ValueError, match=r"must end in .pth, .pt, .safetensors, .npz, got .*download.id=3: fetch"):
        find_file(f"{server.url}/download?id=3")
    assert server.visits == []


def test_an_answer_that_breaks_off_leaves_nothing(server: Server, cache: Path) -> None:
    with pytest.raises(OSError, match=r"broken.pth broke off its answer after 3500 of 7000 bytes; try again"):
        find_file(f"{server.url}/broken.pth")
    assert not files(cache)


def test_addresses_that_give_nothing(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match=r"missing.pth could not be fetched .*404.*; check the address and the network"):
        find_file(f"{server.url}/missing.pth")
    with pytest.raises(ValueError, match="http:// and https:// addresses only, got ftp://127.0.0.1/a.pth"):
        find_file("ftp://127.0.0.1/a.pth")
    monkeypatch.setattr(weights_download, "MAX_BYTES", 6999)
    with pytest.raises(ValueError, match=r"a.pth is larger than the limit of 6999 bytes"):
        find_file(f"{server.url}/a.pth")
    assert not files(cache)


# --- the hub ------------------------------------------------------------------------------------------------------


def test_a_name_is_fetched_from_the_hub_once(hub: Server) -> None:
    first = find_file(NAME)
    assert first.read_bytes() == CONTENT
    assert f"GET /{NAME}/resolve/main/model.safetensors" in hub.visits
    visits = len(hub.visits)
    hub.stop()
    assert find_file(NAME) == first
    assert len(hub.visits) == visits


def test_a_file_that_is_not_what_the_hub_states_is_not_kept(hub: Server, tmp_path: Path) -> None:
    hub.content = b"altered" * 1000
    for _ in range(2):
        with pytest.raises(OSError, match=rf"{NAME} arrived with SHA-256 \w+, the hub states {hub.sha256}; try again"):
            find_file(NAME)
    assert not [path for path in files(tmp_path) if path.read_bytes() == hub.content]
    hub.content = CONTENT
    assert find_file(NAME).read_bytes() == CONTENT


def test_a_hub_that_states_no_hash(hub: Server, tmp_path: Path) -> None:
    hub.sha256 = "abc"
    with pytest.raises(OSError, match=f"{NAME} could not be fetched from the hub"):
        find_file(NAME)
    assert CONTENT not in [path.read_bytes() for path in files(tmp_path)]


def test_without_a_network_the_error_says_where_to_put_the_file(
    hub: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stop()
    place = cache / f"{NAME}.safetensors"
    message = f"put its file model.safetensors from https://huggingface.co/{NAME} at {place}"
    with pytest.raises(OSError, match=message):
        find_file(NAME)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"by hand")
    assert find_file(NAME) == place


def test_offline_mode_asks_nobody(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(OSError, match=r"could not be fetched from the hub \(OfflineModeIsEnabled\)"):
        find_file(NAME)
    close_session()
    assert not hub.visits


def test_a_hub_that_does_not_answer_costs_little(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_download, "TIMEOUT_S", 0.05)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: time.sleep(1))
    start = time.monotonic()
    with pytest.raises(OSError, match=r"could not be fetched from the hub \(TimeoutError\)"):
        find_file(NAME)
    assert time.monotonic() - start < 0.9


def test_a_name_that_the_hub_lacks(hub: Server) -> None:
    with pytest.raises(ValueError, match=f"no weights are called 'timm/ese_vovnet39b', did you mean '{NAME}'"):
        find_file("timm/ese_vovnet39b")
    assert not hub.visits


def test_the_names_are_those_that_timm_has_weights_for() -> None:
    import timm

    assert tuple(f"timm/{name}" for name in timm.list_pretrained("*vovnet*")) == ON_HUB


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
    with pytest.raises(ModuleNotFoundError, match=r"timm/.* needs an extra: pip install 'vovnet\[timm\]'"):
        find_file(NAME)

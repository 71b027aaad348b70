"""Weights on the hub: loaded by name, kept in its cache, and pushed; its library is the real one, the hub is not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vovnet import create_backbone, load
from vovnet.cli.main import main
from vovnet.errors import UsageError
from vovnet.names import shipped_weights
from vovnet.report.model_card import make_card
from vovnet.weights.asked_once import asked_once
from vovnet.weights.backbone import build_pretrained, save_backbone
from vovnet.weights.detector import ModelInfo, digest_of_weights, file_to_change, load_weights
from vovnet.weights.find import find_weights, read_source
from vovnet.weights.hub import from_hub, parse_hub_source
from vovnet.weights.pushing import hub_name, local_paths, push, write_folder
from vovnet.weights.translate import BackboneWeights

from .hub_standin import TOKEN, Hub, Repository, commit_of, use_hub
from .serving import files

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub's library uploads so
BCCD = shipped_weights()["bccd"].read_bytes()
OTHER = b"other weights"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as running:
        use_hub(running.url, tmp_path, monkeypatch)
        running.repositories["me/cells"] = Repository(
            {"main": {"model.safetensors": BCCD}, "old": {"a/b.safetensors": OTHER}}
        )
        yield running


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf:me/cells", ("me/cells", None, None)),
        ("hf:me/cells@v1.0", ("me/cells", "v1.0", None)),
        ("hf:me/cells/a/b.safetensors", ("me/cells", None, "a/b.safetensors")),
        ("hf:me/cells@v1/b.safetensors", ("me/cells", "v1", "b.safetensors")),
        ("hf:me/cells@refs/pr/3/b.safetensors", ("me/cells", "refs/pr/3", "b.safetensors")),
        ("hf://me/cells", ("me/cells", None, None)),
    ],
)
def test_the_forms_of_a_name(text: str, parts: tuple[str | None, ...]) -> None:
    source = parse_hub_source(text)
    assert (source.repository, source.revision, source.file) == parts


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:cells", "hf:me/", "hf:me/cells@", "hf:me/cells@..", "hf:me/../cells", "hf:me/cells/../a.safetensors",
     "hf:me/cells/a/", "hf:me/ce lls", "hf:../cells", "hf:me/cells@a/../b.safetensors", "hf:me/cells\n"],
)  # fmt: skip
def test_what_is_no_name(text: str, hub: Hub) -> None:
    with pytest.raises(UsageError, match=r"^expected weights on the hub as hf:OWNER/NAME, .*, got '") as error:
        find_weights(text)
    assert "\n" not in str(error.value)
    assert not hub.visits


def test_only_safetensors_are_read(hub: Hub) -> None:
    with pytest.raises(UsageError, match=r"hf:me/cells/pytorch_model\.bin is no safetensors file, and other files may"):
        load("hf:me/cells/pytorch_model.bin")
    assert not hub.visits


# --- loading ------------------------------------------------------------------------------------------------------


def test_a_detector_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    assert load("hf:me/cells").class_names == ("Platelets", "RBC", "WBC")
    assert digest_of_weights("hf:me/cells") == digest_of_weights("bccd")
    _, tensors, metadata = read_source("hf:me/cells")
    assert metadata["format"] == "vovnet-detector-1"
    assert len(tensors) > 100
    downloads = [visit for visit in hub.visits if visit.startswith("GET")]
    assert downloads == ["GET /me/cells/resolve/main/model.safetensors"]
    assert find_weights("hf:me/cells").read_bytes() == BCCD


def test_a_newer_file_on_the_hub_is_taken(hub: Hub) -> None:
    assert from_hub("hf:me/cells").read_bytes() == BCCD
    hub.repositories["me/cells"].branches["main"] = {"best.safetensors": OTHER}
    assert from_hub("hf:me/cells").read_bytes() == OTHER


def test_one_answer_for_all_steps(hub: Hub) -> None:
    with asked_once():
        assert find_weights("hf:me/cells").read_bytes() == BCCD
        visits = len(hub.visits)
        hub.repositories["me/cells"].branches["main"] = {"best.safetensors": OTHER}
        with asked_once():
            assert find_weights("hf:me/cells").read_bytes() == BCCD
        assert find_weights("hf:me/cells").read_bytes() == BCCD
        assert len(hub.visits) == visits
        assert find_weights("hf:me/cells@old/a/b.safetensors").read_bytes() == OTHER
    assert find_weights("hf:me/cells").read_bytes() == OTHER
    assert len(hub.visits) > visits


@pytest.mark.parametrize(
    "command",
    ["predict PHOTO --weights hf:me/cells --no-draw", "compare hf:me/cells bccd --images PHOTO"],
)
def test_a_command_asks_the_hub_once(
    command: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for what it does to the weights beside loading them, such as looking for an export of them."""
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache/known_exports").mkdir(parents=True)
    (tmp_path / "cache/known_exports/0-0.json").write_text("{}", encoding="utf-8")
    words = command.replace("PHOTO", "samples/bccd/JPEGImages/BloodImage_00385.jpg").split()
    monkeypatch.setattr("sys.argv", ["vovnet", *words, "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0, capsys.readouterr().err
    asked = [visit for visit in hub.visits if visit == "HEAD /me/cells/resolve/main/model.safetensors"]
    assert len(asked) == 2, hub.visits  # the size, and then the hub's own library
    assert len([visit for visit in hub.visits if visit.startswith("GET")]) == 1


def test_a_revision_and_a_file(hub: Hub) -> None:
    assert from_hub("hf:me/cells@old/a/b.safetensors").read_bytes() == OTHER
    commit = commit_of(hub.repositories["me/cells"].branches["main"])
    assert from_hub(f"hf:me/cells@{commit}").read_bytes() == BCCD


def test_a_commit_in_the_cache_is_not_asked_for_again(hub: Hub) -> None:
    commit = commit_of(hub.repositories["me/cells"].branches["main"])
    first = [from_hub(f"hf:me/cells@{commit}"), from_hub(f"hf:me/cells@{commit}/model.safetensors")]
    visits = len(hub.visits)
    assert [from_hub(f"hf:me/cells@{commit}"), from_hub(f"hf:me/cells@{commit}/model.safetensors")] == first
    assert len(hub.visits) == visits
    from_hub("hf:me/cells@main")
    assert len(hub.visits) > visits


def test_a_file_that_is_cached_does_not_stand_for_another_of_its_commit(hub: Hub) -> None:
    hub.repositories["me/cells"].branches["main"]["best.safetensors"] = OTHER
    commit = commit_of(hub.repositories["me/cells"].branches["main"])
    assert from_hub(f"hf:me/cells@{commit}/best.safetensors").read_bytes() == OTHER
    assert from_hub(f"hf:me/cells@{commit}").read_bytes() == BCCD


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("https://huggingface.co/me/cells", "hf:me/cells"),
        ("https://huggingface.co/me/cells/", "hf:me/cells"),
        ("https://www.huggingface.co/me/cells?library=x#use", "hf:me/cells"),
        ("https://hf.co/me/cells/tree/main", "hf:me/cells@main"),
        ("https://huggingface.co/me/cells/tree/v1/a", "hf:me/cells@v1"),
        ("https://huggingface.co/me/cells/blob/v1/a/b.safetensors", "hf:me/cells@v1/a/b.safetensors"),
    ],
)
def test_a_page_of_the_hub_is_no_file(page: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vovnet.weights.cached.download_weights", None)
    for use in (load_weights, read_source):
        with pytest.raises(
            UsageError, match=f"is a page of the Hugging Face Hub, not a file: write {re.escape(name)}$"
        ):
            use(page)


def test_a_file_on_the_hub_has_an_ordinary_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path))
    monkeypatch.setattr("vovnet.weights.cached.download_weights", lambda url, path: path.write_bytes(BCCD))
    assert find_weights("https://huggingface.co/me/cells/resolve/main/model.safetensors").read_bytes() == BCCD


def test_nothing_is_told_to_the_hub_but_the_request(hub: Hub) -> None:
    from_hub("hf:me/cells")
    assert all(visit.split()[1].startswith("/me/cells/") for visit in hub.visits), hub.visits
    assert not any("torch" in agent for agent in hub.agents)


def test_a_small_file_that_lies_in_git_itself(hub: Hub) -> None:
    hub.in_git = True
    assert from_hub("hf:me/cells").read_bytes() == BCCD


@pytest.mark.parametrize("in_git", [False, True])
def test_a_file_that_is_altered_is_not_kept(in_git: bool, hub: Hub, tmp_path: Path) -> None:
    hub.in_git, hub.altered = in_git, BCCD[:-1] + b"x"
    for _ in range(2):
        with pytest.raises(OSError, match=r"me/cells arrived with SHA-\d+ \w+, the hub states \w+; try again"):
            from_hub("hf:me/cells")
    assert hub.altered not in [path.read_bytes() for path in files(tmp_path)]


def test_a_file_above_the_limit_is_not_asked_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "weights_bytes=1000")
    with pytest.raises(
        ValueError, match=r"hf:me/cells has more than 1,000 bytes: raise the limit with --limit weights"
    ):
        from_hub("hf:me/cells")
    assert not any(visit.startswith("GET") for visit in hub.visits)


def test_weights_in_the_cache_of_the_hub_are_never_changed(hub: Hub) -> None:
    with pytest.raises(UsageError, match="a copy of hf:me/cells in the cache is never changed: copy it first"):
        file_to_change("hf:me/cells")


def test_a_backbone_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    network = create_backbone("vovnet19_tiny", features_only=True).eval()
    pixels = {"mean": (104.0, 117.0, 123.0), "std": (1.0, 1.0, 1.0), "channel_order": "BGR"}
    save_backbone(
        tmp_path / "b.safetensors", BackboneWeights("", "vovnet19_tiny", {}, pixels, network.state_dict()), {}
    )
    files = {"best.safetensors": (tmp_path / "b.safetensors").read_bytes()}
    hub.repositories["me/backbone"] = Repository({"main": files})
    again = create_backbone("vovnet19_tiny", weights="hf:me/backbone", features_only=True).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(again(x), network(x), strict=True))
    info = ModelInfo("refinedet320_vovnet39", {}, ("cat",), (1,))
    message = r"^hf:me/gone/x\.safetensors: the hub has no such model, .*; the config's header or docs/weights\.md says"
    with pytest.raises(FileNotFoundError, match=message):
        build_pretrained(info, "hf:me/gone/x.safetensors")


# --- without the hub ----------------------------------------------------------------------------------------------


def test_offline_with_a_filled_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from_hub("hf:me/cells")
    from_hub("hf:me/cells@old/a/b.safetensors")
    hub.stop()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    visits = len(hub.visits)
    assert from_hub("hf:me/cells").read_bytes() == BCCD
    assert from_hub("hf:me/cells@old/a/b.safetensors").read_bytes() == OTHER
    assert len(hub.visits) == visits


def test_offline_with_an_empty_cache(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = (
        rf"^hf:me/cells is not in the hub's cache {tmp_path}.*, and HF_HUB_OFFLINE forbids to ask the hub: run once"
    )
    with pytest.raises(FileNotFoundError, match=message):
        load_weights("hf:me/cells")
    assert not hub.visits


def test_a_hub_that_is_gone(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    first = from_hub("hf:me/cells")
    hub.stop()
    assert from_hub("hf:me/cells") == first
    assert "hf:me/cells is taken from its cache" in caplog.text
    with pytest.raises(
        OSError, match=r"^hf:me/trees is not in the hub's cache, and http://127.* gave no answer \(.*\): "
    ):
        from_hub("hf:me/trees")


def test_a_hub_with_an_error_of_its_own(hub: Hub) -> None:
    first = from_hub("hf:me/cells")
    hub.status = 503
    assert from_hub("hf:me/cells") == first
    with pytest.raises(
        OSError, match=r"^hf:me/trees is not in .* gave no answer \(503 Service Unavailable\): try again"
    ):
        from_hub("hf:me/trees")


# --- what the hub does not have or does not show ------------------------------------------------------------------


def test_what_the_hub_does_not_have(hub: Hub) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"^hf:me/trees: the hub has no such model, or it is private: check the"
    ):
        load("hf:me/trees")
    with pytest.raises(FileNotFoundError, match=r"^hf:me/cells@v2: the hub has no such branch, tag or commit of this"):
        load("hf:me/cells@v2")
    with pytest.raises(
        FileNotFoundError, match=r"^hf:me/cells/x\.safetensors: me/cells has no x\.safetensors; name one"
    ):
        load("hf:me/cells/x.safetensors")
    message = r"me/cells@old has no model\.safetensors or best\.safetensors; name .*: hf:me/cells@old/a/b\.safetensors$"
    with pytest.raises(FileNotFoundError, match=message):
        load("hf:me/cells@old")
    hub.repositories["me/cells"].branches["main"] = {"pytorch_model.bin": OTHER}
    with pytest.raises(
        FileNotFoundError, match=r"nor another safetensors file: only these are read from the hub, becau"
    ):
        load("hf:me/cells")


def test_a_private_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["me/cells"].private = True
    with pytest.raises(
        FileNotFoundError, match=r"or it is private: check the name, or log in \(hf auth login, or a tok"
    ):
        from_hub("hf:me/cells")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert from_hub("hf:me/cells").read_bytes() == BCCD


def test_a_repository_with_conditions(hub: Hub) -> None:
    hub.repositories["me/cells"].gated = True
    with pytest.raises(FileNotFoundError, match=r"^hf:me/cells is only for those who accept its conditions: do so at"):
        from_hub("hf:me/cells")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"hf:me/cells needs an extra: pip install .*\[hub\]"):
        find_weights("hf:me/cells")


# --- pushing ------------------------------------------------------------------------------------------------------


def contents(repository: str = "me/new", revision: str | None = None) -> dict[str, Path | bytes]:
    path = shipped_weights()["bccd"]
    card = make_card(path, hub_name(repository, revision), "mit")
    return {"model.safetensors": path, "README.md": card.text.encode()}


def test_what_is_pushed_loads_again(hub: Hub, login: None) -> None:
    address = push(contents(), "me/new")
    assert address.startswith(f"{hub.url}/me/new/commit/")
    assert hub.messages == ["Upload model.safetensors and README.md with vovnet"]
    assert hub.repositories["me/new"].private is False
    assert digest_of_weights("hf:me/new") == digest_of_weights("bccd")
    assert "/agent-harnesses" not in " ".join(hub.visits)


def test_the_command_that_is_printed_after_a_push_runs(
    hub: Hub, login: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["vovnet", "weights", "push", "bccd", "me/new", "--licence", "mit"])
    with pytest.raises(SystemExit, match="0"):
        main()
    (command,) = re.findall(r"^next: (vovnet predict .*)$", capsys.readouterr().out, re.MULTILINE)
    monkeypatch.setattr("sys.argv", [*shlex.split(command), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="0"):
        main()


def test_a_branch_and_a_private_repository(hub: Hub, login: None) -> None:
    hub.repositories["me/cells"].private = True
    push(contents("me/cells", "v2"), "me/cells", private=True, revision="v2")
    assert hub.repositories["me/cells"].branches.keys() == {"main", "old", "v2"}
    assert "README.md" not in hub.repositories["me/cells"].branches["main"]
    push({"a.txt": b"more"}, "me/cells", revision="v2")  # the branch is there already
    assert hub.repositories["me/cells"].branches["v2"].keys() == {"model.safetensors", "README.md", "a.txt"}
    push(contents(), "me/new", private=True)
    assert hub.repositories["me/new"].private


def test_private_weights_are_not_pushed_to_a_public_repository(hub: Hub, login: None) -> None:
    with pytest.raises(UsageError, match="me/cells is there already, and public: make it private on the hub, choose"):
        push(contents("me/cells"), "me/cells", private=True)
    assert not hub.messages


def test_pushing_without_leave(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        PermissionError, match="hf:me/new cannot be pushed without a login: hf auth login, or a token in"
    ):
        push(contents(), "me/new")
    assert not hub.visits
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(
        OSError, match=r"^hf:you/cells: the hub refuses this \(403 .*\): log in with a token that may do"
    ):
        push(contents("you/cells"), "you/cells")
    monkeypatch.setenv("HF_TOKEN", "hf_another-secret")
    with pytest.raises(OSError, match="^hf:me/new: ") as error:
        push(contents(), "me/new")
    assert "secret" not in str(error.value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="hf:me/new cannot be pushed while HF_HUB_OFFLINE is set: unset it"):
        push(contents(), "me/new")


def test_a_card_that_the_hub_refuses(hub: Hub, login: None) -> None:
    hub.faults = ['"license" must be one of [apache-2.0,\nmit]', "and more"]
    with pytest.raises(UsageError, match=r"^hf:me/new: the hub refuses the card \(.*must be one of \[apache") as error:
        push(contents(), "me/new")
    assert "\n" not in str(error.value)
    assert not hub.messages


@pytest.mark.parametrize("name", ["cells", "me/", "me/cells/x", "../cells", "me/ce lls"])
def test_names_that_cannot_be_pushed_to(name: str) -> None:
    with pytest.raises(UsageError, match="expected a repository on the hub as OWNER/NAME, got"):
        push({}, name)


def test_a_folder_of_what_would_be_pushed(tmp_path: Path) -> None:
    write_folder(contents(), tmp_path / "new")
    assert sorted(path.name for path in files(tmp_path / "new")) == ["README.md", "model.safetensors"]
    assert digest_of_weights(tmp_path / "new" / "model.safetensors") == digest_of_weights("bccd")
    with pytest.raises(UsageError, match="new must be a new or empty folder"):
        write_folder(contents(), tmp_path / "new")


def test_paths_of_this_machine_are_found_in_a_record() -> None:
    record = {"config": {"data": {"root": "/home/me/secret", "train": "train"}, "weights": "hf:me/cells", "lr": 0.1}}
    record |= {"list": ["C:\\Users\\me", "~/data", "https://host/a", "samples/bccd", "/", "a / b"]}
    assert local_paths(record) == ["/home/me/secret", "C:\\Users\\me", "~/data"]

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.engine.sources import expand_sources, is_video


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ["b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/c.webp", "sub/clip.mp4", ".cache/d.png", "odd.dat"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_folder_gives_its_media_sorted(tree: Path) -> None:
    assert expand_sources([tree]) == [str(tree / name) for name in ["a.png", "b.JPG", "sub/c.webp", "sub/clip.mp4"]]


def test_a_hidden_folder_that_is_named_is_read(tree: Path) -> None:
    assert expand_sources([tree / ".cache"]) == [str(tree / ".cache/d.png")]


def test_a_broken_link_stays_for_the_reader_to_report(tree: Path) -> None:
    (tree / "empty/link.png").symlink_to(tree / "gone.png")
    assert expand_sources([tree / "empty"]) == [str(tree / "empty/link.png")]


def test_globs(tree: Path) -> None:
    assert expand_sources([f"{tree}/*"]) == [str(tree / "a.png"), str(tree / "b.JPG")]
    assert expand_sources([f"{tree}/**/*.[wm]*"]) == [str(tree / "sub/c.webp"), str(tree / "sub/clip.mp4")]
    with pytest.raises(FileNotFoundError, match=r"\*\.bmp matches no image or video"):
        expand_sources([f"{tree}/*.bmp"])


def test_the_given_order_is_kept(tree: Path) -> None:
    given = [str(tree / "sub/c.webp"), "https://example.org/x", str(tree / "odd.dat"), str(tree / "a.png")]
    assert expand_sources(given) == given
    assert expand_sources([given[3], tree / "sub", given[3]])[::3] == [given[3], given[3]]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tree: Path) -> None:
    (tree / "x[1].png").touch()
    assert expand_sources([f"{tree}/x[1].png"]) == [f"{tree}/x[1].png"]


def test_nothing_there(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg' does not exist"):
        expand_sources([tree / "gone.jpg"])
    with pytest.raises(FileNotFoundError, match="empty holds no image or video"):
        expand_sources([tree / "empty"])
    with pytest.raises(ValueError, match="http:// and https:// URLs .*, got ftp://host/a"):
        expand_sources(["ftp://host/a.png"])


def test_names_of_videos() -> None:
    assert is_video("a/b.MOV")
    assert not is_video("a/b.png")
    assert not is_video("https://example.org/a.mp4")

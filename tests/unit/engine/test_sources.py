from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vovnet.engine.predicting import sources
from vovnet.engine.predicting.sources import expand_sources, find_sources
from vovnet.media import reading
from vovnet.media.finding import is_video
from vovnet.media.reading import SourceImage
from vovnet.media.results import Failure
from vovnet.models.preprocessing import Preprocessing


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


@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_source_is_not_this_folder(source: str) -> None:
    with pytest.raises(ValueError, match="a source is empty"):
        expand_sources([source])


def test_a_camera_that_is_not_there_is_a_camera() -> None:
    with pytest.raises(ValueError, match="/dev/video97 is a camera or a stream"):
        expand_sources(["/dev/video97"])


@pytest.mark.parametrize("names", [["x.heic"], ["x.heic", "y.nef"], ["clip.ogv", "z"]])
def test_files_that_cannot_be_read_are_counted_aloud(tree: Path, names: list[str], caplog: Any) -> None:
    (tree / "odd.dat").unlink()
    for name in names:
        (tree / "sub" / name).touch()
    assert len(expand_sources([tree])) == 4
    files = "1 file" if len(names) == 1 else "2 files"
    assert f"skipped {files} (the first is {names[0]}) that cannot be read as images or videos" in caplog.text


def test_names_of_videos() -> None:
    assert all(map(is_video, ["a.m4v", "a.MPG", "a.wmv", "a.mts", "a.3gp"]))
    assert is_video("a/b.MOV")
    assert not is_video("a/b.png")
    assert not is_video("https://example.org/a.mp4")


# Results are not sources ----------------------------------------------------------------------------------------------


def results(folder: Path, *names: str) -> Path:
    """What `vovnet predict` leaves."""
    (folder / "drawn").mkdir(parents=True)
    for name in ("detections.json", "detections.csv", *(f"drawn/{name}" for name in names)):
        (folder / name).touch()
    return folder


ORIGINALS = ["a.png", "b.JPG", "sub/c.webp", "sub/clip.mp4"]


@pytest.mark.parametrize("named", [".", "{tree}", "link", "sub/.."])
@pytest.mark.parametrize("output", ["runs/predict", "{tree}/runs/predict", "link/runs/predict", "other", "."])
def test_the_output_folder_is_not_a_source(
    tree: Path, monkeypatch: pytest.MonkeyPatch, named: str, output: str
) -> None:
    monkeypatch.chdir(tree)
    (tree / "link").symlink_to(tree)
    folder = Path(output.format(tree=tree))
    results(tree / "runs/predict" if "runs" in output else tree / output, "a.png", "clip.mp4")
    if output == "other":
        (tree / "elsewhere").symlink_to(tree / "other")
        folder = Path("elsewhere")
    source = named.format(tree=tree)
    found = expand_sources([source], output=folder)
    assert [os.path.relpath(os.path.realpath(path), tree) for path in found] == ORIGINALS


def test_results_are_left_out_of_patterns_and_said(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    results(tree / "runs/predict", "a.png")
    (tree / "runs/predict/plot.png").touch()
    assert expand_sources([f"{tree}/**/*.png"], output=tree / "runs/predict") == [str(tree / "a.png")]
    assert f"left out 2 of 3 files in {tree}" in caplog.text


def test_a_source_in_the_output_folder_is_read_but_not_what_is_drawn_there(tree: Path) -> None:
    """Also in the first run, which has no detections.json yet."""
    (tree / "drawn").mkdir()
    (tree / "drawn/a.png").touch()
    assert expand_sources([tree], output=tree) == [str(tree / name) for name in ORIGINALS]
    assert expand_sources([tree / "sub"], output=tree) == [str(tree / name) for name in ORIGINALS[2:]]
    assert expand_sources([tree / "a.png"], output=tree) == [str(tree / "a.png")]
    with pytest.raises(ValueError, match=r"drawn/a\.png is a result in the output folder"):
        expand_sources([tree / "drawn/a.png"], output=tree)
    with pytest.raises(FileNotFoundError, match="drawn holds no image or video.*without results"):
        expand_sources([tree / "drawn"], output=tree)


def test_results_of_earlier_runs_are_left_out_unless_they_are_named(tree: Path) -> None:
    earlier = results(tree / "runs/first", "a.png", "clip.mp4")
    (tree / "compared").mkdir()
    for name in ("compared/figure.jpg", "compared/comparison.html"):
        (tree / name).touch()
    assert expand_sources([tree], output=tree / "runs/second") == [str(tree / name) for name in ORIGINALS]
    drawn = [str(earlier / "drawn/a.png"), str(earlier / "drawn/clip.mp4")]
    assert expand_sources([earlier / "drawn"], output=tree / "runs/second") == drawn
    assert expand_sources(drawn, output=tree / "runs/second") == drawn


def test_a_folder_that_is_only_called_drawn_is_read(tree: Path) -> None:
    (tree / "drawn").mkdir()
    for name in ("drawn/x.png", "detections.json", "sub/figure.jpg"):
        (tree / name).touch()
    found = expand_sources([tree], output=tree / "runs/predict")
    assert {str(tree / "drawn/x.png"), str(tree / "sub/figure.jpg")} < set(found)


# Sources that cannot be read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("gone.jpg", "'gone.jpg' does not exist"),
        ("gone/*.jpg", "matches no image or video"),
        ("empty", "folder empty holds no image or video"),
        ("ftp://host/a.png", "only http:// and https:// URLs"),
        ("rtsp://camera/stream", "cameras and streams are not read yet; record a video"),
        ("RTMP://camera/live", "cameras and streams are not read yet"),
        ("0", "cameras and streams are not read yet"),
        ("/dev/null", "cameras and streams are not read yet"),
        ("a" * 5000, "File name too long"),
    ],
)
def test_a_source_that_is_not_there_leaves_the_others(
    tree: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    monkeypatch.chdir(tree)
    first, failure, last = find_sources(["a.png", source, "b.JPG"])
    assert (first, last) == ("a.png", "b.JPG")
    assert isinstance(failure, Failure)
    assert reason in failure.reason


def test_a_file_whose_name_is_a_number_is_a_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    (tree / "0").touch()
    assert find_sources(["0"]) == ["0"]


def test_a_folder_that_cannot_be_read_leaves_the_others(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    failure, *found = find_sources([tree])
    assert isinstance(failure, Failure)
    assert f"folder {tree}/sub cannot be read (Permission denied)" in failure.reason
    assert found == [str(tree / "a.png"), str(tree / "b.JPG")]
    (alone,) = find_sources([tree / "sub"])
    assert isinstance(alone, Failure)


def test_large_frames_wait_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images a batch may hold, and though the first are small."""
    made = []

    def frames(inputs: object, preprocessing: object, keep_images: bool) -> Iterator[SourceImage]:
        for index in range(40):
            made.append(index)
            side = 10 if index < 4 else 100
            pixels = torch.zeros(3, side, side, dtype=torch.uint8)
            yield SourceImage("x.mp4", index, 0.0, 1.0, pixels, (side, side), pixels)

    monkeypatch.setattr(reading, "_read_inputs", frames)
    monkeypatch.setattr(reading, "_MOST_AHEAD", 50_000)
    monkeypatch.setattr(reading, "_MOST_IN_BATCH", 90_000)
    taken, ahead = [], 0
    for batch in sources.read_batches(["x.mp4"], Preprocessing((10, 10)), 32, keep_images=False):
        time.sleep(0.02)
        taken += [image.frame for image in batch]
        ahead = max(ahead, len(made) - len(taken))
        assert sum(image.pixels.nbytes for image in batch) < 90_000 + 30_000
    assert taken == list(range(40))
    assert 1 <= ahead <= 3


def test_large_images_for_tiles_wait_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count though nobody asked to keep them."""
    for index in range(6):
        Image.new("RGB", (100, 100)).save(tmp_path / f"{index}.png")
    monkeypatch.setattr(reading, "_MOST_IN_BATCH", 50_000)
    batches = list(sources.read_batches([str(path) for path in sorted(tmp_path.iterdir())], None, 8, keep_images=False))
    assert [len(batch) for batch in batches] == [2, 2, 2]
    images = [image for batch in batches for image in batch if isinstance(image, SourceImage)]
    assert [(image.resized.shape, image.pixels, image.whole) for image in images] == [((3, 100, 100), None, True)] * 6


def test_a_name_that_is_nearly_that_of_a_file_beside_it(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/BloodImage_00385.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"does not exist, did you mean '.*photos/BloodImage_00385\.jpg'\?$"):
        expand_sources([str(tmp_path / "photos/BloodImage_0385.jpg")])
    with pytest.raises(FileNotFoundError, match=r"does not exist$"):
        expand_sources([str(tmp_path / "nowhere/BloodImage_0385.jpg")])

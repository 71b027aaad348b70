from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
import torch
from PIL import Image
from torch import Tensor

from vovnet.data.video import ShownFrame, VideoWriter, read_frames, read_shown_frames
from vovnet.engine.predicting.prediction import Prediction
from vovnet.files import is_full
from vovnet.masks import RleMasks, encode, from_coco
from vovnet.media.prediction_files import CSV_COLUMNS, PredictionWriter
from vovnet.media.video import video_info

from ..small_disk import small_disk


def prediction(
    source: Path | str,
    count: int = 1,
    frame: int | None = None,
    pixels: Tensor | None = None,
    masks: RleMasks | None = None,
    shown: ShownFrame | None = None,
) -> Prediction:
    boxes = torch.tensor([[2.0, 4.0, 12.5, 24.0], [1.0, 1.0, 9.0, 9.0]])[:count]
    labels, scores = torch.tensor([1, 0])[:count], torch.tensor([0.875, 0.5])[:count]
    return Prediction(
        boxes,
        labels,
        scores,
        (32, 40),
        masks,
        class_names=("cat", "dog"),
        category_ids=(17, 18),
        source=str(source),
        frame=frame,
        pixels=shown.pixels if shown else pixels,
        start_s=shown and shown.start_s,
        seconds=shown and shown.seconds,
    )


def image(path: Path, grey: int = 128) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (40, 32), (grey,) * 3).save(path)
    return path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "detections.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_json_csv_and_drawn_images(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sources = [image(tmp_path / name) for name in ["000000000139.png", "cells, red.jpg", "scan.tif"]]
    with PredictionWriter(out) as writer:
        writer.write(prediction(sources[0], 2))
        writer.write(prediction(sources[1], 0))
        writer.write(prediction(sources[2], 1))
    results = json.loads((out / "detections.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in results] == [(139, 18), (139, 17), ("scan", 18)]
    assert results[0]["bbox"] == [2.0, 4.0, 10.5, 20.0]
    assert results[0]["score"] == 0.875

    assert tuple(rows(out)[0]) == CSV_COLUMNS
    assert list(rows(out)[0].values()) == [
        str(sources[0]),
        "",
        "139",
        "dog",
        "0.8750",
        "2.00",
        "4.00",
        "12.50",
        "24.00",
    ]
    assert [row["class"] for row in rows(out)] == ["dog", "cat", "dog"]

    names = sorted(path.name for path in (out / "drawn").iterdir())
    assert names == ["000000000139.png", "cells, red.jpg", "scan.jpg"]
    assert len(np.unique(np.asarray(Image.open(out / "drawn" / "000000000139.png")))) > 1
    assert sorted(path.name for path in out.iterdir()) == ["detections.csv", "detections.json", "drawn"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("contours", [False, True])
def test_masks_are_written_as_codes_or_polygons(tmp_path: Path, contours: bool) -> None:
    bitmap = torch.zeros(1, 32, 40, dtype=torch.uint8)
    bitmap[0, 4:24, 2:12] = 1
    pixels = torch.full((3, 32, 40), 90, dtype=torch.uint8)
    with PredictionWriter(tmp_path, contours=contours) as writer:
        writer.write(prediction("a.png", pixels=pixels, masks=encode(bitmap)))
        writer.write(prediction("b.png", count=0, pixels=pixels, masks=encode(bitmap[:0])))
    (entry,) = json.loads((tmp_path / "detections.json").read_text())
    assert isinstance(entry["segmentation"], list if contours else dict)
    if contours:
        assert from_coco(entry["segmentation"], (32, 40)) == encode(bitmap).counts[0]
    else:
        assert np.array_equal(pycocotools.mask.decode(entry["segmentation"]), bitmap[0])
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "a.png"))
    assert (drawn[14, 7] != 90).any()  # the fill, where without a mask nothing is drawn


def test_without_annotated_images(tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")
    with PredictionWriter(tmp_path / "out", draw=False) as writer:
        writer.write(prediction(source))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["detections.csv", "detections.json"]


def test_no_detections_are_still_valid_files(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path) as writer:
        writer.write(prediction(image(tmp_path / "a.png"), 0))
    assert json.loads((tmp_path / "detections.json").read_text()) == []
    assert rows(tmp_path) == []


def test_equal_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    names = ["a/1.png", "b/1.png", "b/1.jpg", "b/01.png", "b/1_2.png", "b/A.png", "a/a.png"]
    with PredictionWriter(tmp_path / "out") as writer:
        for grey, name in enumerate(names):
            writer.write(prediction(image(tmp_path / name, 30 * grey), 1))
    drawn = sorted(path.name for path in (tmp_path / "out" / "drawn").iterdir())
    assert drawn == ["01_2.png", "1.png", "1_2.png", "1_2_2.png", "1_3.jpg", "A.png", "a_2.png"]
    ids = [entry["image_id"] for entry in json.loads((tmp_path / "out" / "detections.json").read_text())]
    assert ids == [1, "1_2", "1_3", "01_2", "1_2_2", "A", "a_2"]
    # The CSV tells which file an id means.
    assert {row["image_id"]: row["file"] for row in rows(tmp_path / "out")}["1_2"] == str(tmp_path / "b/1.png")
    corner = np.asarray(Image.open(tmp_path / "out" / "drawn" / "1_2.png"))[-1, -1]
    assert corner.tolist() == [30, 30, 30]


def test_a_source_is_never_replaced(tmp_path: Path) -> None:
    source = image(tmp_path / "drawn" / "a.png")
    before = source.read_bytes()
    with pytest.raises(ValueError, match="would replace its source"), PredictionWriter(tmp_path) as writer:
        writer.write(prediction(source))
    assert source.read_bytes() == before


def test_images_from_urls_and_from_memory(tmp_path: Path) -> None:
    pixels = torch.full((3, 32, 40), 90, dtype=torch.uint8)
    with PredictionWriter(tmp_path) as writer:
        writer.write(prediction("https://example.org/x/cells.png?size=9", pixels=pixels))
        writer.write(prediction("https://example.org", pixels=pixels))
        writer.write(prediction("0", pixels=pixels))
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0.jpg", "cells.jpg", "example.org.jpg"]


def test_videos_are_drawn_as_videos(tmp_path: Path) -> None:
    for name, count in [("clip.mkv", 3), ("more/clip.mkv", 2)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with VideoWriter(tmp_path / name, 12) as video:
            for _ in range(count):
                video.write(torch.full((3, 32, 40), 90, dtype=torch.uint8))
    with PredictionWriter(tmp_path / "out") as writer:
        for name in ["clip.mkv", "more/clip.mkv"]:
            for frame, pixels in enumerate(read_frames(tmp_path / name)):
                writer.write(prediction(tmp_path / name, frame=frame, pixels=pixels))
        writer.write(prediction(image(tmp_path / "a.png")))
    assert sorted(path.name for path in (tmp_path / "out" / "drawn").iterdir()) == ["a.png", "clip.mp4", "clip_2.mp4"]
    assert video_info(tmp_path / "out/drawn/clip.mp4").fps == 12
    assert [len(list(read_frames(tmp_path / "out/drawn" / name))) for name in ["clip.mp4", "clip_2.mp4"]] == [3, 2]
    assert next(read_frames(tmp_path / "out/drawn/clip.mp4")).float().std() > 3
    assert [(row["frame"], row["image_id"]) for row in rows(tmp_path / "out")] == [
        ("0", "clip_000000"),
        ("1", "clip_000001"),
        ("2", "clip_000002"),
        ("0", "clip_2_000000"),
        ("1", "clip_2_000001"),
        ("", "a"),
    ]


def test_a_write_error_keeps_the_older_results_and_all_else_the_new_ones(tmp_path: Path) -> None:
    source = image(tmp_path / "a.png")

    def run(count: int, error: BaseException | None = None) -> None:
        with PredictionWriter(tmp_path, draw=False) as writer:
            writer.write(prediction(source, count))
            if error:
                raise error

    run(1)
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())
    with pytest.raises(OSError, match="stop"):
        run(2, OSError("stop"))
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == before
    with pytest.raises(RuntimeError, match="out of memory"):
        run(2, RuntimeError("out of memory"))
    assert len(rows(tmp_path)) == len(json.loads((tmp_path / "detections.json").read_text())) == 2
    with pytest.raises(KeyboardInterrupt):
        run(1, KeyboardInterrupt())
    assert len(rows(tmp_path)) == len(json.loads((tmp_path / "detections.json").read_text())) == 1


def test_frames_of_a_drawn_video_are_at_their_own_times(tmp_path: Path) -> None:
    times_s = [0.25, 0.35, 0.4, 1.4, 1.45, 4.0]
    with VideoWriter(tmp_path / "clip.mkv", 12) as video:
        for time_s in times_s:
            video.write(torch.full((3, 32, 40), 90, dtype=torch.uint8), time_s)
    with PredictionWriter(tmp_path / "out") as writer:
        for index, shown in enumerate(read_shown_frames(tmp_path / "clip.mkv")):
            writer.write(prediction(tmp_path / "clip.mkv", frame=index, shown=shown))
    drawn = read_shown_frames(tmp_path / "out/drawn/clip.mp4")
    assert [shown.start_s for shown in drawn] == pytest.approx(times_s, abs=2e-3)


@pytest.mark.parametrize("video_first", [True, False])
@pytest.mark.parametrize("names", [("clip.mp4", "clip_000001.jpg"), ("Clip.mp4", "clip_000000.png")])
def test_no_image_has_the_id_of_a_frame(tmp_path: Path, names: tuple[str, str], video_first: bool) -> None:
    """As where the frames of a video lie beside it."""
    still = prediction(image(tmp_path / names[1]))
    frames = [prediction(tmp_path / names[0], frame=index) for index in range(2)]
    with PredictionWriter(tmp_path / "out", draw=False) as writer:
        for item in [*frames, still] if video_first else [still, *frames]:
            writer.write(item)
    ids = [row["image_id"].lower() for row in rows(tmp_path / "out")]
    assert len(set(ids)) == len(ids) == 3


NOISE = np.random.default_rng(0).integers(0, 255, (3, 32, 40), dtype=np.uint8)
HOSTILE = [
    "a" * 251 + ".jpg",
    "a" * 250 + "b.png",
    "b" * 252 + ".j",
    "é" * 125 + ".jpg",
    "n\nl.jpg",
    "cr\rx.jpg",
    " lead.jpg",
    "trail. .jpg",
    "-.jpg",
    "=cmd|' /C calc'!A0.jpg",
    "😀.jpg",
    "²³.jpg",
    "9" * 200 + ".jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    "https://host/" + "x" * 300,
    "https://host/" + "9" * 5000,
    "https://host/%2F..",
    "https://host/..",
    "https://host/a%00b\0c.png",
    "https://name:password@host",
    "https://host/\ud800.jpg",
]


def test_whatever_a_source_is_called_its_results_are_written(tmp_path: Path) -> None:
    pixels = torch.from_numpy(NOISE)
    sources = [name if "://" in name else str(tmp_path / name) for name in HOSTILE]
    with PredictionWriter(tmp_path / "out") as writer:
        for source in sources:
            writer.write(prediction(source, pixels=pixels))
    entries = json.loads((tmp_path / "out" / "detections.json").read_bytes().decode())
    table = rows(tmp_path / "out")
    assert len({entry["image_id"] for entry in entries}) == len(table) == len(HOSTILE)
    for entry in entries:
        str(entry["image_id"]).encode()  # no half of a surrogate pair
    assert entries[13]["image_id"] == "caf\\udce9"
    drawn = os.listdir(tmp_path / "out" / "drawn")
    assert len(drawn) == len(HOSTILE)
    assert {"cr\rx.jpg", "trail. .jpg", "-.jpg", "host.jpg", os.fsdecode(b"caf\xe9.jpg")} <= set(drawn)
    for name in drawn:
        with Image.open(tmp_path / "out" / "drawn" / name) as saved:
            assert saved.size == (40, 32)


def test_text_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    pixels = torch.from_numpy(NOISE)
    with PredictionWriter(tmp_path) as writer:
        for source in ("=1.png", "@x.png", "-2.png", "3.png"):
            writer.write(prediction(source, pixels=pixels))
    assert [row["image_id"] for row in rows(tmp_path)] == ["'=1", "'@x", "'-2", "3"]
    assert [row["file"] for row in rows(tmp_path)] == ["'=1.png", "'@x.png", "'-2.png", "3.png"]
    assert {(row["score"], row["x1"]) for row in rows(tmp_path)} == {("0.8750", "2.00")}


def test_an_image_that_cannot_be_drawn_keeps_its_detections_and_the_others(tmp_path: Path) -> None:
    (tmp_path / "out" / "drawn" / "a.png").mkdir(parents=True)
    (tmp_path / "photo.png").write_bytes(b"mine")
    (tmp_path / "out" / "drawn" / "b.png").symlink_to(tmp_path / "photo.png")
    with PredictionWriter(tmp_path / "out") as writer:
        with pytest.raises(OSError, match=r"could not write .*a.png \(Is a directory\)"):
            writer.write(prediction(image(tmp_path / "a.png")))
        with pytest.raises(ValueError, match=r"b.png is a link"):
            writer.write(prediction(image(tmp_path / "b.png")))
        with pytest.raises(ValueError, match=r"c.jpg cannot hold an image of 70000 × 2 pixels"):
            writer.write(prediction("c.jpg", pixels=torch.zeros(3, 2, 70_000, dtype=torch.uint8)))
        writer.write(prediction(image(tmp_path / "d.png")))
    assert [row["image_id"] for row in rows(tmp_path / "out")] == ["a", "b", "c", "d"]
    assert sorted(os.listdir(tmp_path / "out" / "drawn")) == ["a.png", "b.png", "d.png"]
    assert (tmp_path / "photo.png").read_bytes() == b"mine"


@pytest.mark.parametrize("sizes", [[(32, 40), (16, 40), (16, 40)], [(2, 20_000)] * 3])
def test_a_video_that_cannot_be_drawn_is_told_once(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    with VideoWriter(tmp_path / "clip.mkv", 12) as video:
        video.write(torch.from_numpy(NOISE))
    problems = []
    with PredictionWriter(tmp_path / "out") as writer:
        for frame, size in enumerate(sizes):
            try:
                writer.write(
                    prediction(tmp_path / "clip.mkv", frame=frame, pixels=torch.zeros(3, *size, dtype=torch.uint8))
                )
            except ValueError as error:
                problems.append(str(error))
        writer.write(prediction(image(tmp_path / "d.png")))
    (problem,) = problems
    assert "clip.mp4" in problem
    assert len(rows(tmp_path / "out")) == 4
    assert os.listdir(tmp_path / "out" / "drawn") == ["d.png"]


def test_images_of_the_user_below_a_source_folder_stay(tmp_path: Path) -> None:
    """As with `vovnet predict FOLDER --output FOLDER`, where nothing shows that FOLDER/drawn holds results."""
    mine = image(tmp_path / "drawn" / "a.png", 10).read_bytes()
    source = image(tmp_path / "a.png")
    with PredictionWriter(tmp_path) as writer, pytest.raises(ValueError, match=r"no detections.json .*another output"):
        writer.write(prediction(source))
    assert (tmp_path / "drawn" / "a.png").read_bytes() == mine
    with PredictionWriter(tmp_path) as writer:  # now detections.json shows it
        writer.write(prediction(source))
    assert (tmp_path / "drawn" / "a.png").read_bytes() != mine


def test_a_small_disk_keeps_all_older_results(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mkv", 12) as video:
        for _ in range(3):
            video.write(torch.from_numpy(NOISE))
    out = tmp_path / "out"

    def run() -> None:
        with PredictionWriter(out) as writer:
            writer.write(prediction(image(tmp_path / "a.png")))
            writer.write(prediction("b.jpg", pixels=torch.from_numpy(NOISE)))
            for frame, shown in enumerate(read_shown_frames(tmp_path / "clip.mkv")):
                writer.write(prediction(tmp_path / "clip.mkv", frame=frame, shown=shown))

    run()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    sizes = [len(data) for data in before.values()]
    for room in (10, min(sizes) - 1, max(sizes) - 1):
        with pytest.raises(OSError, match=r"could not write .*free some disk space") as caught, small_disk(room):
            run()
        assert is_full(caught.value)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

"""Images that EXIF turns: wherever the annotation means the stored pixels, boxes and masks are turned with them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pycocotools import mask as oracle
from torch import Tensor

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.dataset import Sample
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.masks import RleMasks, decode

WIDTH, HEIGHT = 48, 32  # as stored
X1, Y1, X2, Y2 = 30, 4, 44, 12
POLYGON = [X1, Y1, X2, Y1, X2, Y2, X1, Y2]
SAVE = {"png": {}, "tif": {}, "webp": {"lossless": True}, "jpg": {"quality": 98, "subsampling": 0}}
SIDEWAYS = (5, 6, 7, 8)


def stored_mask() -> npt.NDArray[np.uint8]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[Y1:Y2, X1:X2] = 1
    return mask


def write_turned(path: Path, orientation: int, *, xmp: bool = False, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A black image with a white object, which EXIF, or XMP, says is stored in this orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[Y1:Y2, X1:X2] = 255
    options: dict[str, Any] = dict(SAVE[path.suffix[1:]])
    if xmp:
        description = f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{description}</x:xmpmeta>'
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet)
        options["xmp"] = packet.encode()
    else:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    Image.fromarray(pixels).save(path, **options)


def make_coco(root: Path, file_name: str, mask: object = None, **size: object) -> Path:
    (root / "annotations").mkdir(parents=True)
    entry = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [X1, Y1, X2 - X1, Y2 - Y1],
        "area": 99,
        "keypoints": [X1],
    }
    content = {
        "images": [{"id": 1, "file_name": file_name, **(size or {"width": WIDTH, "height": HEIGHT})}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [entry if mask is None else entry | {"segmentation": mask}],
    }
    (root / "annotations/train.json").write_text(json.dumps(content))
    return root


def make_voc(root: Path, stem: str) -> Path:
    (root / "Annotations").mkdir(parents=True)
    (root / f"Annotations/{stem}.xml").write_text(
        f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size><object><name>car</name><bndbox>"
        f"<xmin>{X1 + 1}</xmin><ymin>{Y1 + 1}</ymin><xmax>{X2}</xmax><ymax>{Y2}</ymax></bndbox></object></annotation>"
    )
    return root


def make_masks(root: Path, stem: str) -> Path:
    (root / "masks").mkdir(parents=True)
    Image.fromarray(stored_mask()).save(root / f"masks/{stem}.png")
    return root


def white(image: Tensor) -> Tensor:
    return (image[0] > 127).to(torch.uint8)


def assert_box_is_white(sample: Sample) -> None:
    """The box, read with the image as networks see it, holds exactly the object."""
    image = read_image(sample.image_path)
    expected = torch.zeros(image.shape[1:], dtype=torch.uint8)
    ((x1, y1, x2, y2),) = sample.target.boxes.int().tolist()
    expected[y1:y2, x1:x2] = 1
    assert torch.equal(white(image), expected)
    assert sample.image_size == tuple(image.shape[1:])
    if isinstance(sample.target.masks, RleMasks):
        assert torch.equal(decode(sample.target.masks)[0], expected)
        if sample.target.masks.polygons is not None:
            outline = sample.target.masks.polygons.points.ravel().tolist()
            assert np.array_equal(oracle.decode(oracle.frPyObjects([outline], *expected.shape))[..., 0], expected)


@pytest.mark.parametrize("suffix", sorted(SAVE))
@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_coco_boxes_follow_the_pixels(tmp_path: Path, orientation: int, suffix: str) -> None:
    root = make_coco(tmp_path, f"a.{suffix}")
    write_turned(root / f"images/a.{suffix}", orientation)
    sample = open_dataset(root)[0]
    assert_box_is_white(sample)
    assert sample.target.area.tolist() == [99]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_orientation_in_xmp(tmp_path: Path, suffix: str) -> None:
    root = make_coco(tmp_path, f"a.{suffix}")
    write_turned(root / f"images/a.{suffix}", 8, xmp=True)
    sample = open_dataset(root)[0]
    assert sample.image_size == (WIDTH, HEIGHT)
    assert_box_is_white(sample)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'
@pytest.mark.parametrize("orientation", SIDEWAYS)
@pytest.mark.parametrize("kind", ["polygons", "runs", "compressed runs"])
def test_coco_masks_follow_the_pixels(tmp_path: Path, kind: str, orientation: int) -> None:
    mask = stored_mask()
    edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0)).tolist()
    runs = np.diff([0, *edges, mask.size]).tolist()
    counts = oracle.encode(np.asfortranarray(mask))["counts"].decode()
    size = [HEIGHT, WIDTH]
    masks = {"polygons": [POLYGON], "runs": {"size": size, "counts": runs}}
    root = make_coco(tmp_path, "a.png", masks.get(kind, {"size": size, "counts": counts}))
    write_turned(root / "images/a.png", orientation)
    sample = open_dataset(root, masks=True)[0]
    assert_box_is_white(sample)
    assert (sample.target.masks.polygons is not None) == (kind == "polygons")
    assert check_dataset(root, workers=1).problems == ()


@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_a_run_length_mask_states_the_size_where_the_image_does_not(tmp_path: Path, orientation: int) -> None:
    counts = oracle.encode(np.asfortranarray(stored_mask()))["counts"].decode()
    root = make_coco(tmp_path / "d", "a.png", {"size": [HEIGHT, WIDTH], "counts": counts}, note="no size")
    write_turned(root / "images/a.png", orientation)
    report = check_dataset(root, workers=1)
    assert report.problems == ()
    write_cleaned_copy(report, tmp_path / "out")
    for folder in (root, tmp_path / "out"):
        for masks in (False, True):
            assert_box_is_white(open_dataset(folder, masks=masks)[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_png_is_turned_by_its_own_orientation(tmp_path: Path, orientation: int) -> None:
    root = make_masks(tmp_path, "a")
    write_turned(root / "images/a.png", orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored_mask()).save(root / "masks/a.png", exif=exif)
    assert_box_is_white(open_dataset(root, masks=True)[0])


@pytest.mark.parametrize("orientation", SIDEWAYS)
def test_voc_and_mask_pngs_follow_the_pixels(tmp_path: Path, orientation: int) -> None:
    voc, masks = make_voc(tmp_path / "voc", "a"), make_masks(tmp_path / "masks", "a")
    write_turned(voc / "JPEGImages/a.png", orientation)
    write_turned(masks / "images/a.png", orientation)
    for root, with_masks in ((voc, False), (masks, True)):
        assert_box_is_white(open_dataset(root, masks=with_masks)[0])
        assert check_dataset(root, workers=1).problems == ()


@pytest.mark.parametrize("make", [lambda root: make_coco(root, "a.png", [POLYGON]), lambda root: make_voc(root, "a")])
def test_copy_reads_back_equal(tmp_path: Path, make: Any) -> None:
    root, out = make(tmp_path / "data"), tmp_path / "out"
    write_turned(root / ("JPEGImages/a.png" if (root / "Annotations").is_dir() else "images/a.png"), 6)
    report = check_dataset(root, workers=1)
    assert report.problems == ()
    assert set(report.statistics.boxes.aspect_ratio.values()) == {(Y2 - Y1) / (X2 - X1)}
    write_cleaned_copy(report, out)
    assert_box_is_white(open_dataset(out)[0])
    assert check_dataset(out, workers=1).problems == ()


def test_copy_clips_in_the_stored_pixels(tmp_path: Path) -> None:
    root, out = make_coco(tmp_path / "data", "a.png"), tmp_path / "out"
    write_turned(root / "images/a.png", 6)
    path = root / "annotations/train.json"
    path.write_text(path.read_text().replace('"bbox": [30, 4, 14, 8]', '"bbox": [30, 4, 40, 8]'))
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"box-partly-outside": 1}
    write_cleaned_copy(report, out)
    assert open_dataset(out)[0].target.boxes.tolist() == [[HEIGHT - Y2, X1, HEIGHT - Y1, WIDTH]]
    assert json.loads((out / "annotations/train.json").read_text())["annotations"][0]["keypoints"] == [X1]


@pytest.mark.parametrize(
    ("orientation", "size"),
    [
        (6, {"width": HEIGHT, "height": WIDTH}),  # states the upright size
        (6, {"width": None, "height": None}),
        (3, {"width": WIDTH, "height": HEIGHT}),  # the same size both ways
        (1, {"width": HEIGHT, "height": WIDTH}),  # a wrong size, but nothing is turned
    ],
)
def test_otherwise_the_upright_image_is_meant(tmp_path: Path, orientation: int, size: dict[str, object]) -> None:
    root = make_coco(tmp_path, "a.png", **size)
    write_turned(root / "images/a.png", orientation)
    assert open_dataset(root)[0].target.boxes.tolist() == [[X1, Y1, X2, Y2]]


@pytest.mark.parametrize(
    ("orientation", "size", "stated", "message"),
    [
        (6, (48, 32), {"width": 48, "height": 32}, "annotated in the pixels as stored"),
        (6, (48, 32), {"width": 32, "height": 48}, ""),
        (6, (48, 32), {"width": None, "height": None}, "nothing to show"),
        (6, (48, 48), {"width": 48, "height": 48}, "nothing to show"),
        (2, (48, 32), {"width": 48, "height": 32}, "nothing to show"),
        (1, (48, 32), {"width": 48, "height": 32}, ""),
    ],
)
def test_check_says_what_it_takes_them_for(
    tmp_path: Path, orientation: int, size: tuple[int, int], stated: dict[str, object], message: str, caplog: Any
) -> None:
    root = make_coco(tmp_path, "a.png", **stated)
    write_turned(root / "images/a.png", orientation, size=size)
    with caplog.at_level(logging.WARNING, "vovnet"):
        check_dataset(root, workers=1)
    assert message in caplog.text
    assert bool(message) == bool(caplog.text)


def test_check_says_that_yolo_leaves_it_open(tmp_path: Path, caplog: Any) -> None:
    write_turned(tmp_path / "images/a.png", 6)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [car]\n")
    assert open_dataset(tmp_path)[0].target.boxes.tolist() == [[12, 12, 20, 36]]  # fractions of the upright image
    check_dataset(tmp_path, workers=1)
    assert "nothing to show" in caplog.text

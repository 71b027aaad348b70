"""Datasets as the tools of others write them, by hand: two classes, ids out of order, one image without objects.

Every one holds the same objects, in pixels of images of 60 × 40: in `one` a cat at 10 5 30 25 and a dog at 40 20 55 35,
in `two` a dog at 3 4 23 34, and in `none` nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from .small_datasets import HEIGHT, WIDTH, write_image

Boxes = dict[str, list[tuple[str, tuple[float, float, float, float]]]]  # path of the image → class and box

OBJECTS: Boxes = {
    "one": [("cat", (10, 5, 30, 25)), ("dog", (40, 20, 55, 35))],
    "two": [("dog", (3, 4, 23, 34))],
    "none": [],
}
_SEEDS = {"one": 1, "two": 2, "none": 3}


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def write_images(root: Path, *names: str) -> None:
    for name in names:
        write_image(root / name, _SEEDS[Path(name).name.partition(".")[0].partition("_")[0]])


def yolo_text(stem: str, ids: Mapping[str, int]) -> str:
    """Six decimals, as the tools write them."""
    lines = []
    for name, (x1, y1, x2, y2) in OBJECTS[stem]:
        box = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT
        lines.append(f"{ids[name]} {' '.join(f'{value:.6f}' for value in box)}\n")
    return "".join(lines)


def voc_text(stem: str, file_name: str, first_pixel: int, more: str = "") -> str:
    """first_pixel: the number that the tool gives to the first column and row."""
    objects = "".join(
        f"<object><name>{name}</name><truncated>0</truncated><difficult>0</difficult>{more}<bndbox>"
        f"<xmin>{x1 + first_pixel}</xmin><ymin>{y1 + first_pixel}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for name, (x1, y1, x2, y2) in OBJECTS[stem]
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation><folder></folder><filename>{file_name}</filename>{size}{objects}</annotation>"


def coco_text(images: Mapping[str, str], extra: Mapping[str, object]) -> str:
    """images: stem → file_name. Ids neither start at 1 nor are in order."""
    ids = {stem: 30 - 7 * index for index, stem in enumerate(images)}
    categories = {"dog": 9, "cat": 4}
    listed = [(ids[stem], name, box) for stem in images for name, box in OBJECTS[stem]]
    annotations = [
        {
            "id": 100 - number,
            "image_id": image_id,
            "category_id": categories[name],
            "segmentation": [],
            "area": float((x2 - x1) * (y2 - y1)),
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "iscrowd": 0,
            "attributes": {"occluded": False, "rotation": 0.0},
        }
        for number, (image_id, name, (x1, y1, x2, y2)) in enumerate(reversed(listed))
    ]
    entries = [
        {"id": ids[stem], "width": WIDTH, "height": HEIGHT, "file_name": name, "license": 0}
        for stem, name in images.items()
    ]
    named = [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()]
    return json.dumps({**extra, "categories": named, "images": entries, "annotations": annotations})


def cvat_coco(root: Path) -> Boxes:
    write_images(root, "images/default/one.png", "images/default/night/two.png", "images/default/none.png")
    head = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
    }
    names = {"none": "none.png", "two": "night/two.png", "one": "one.png"}
    write(root, {"annotations/instances_default.json": coco_text(names, head)})
    return {f"images/default/{name}": OBJECTS[stem] for stem, name in names.items()}


def cvat_voc(root: Path) -> Boxes:
    """CVAT counts from the corner of the first pixel, not from 1."""
    write_images(root, "JPEGImages/one.png", "JPEGImages/night shift/two.png", "JPEGImages/none.png")
    write(
        root,
        {
            "Annotations/one.xml": voc_text("one", "one.png", 0, "<occluded>0</occluded>"),
            "Annotations/night shift/two.xml": voc_text("two", "night shift/two.png", 0),
            "Annotations/none.xml": voc_text("none", "none.png", 0),
            "ImageSets/Main/default.txt": "one\nnight shift/two\nnone\n",
            "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\ndog:51,221,255::\n",
        },
    )
    return {
        "JPEGImages/one.png": OBJECTS["one"],
        "JPEGImages/night shift/two.png": OBJECTS["two"],
        "JPEGImages/none.png": [],
    }


def cvat_yolo(root: Path) -> Boxes:
    ids = {"dog": 0, "cat": 1}
    folder = "obj_train_data"
    write_images(root, f"{folder}/one.png", f"{folder}/night/two.png", f"{folder}/none.png")
    write(
        root,
        {
            "obj.names": "dog\ncat\n",
            "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
            "train.txt": f"data/{folder}/none.png\ndata/{folder}/night/two.png\ndata/{folder}/one.png\n",
            f"{folder}/one.txt": yolo_text("one", ids),
            f"{folder}/night/two.txt": yolo_text("two", ids),
            f"{folder}/none.txt": "",
        },
    )
    return {
        f"{folder}/one.png": OBJECTS["one"],
        f"{folder}/night/two.png": OBJECTS["two"],
        f"{folder}/none.png": [],
    }


def cvat_ultralytics(root: Path) -> Boxes:
    """An image without objects has no label file."""
    ids = {"dog": 0, "cat": 1}
    write_images(root, "images/train/one.png", "images/train/night/two.png", "images/train/none.png")
    write(
        root,
        {
            "data.yaml": "names:\n  0: dog\n  1: cat\npath: .\ntrain: train.txt\n",
            "train.txt": "data/images/train/none.png\ndata/images/train/night/two.png\ndata/images/train/one.png\n",
            "labels/train/one.txt": yolo_text("one", ids),
            "labels/train/night/two.txt": yolo_text("two", ids),
        },
    )
    return {
        "images/train/one.png": OBJECTS["one"],
        "images/train/night/two.png": OBJECTS["two"],
        "images/train/none.png": [],
    }


LABELS = (
    "<labels><label><name>dog</name><color>#33ddff</color><type>any</type><attributes><attribute><name>breed</name>"
    "<mutable>False</mutable></attribute></attributes></label><label><name>cat</name><type>any</type>"
    "<attributes></attributes></label><label><name>person</name><type>skeleton</type></label>"
    "<label><name>nose</name><type>points</type><parent>person</parent></label></labels>"
)


def cvat_box(name: str, box: tuple[float, float, float, float], more: str = "") -> str:
    x1, y1, x2, y2 = box
    return (
        f'<box label="{name}" source="manual" occluded="0" xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}" '
        f'z_order="0"{more}><attribute name="breed">tabby</attribute></box>'
    )


def cvat_image(number: int, name: str, shapes: str, more: str = "") -> str:
    return f'<image id="{number}" name="{name}"{more} width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'


def cvat_xml(meta: str, content: str) -> str:
    head = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>{meta}</meta>\n'
    return f"{head}{content}\n</annotations>\n"


def _cvat_boxes(stem: str) -> str:
    return "".join(cvat_box(name, box) for name, box in OBJECTS[stem])


def cvat_images(root: Path) -> Boxes:
    write_images(root, "images/one.png", "images/night/two.png", "images/none.png")
    content = "\n".join(
        (
            cvat_image(7, "none.png", '<tag label="dog" source="manual"></tag>'),
            cvat_image(3, "night/two.png", _cvat_boxes("two")),
            cvat_image(0, "one.png", _cvat_boxes("one")),
        )
    )
    write(root, {"annotations.xml": cvat_xml(f"<task><id>5</id><name>pets</name>{LABELS}</task>", content)})
    return {"images/one.png": OBJECTS["one"], "images/night/two.png": OBJECTS["two"], "images/none.png": []}


def cvat_video(root: Path) -> Boxes:
    """Frames 0, 1 and 2 of a video: the cat leaves after the first one, the dog is elsewhere in the second."""
    write_images(root, "images/one.png", "images/two.png", "images/none.png")
    for number, stem in enumerate(("one", "two", "none")):
        (root / f"images/{stem}.png").rename(root / f"images/frame_{number:06d}.png")
    (cat, at_cat), (dog, at_dog) = OBJECTS["one"]
    ((_, later),) = OBJECTS["two"]

    def shape(frame: int, box: tuple[float, float, float, float], *, outside: int = 0, keyframe: int = 1) -> str:
        state = f'frame="{frame}" outside="{outside}" occluded="0" keyframe="{keyframe}"'
        sides = " ".join(f'{side}="{value:.2f}"' for side, value in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True))
        return f'<box {state} {sides} z_order="0"></box>'

    tracks = (
        f'<track id="1" label="{dog}" source="manual">{shape(0, at_dog)}{shape(1, later, keyframe=0)}'
        f'{shape(2, later, outside=1)}</track><track id="0" label="{cat}" source="manual">{shape(0, at_cat)}'
        f"{shape(1, at_cat, outside=1)}</track>"
    )
    meta = "<task><size>3</size><mode>interpolation</mode><start_frame>0</start_frame><stop_frame>2</stop_frame>"
    write(root, {"annotations.xml": cvat_xml(f"{meta}<frame_filter></frame_filter>{LABELS}</task>", tracks)})
    return {
        "images/frame_000000.png": [OBJECTS["one"][1], OBJECTS["one"][0]],
        "images/frame_000001.png": OBJECTS["two"],
        "images/frame_000002.png": [],
    }


def roboflow_coco(root: Path) -> Boxes:
    names = {stem: f"{stem}_png.rf.0123abcd.png" for stem in ("none", "two", "one")}
    write_images(root, *(f"train/{name}" for name in names.values()))
    content = json.loads(coco_text(names, {"info": {"year": "2026", "contributor": ""}}))
    content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    for category in content["categories"][1:]:
        category["supercategory"] = "pets"
    write(root, {"train/_annotations.coco.json": json.dumps(content), "README.roboflow.txt": "pets\n"})
    return {f"train/{name}": OBJECTS[stem] for stem, name in names.items()}


def roboflow_voc(root: Path) -> Boxes:
    names = {stem: f"{stem}_png.rf.0123abcd" for stem in OBJECTS}
    write_images(root, *(f"train/{name}.png" for name in names.values()))
    write(root, {f"train/{name}.xml": voc_text(stem, f"{name}.png", 1) for stem, name in names.items()})
    return {f"train/{name}.png": OBJECTS[stem] for stem, name in names.items()}


def roboflow_yolo(root: Path) -> Boxes:
    write_images(root, *(f"train/images/{stem}.png" for stem in OBJECTS))
    write(root, {f"train/labels/{stem}.txt": yolo_text(stem, {"cat": 0, "dog": 1}).strip() for stem in OBJECTS})
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n"
    write_images(root, "valid/images/two.png")
    write(root, {"data.yaml": text, "valid/labels/two.txt": yolo_text("two", {"cat": 0, "dog": 1})})
    return {f"train/images/{stem}.png": objects for stem, objects in OBJECTS.items()}


def roboflow_darknet(root: Path) -> Boxes:
    for split in ("train", "valid"):
        stems = OBJECTS if split == "train" else ("two",)
        write_images(root, *(f"{split}/{stem}.png" for stem in stems))
        write(root, {f"{split}/{stem}.txt": yolo_text(stem, {"dog": 0, "cat": 1}) for stem in stems})
        write(root, {f"{split}/_darknet.labels": "dog\ncat"})
    return {f"train/{stem}.png": objects for stem, objects in OBJECTS.items()}


def roboflow_tensorflow(root: Path) -> Boxes:
    """No line of Roboflow's tells of an image without objects."""
    write_images(root, "train/one.png", "train/two.png")
    lines = [
        f"{stem}.png,{WIDTH},{HEIGHT},{name},{','.join(map(str, box))}"
        for stem in ("two", "one")
        for name, box in OBJECTS[stem]
    ]
    header = "filename,width,height,class,xmin,ymin,xmax,ymax"
    write(root, {"train/_annotations.csv": "\n".join((header, lines[1], lines[0], *lines[2:])) + "\n"})
    return {f"train/{stem}.png": OBJECTS[stem] for stem in ("one", "two")}


def roboflow_retinanet(root: Path) -> Boxes:
    write_images(root, *(f"train/{stem}.png" for stem in OBJECTS))
    lines = [f"{stem}.png,{','.join(map(str, box))},{name}" for stem in OBJECTS for name, box in OBJECTS[stem]]
    write(
        root, {"train/_annotations.csv": "\n".join((*lines, "none.png,,,,,")), "train/_classes.csv": "dog,1\ncat,0\n"}
    )
    return {f"train/{stem}.png": objects for stem, objects in OBJECTS.items()}


# Tool and option → its writer, the format that is recognised, a part of the reason, and the split.
EXPORTS: dict[str, tuple[Callable[[Path], Boxes], str, str, str]] = {
    "CVAT, COCO 1.0": (cvat_coco, "COCO", "instances_default.json is COCO JSON; CVAT or Datumaro wrote it", "default"),
    "CVAT, PASCAL VOC 1.1": (cvat_voc, "VOC", "Annotations/ holds XML files; labelmap.txt", "default"),
    "CVAT, YOLO 1.1": (cvat_yolo, "YOLO", "obj.data has names", "train"),
    "CVAT, Ultralytics YOLO": (cvat_ultralytics, "YOLO", "data.yaml", "train"),
    "CVAT for images 1.1": (cvat_images, "CVAT XML", "annotations.xml is CVAT's own XML", "all"),
    "CVAT for video 1.1": (cvat_video, "CVAT XML", "annotations.xml is CVAT's own XML", "all"),
    "Roboflow, COCO": (roboflow_coco, "COCO", "train/_annotations.coco.json is COCO JSON; Roboflow wrote it", "train"),
    "Roboflow, Pascal VOC": (roboflow_voc, "VOC", "train/ holds XML files", "train"),
    "Roboflow, YOLOv5 to YOLO11": (roboflow_yolo, "YOLO", "data.yaml", "train"),
    "Roboflow, YOLO Darknet": (roboflow_darknet, "YOLO", "train/_darknet.labels", "train"),
    "Roboflow, Tensorflow CSV": (
        roboflow_tensorflow,
        "CSV",
        "train/_annotations.csv is a CSV file with Tensor",
        "train",
    ),
    "Roboflow, RetinaNet CSV": (
        roboflow_retinanet,
        "CSV",
        "train/_annotations.csv is a CSV file of RetinaNet",
        "train",
    ),
}

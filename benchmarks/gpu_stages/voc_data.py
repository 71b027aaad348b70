"""The VOC pack, and a tiny stand-in for a rehearsal."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from shared import ROOT

SAMPLES = ROOT / "samples/bccd"
LISTS = ("fit", "held")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find_pack(root: Path | None) -> str | None:
    """Why there is no VOC pack in the folder; None if it is there."""
    if root is None:
        return "needs the VOC pack: give --data DIR, the folder that its parts were unzipped into"
    missing = [name for name in ("JPEGImages", "Annotations", "ImageSets/Main") if not (root / name).is_dir()]
    missing += [f"ImageSets/Main/{name}.txt" for name in LISTS if not (root / f"ImageSets/Main/{name}.txt").is_file()]
    if missing:
        return f"needs the VOC pack: {root} lacks {', '.join(missing)}"
    named = {name for split in LISTS for name in (root / f"ImageSets/Main/{split}.txt").read_text().split()}
    images = {path.stem for path in (root / "JPEGImages").iterdir()}
    if absent := len(named - images):
        return f"needs all parts of the VOC pack: {absent:,} of {len(named):,} images are not in {root}"
    return None


def tiny_pack(folder: Path) -> Path:
    """A folder like the VOC pack with six bundled images of blood cells."""
    root = folder / "tiny_pack"
    names = (SAMPLES / "ImageSets/Main/val.txt").read_text().split()[:6]
    for part, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        (root / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(SAMPLES / part / f"{name}{suffix}", root / part)
    lists = root / "ImageSets/Main"
    lists.mkdir(parents=True, exist_ok=True)
    for split, chosen in zip(LISTS, (names[:4], names[4:]), strict=True):
        (lists / f"{split}.txt").write_text("\n".join(chosen) + "\n")
    return root


def made_up_pack(folder: Path, count: int) -> Path:
    """A folder like the VOC pack with `count` photographs of 500 × 375 pixels, cut from the bundled ones, to train on.

    What they show does not matter: they take as long to read as those of VOC.
    """
    root = folder / f"made_up_{count}"
    lists = root / "ImageSets/Main"
    if (lists / "held.txt").exists():
        return root
    photos = [Image.open(path).convert("RGB") for path in sorted((ROOT / "samples/photos").glob("*.*g"))]
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        photo = photos[number % len(photos)]
        left, top = (number * 37) % max(1, photo.width - 320), (number * 23) % max(1, photo.height - 240)
        crop = photo.crop((left, top, left + 320, top + 240)).resize((500, 375))
        crop.save(root / f"JPEGImages/{number:06}.jpg", quality=85)
        (root / f"Annotations/{number:06}.xml").write_text(_annotation(number))
    (lists / "fit.txt").write_text("".join(f"{number:06}\n" for number in range(count)))
    (lists / "held.txt").write_text("000000\n")
    return root


def _annotation(number: int) -> str:
    objects = ""
    for index, box in enumerate(((20, 30, 140, 200), (200, 60, 420, 300), (300, 310, 340, 350))):
        corners = "".join(f"<{name}>{value}</{name}>" for name, value in zip(CORNERS, box, strict=True))
        objects += f"<object><name>class {(number + index) % 20:02}</name><bndbox>{corners}</bndbox></object>"
    size = "<size><width>500</width><height>375</height><depth>3</depth></size>"
    return f"<annotation><filename>{number:06}.jpg</filename>{size}{objects}</annotation>\n"

"""Whole, valid files of every kind that is read, small, and some hostile ones that no chance change would find."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
PORT = 9  # nobody listens there
NEIGHBOUR = "@neighbour@"  # stands for the folder that nothing may read
_RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Seed:
    """Files by their path in the sandbox; the first is the one that is changed. once: it takes seconds as it is."""

    files: Mapping[str, bytes]
    once: bool = False

    @property
    def target(self) -> str:
        return next(iter(self.files))


def image(suffix: str, mode: str = "RGB", size: tuple[int, int] = (48, 32), **options: object) -> bytes:
    width, height = size
    pixels = _RNG.integers(0, 256, (height, width, 4), np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(pixels).convert("RGB" if mode in ("CMYK", "P") else mode).convert(mode)
    target = io.BytesIO()
    picture.save(target, suffix, **options)
    return target.getvalue()


def mask_png() -> bytes:
    numbers = np.zeros((32, 48), np.uint8)
    numbers[4:12, 6:20], numbers[16:30, 22:44] = 1, 2
    target = io.BytesIO()
    Image.fromarray(numbers).save(target, "png")
    return target.getvalue()


def images(suffix: str) -> tuple[Seed, ...]:
    """Seeds of one format: of each mode that it can hold, with and without EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = 6
    variants: dict[str, list[tuple[str, dict[str, object]]]] = {
        "jpg": [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"exif": exif})],
        "png": [
            ("RGB", {}),
            ("RGBA", {}),
            ("L", {}),
            ("LA", {}),
            ("P", {}),
            ("I;16", {}),
            ("1", {}),
            ("RGB", {"exif": exif}),
        ],
        "gif": [("P", {}), ("L", {}), ("RGB", {"save_all": True})],
        "webp": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", {"exif": exif})],
        "tiff": [
            ("RGB", {}),
            ("RGB", {"compression": "tiff_lzw"}),
            ("CMYK", {}),
            ("I;16", {}),
            ("RGBA", {}),
            ("1", {"compression": "group4"}),
            ("RGB", {"compression": "jpeg"}),
            ("F", {}),
            ("P", {"compression": "tiff_deflate"}),
        ],
        "bmp": [("RGB", {}), ("P", {}), ("1", {}), ("L", {})],
        "avif": [("RGB", {}), ("RGBA", {})],
        "jp2": [("RGB", {}), ("RGBA", {}), ("L", {})],
        "ppm": [("RGB", {}), ("L", {}), ("1", {})],
    }
    format_name = {"jpg": "jpeg", "jp2": "jpeg2000"}.get(suffix, suffix)
    found = [Seed({f"a.{suffix}": image(format_name, mode, **options)}) for mode, options in variants[suffix]]
    if suffix == "png":
        found += [
            Seed({"a.png": data}, once=True)
            for data in (_flat_png(10_000, 6), _flat_png(12_000, 6), _flat_png(30_000, 2))
        ]
    if suffix == "jpg":
        eps = (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n(owned) (w) file closefile\nshowpage\n"
        )
        found += [
            Seed({"a.jpg": data})
            for data in (
                eps,
                b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + eps.rjust(200),
                b"%PDF-1.4\n",
                b"<svg/>",
            )
        ]
    return tuple(found)


def _flat_png(side: int, colour_type: int) -> bytes:
    """A black PNG of few bytes and many pixels. Its rows are packed alike, each by itself, so that one is enough."""
    from .structured import _chunk

    row = bytes(1 + side * {0: 1, 2: 3, 6: 4}[colour_type])
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(row) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (len(row) * side % 65_521) << 16 | 1
    data = b"\x78\xda" + packed * side + b"\x03\0" + checksum.to_bytes(4, "big")
    header = side.to_bytes(4, "big") * 2 + bytes((8, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + _chunk((b"IHDR", header)) + _chunk((b"IDAT", data)) + _chunk((b"IEND", b""))


@cache
def video(suffix: str, codec: str, *, frames: int = 6) -> bytes:
    import av

    target = io.BytesIO()
    with av.open(target, "w", format={"mkv": "matroska"}.get(suffix, suffix)) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), 30 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return target.getvalue()


def playlists() -> Iterator[Seed]:
    """Texts that a video library takes for videos, and which name other files and servers."""
    secret, web = f"{NEIGHBOUR}/secret.mp4", f"http://127.0.0.1:{PORT}/x.ts"
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{key}#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n"
    texts = [
        f"ffconcat version 1.0\nfile '{name}'\n"
        for name in (secret, web, "a.mp4", "/etc/passwd", "../../neighbour/secret.mp4", "beside/other.mp4")
    ]
    texts.append("ffconcat version 1.0\n" + "file beside/other.mp4\n" * 50_000)
    texts += [
        hls.format(key="", name=name)
        for name in (secret, web, f"file://{secret}", "file:///etc/passwd", "beside/other.mp4")
    ]
    texts.append(hls.format(key=f'#EXT-X-KEY:METHOD=AES-128,URI="{web}"\n', name=secret))
    texts.append(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{web}\n")
    texts.append(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    texts.append(
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1">'
        f"<BaseURL>{web}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    texts += ["1\n00:00:00,000 --> 00:00:01,000\nx\n", "[Script Info]\nScriptType: v4.00+\n", ";FFMETADATA1\ntitle=x\n"]
    other = video("mp4", "mpeg4")
    yield from (Seed({"a.mp4": text.encode(), "beside/other.mp4": other}) for text in texts)
    yield Seed({"a.mp4": image("png")})


def videos() -> tuple[Seed, ...]:
    codecs = (
        ("mp4", "mpeg4"),
        ("avi", "mpeg4"),
        ("mkv", "mpeg4"),
        ("avi", "mjpeg"),
        ("mp4", "libx264"),
        ("mkv", "rawvideo"),
        ("avi", "png"),
    )
    found = []
    for suffix, codec in codecs:
        try:
            found.append(Seed({f"a.{suffix}": video(suffix, codec)}))
        except Exception:  # this build of the library lacks the codec or cannot put it there
            continue
    return tuple(found)


_JPEG = image("jpeg")


def yolo(target: str) -> tuple[Seed, ...]:
    settings = b"path: .\ntrain: images/train\nval: [images/val]\nnc: 2\nnames: [cat, dog]\n"
    by_number = b"train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"
    labels = b"0 0.5 0.5 0.2 0.4\n1 0.25 0.25 0.1 0.1\n"
    polygon = b"1 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n0 0.5 0.5 0.2 0.2\n"
    files = {"data.yaml": settings, "images/train/a.jpg": _JPEG, "labels/train/a.txt": labels}
    files |= {
        "images/val/b.jpg": image("jpeg"),
        "labels/val/b.txt": polygon,
        "images/train/c.png": image("png", "L"),
        "labels/train/c.txt": b"",
    }
    listed = {name: data for name, data in files.items() if name != "data.yaml"}
    listed |= {
        "data.yaml": b"train: train.txt\nval: val.txt\nnames: [cat, dog]\n",
        "train.txt": b"./images/train/a.jpg\nimages/train/c.png\n",
        "val.txt": b"images/val/b.jpg\n",
    }
    flat = {"classes.txt": b"cat\ndog\n", "a.jpg": _JPEG, "a.txt": labels, "b.jpg": image("jpeg"), "b.txt": polygon}
    darknet = {name: data for name, data in listed.items() if name != "data.yaml"}
    darknet |= {
        "obj.data": b"classes = 2\ntrain = train.txt\nvalid = val.txt\nnames = obj.names\nbackup = backup/\n",
        "obj.names": b"cat\ndog\n",
    }
    options = {
        "yolo-yaml": [(files, "data.yaml"), (files | {"data.yaml": by_number}, "data.yaml")],
        "yolo-labels": [(files, "labels/train/a.txt"), (files, "labels/val/b.txt"), (flat, "a.txt")],
        "yolo-lists": [(listed, "train.txt"), (flat, "classes.txt"), (darknet, "obj.data"), (darknet, "obj.names")],
    }
    return tuple(_changing(*option) for option in options[target])


_CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>5</id><mode>interpolation</mode><labels><label><name>cat</name>
<color>#33ddff</color><type>any</type><attributes></attributes></label><label><name>dog</name></label></labels>
<start_frame>0</start_frame><stop_frame>1</stop_frame><frame_filter>step=1</frame_filter></task></meta>{shapes}
</annotations>
"""
_CVAT_IMAGES = """<image id="7" name="a.jpg" width="48" height="32"><box label="cat" source="manual" occluded="0"
 xtl="2.00" ytl="3.00" xbr="20.50" ybr="30.00" rotation="30.00" z_order="0"><attribute name="age">3</attribute></box>
<polygon label="dog" points="20.10,10.20;30.30,30.00;10.00,25.00" z_order="0"></polygon><mask label="dog" rle="1, 3, 2"
 left="4" top="6" width="3" height="2"></mask><ellipse label="cat" cx="30" cy="20" rx="10" ry="5"></ellipse></image>
<image id="3" name="b.jpg" subset="Train" task_id="1" width="48" height="32"><polyline label="cat" points="1,2;3,4">
</polyline><box label="dog" xtl="5" ytl="6" xbr="40" ybr="31"></box><tag label="cat"></tag></image>"""
_CVAT_TRACKS = """<track id="0" label="cat" source="manual"><box frame="0" outside="0" occluded="0" keyframe="1"
 xtl="2.00" ytl="3.00" xbr="20.50" ybr="30.00" z_order="0"></box><box frame="1" outside="1" occluded="0" keyframe="1"
 xtl="2.00" ytl="3.00" xbr="20.50" ybr="30.00" z_order="0"></box></track>"""


def _changing(files: Mapping[str, bytes], target: str) -> Seed:
    return Seed({target: files[target], **files})


def coco() -> tuple[Seed, ...]:
    runs = {"size": [32, 48], "counts": [100, 20, 1416]}
    content = {
        "info": {"year": 2026},
        "licenses": [],
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 48, "height": 32},
            {"id": 2, "file_name": "b.jpg", "width": 48, "height": 32},
        ],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 3,
                "bbox": [4, 4, 20, 10],
                "area": 200,
                "iscrowd": 0,
                "segmentation": [[4, 4, 24, 4, 24, 14, 4, 14]],
            },
            {
                "id": 2,
                "image_id": 2,
                "category_id": 7,
                "bbox": [1, 2, 3.5, 4],
                "area": 14,
                "iscrowd": 0,
                "segmentation": [[1, 2, 4.5, 2, 4.5, 6]],
            },
            {
                "id": 3,
                "image_id": 2,
                "category_id": 3,
                "bbox": [3, 4, 1, 20],
                "area": 20,
                "iscrowd": 1,
                "segmentation": runs,
            },
        ],
    }
    boxes = content | {
        "annotations": [{k: v for k, v in a.items() if k != "segmentation"} for a in content["annotations"]]
    }  # type: ignore[attr-defined]
    pictures = {"images/a.jpg": _JPEG, "images/b.jpg": image("jpeg")}
    return tuple(Seed({"annotations/train.json": json.dumps(value).encode()} | pictures) for value in (content, boxes))


_VOC = """<annotation><folder>x</folder><filename>{name}.jpg</filename>
<size><width>48</width><height>32</height><depth>3</depth></size>
<segmented>0</segmented><object><name>cat</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>25.5</ymax></bndbox></object><object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>25</xmin><ymin>6</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>
"""


def voc(target: str) -> tuple[Seed, ...]:
    files = {f"Annotations/{name}.xml": _VOC.format(name=name).encode() for name in "ab"}
    files |= {f"JPEGImages/{name}.jpg": image("jpeg") for name in "ab"}
    files |= {
        "ImageSets/Main/train.txt": b"a\n",
        "ImageSets/Main/val.txt": b"b\n",
        "ImageSets/Main/cat_train.txt": b"a  1\n",
    }
    names = {"voc-xml": ["Annotations/a.xml"], "voc-lists": ["ImageSets/Main/train.txt", "ImageSets/Main/val.txt"]}
    return tuple(_changing(files, name) for name in names[target])


def split_files() -> tuple[Seed, ...]:
    files = {f"data/{name}": content for name, content in voc("voc-xml")[0].files.items()}
    splits = {"train": ["JPEGImages/a.jpg"], "val": ["JPEGImages/b.jpg"], "test": []}
    content = {"vovnet_split": 1, "root": "data", "splits": splits}
    return (Seed({"splits.json": json.dumps(content).encode()} | files),)


def cvat() -> tuple[Seed, ...]:
    files = {f"images/{name}.jpg": image("jpeg") for name in ("a", "Train/b", "frame_000000", "frame_000001")}
    images, video = (_CVAT.format(shapes=shapes).encode() for shapes in (_CVAT_IMAGES, _CVAT_TRACKS))
    return Seed({"annotations.xml": images} | files), Seed({"annotations.xml": video} | files)


def boxes_csv() -> tuple[Seed, ...]:
    files = {f"train/{name}.jpg": image("jpeg") for name in "ab"}
    lines = "a.jpg,48,32,cat,2,3,20,30\nb.jpg,48,32,dog,5,6,40,31\na.jpg,48,32,dog,1,1,9,9\n"
    with_header = f"filename,width,height,class,xmin,ymin,xmax,ymax\n{lines}".encode()
    bare = files | {
        "train/_annotations.csv": b"a.jpg,2,3,20,30,cat\nb.jpg,,,,,\n",
        "train/_classes.csv": b"cat,0\ndog,1\n",
    }
    return (
        Seed({"train/_annotations.csv": with_header} | files),
        *(_changing(bare, f"train/_{name}.csv") for name in ("annotations", "classes")),
    )


def masks() -> tuple[Seed, ...]:
    files = {"masks/a.png": mask_png(), "images/a.png": image("png"), "classes.txt": b"cell\n"}
    return (
        Seed(files),
        Seed(files | {"masks/a.png": _flat_png(10_000, 0)}, once=True),
        _changing(files, "classes.txt"),
    )

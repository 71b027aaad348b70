"""What the VoVNet paper (arXiv 1904.09730) prints: Tables 1 to 7, the axes of Figures 3 and 4, the claims of its text.

Figures are the printed strings, so that their precision is known. Nothing of the paper is typed anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PublishedColumn:
    """key: how rows call the figure; unit: of the printed figure."""

    key: str
    title: str
    unit: str = ""

    @property
    def header(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class PublishedRow:
    """model: our name of it, None where there is none. config: stem of the file in configs/ that trains its weights.

    multi_scale: whether it is tested at many scales.
    """

    name: str
    figures: Mapping[str, str]
    model: str | None = None
    config: str | None = None
    multi_scale: bool = False


@dataclass(frozen=True)
class PublishedTable:
    title: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]

    def row(self, name: str) -> PublishedRow:
        return next(row for row in self.rows if row.name == name)


def _rows(keys: str, *lines: tuple[str, str, str | None, str | None]) -> tuple[PublishedRow, ...]:
    """Rows from lines of (name, printed figures, model, config); "–" is a figure that is not printed."""
    rows = []
    for name, printed, model, config in lines:
        figures = dict(zip(keys.split(), printed.split(), strict=True))
        rows.append(PublishedRow(name, {key: text for key, text in figures.items() if text != "–"}, model, config))
    return tuple(rows)


FLOPS, PARAMETERS = PublishedColumn("flops", "FLOPs", "G"), PublishedColumn("parameters", "params", "M")
FPS, TIME = PublishedColumn("fps", "FPS"), PublishedColumn("time", "GPU time", "ms")
MEMORY, ENERGY = PublishedColumn("memory", "memory", "MB"), PublishedColumn("energy", "energy", "J/image")
EFFICIENCY, MAP = PublishedColumn("efficiency", "efficiency", "GFLOP/s"), PublishedColumn("map", "mAP")
AP = PublishedColumn("ap", "AP")
AP_BY_SIZE = (
    PublishedColumn("ap_small", "AP small"),
    PublishedColumn("ap_medium", "AP medium"),
    PublishedColumn("ap_large", "AP large"),
)

# Table 1, with "2 × OSA(5 × 3×3 of 192 → 768)" for two modules of five 3×3 layers, joined by a 1×1; stages by stride.
STAGES = ("stem 1, 3×3", "stem 2, 3×3", "stem 3, 3×3", "stage 2", "stage 3", "stage 4", "stage 5")
TABLE_1_STRIDES = ("2", "2", "2", "4", "8", "16", "32")
TABLE_1 = {
    "vovnet27_slim": (
        "3×3, 64, stride 2",
        "3×3, 64, stride 1",
        "3×3, 128, stride 1",
        "1 × OSA(5 × 3×3 of 64 → 128)",
        "1 × OSA(5 × 3×3 of 80 → 256)",
        "1 × OSA(5 × 3×3 of 96 → 384)",
        "1 × OSA(5 × 3×3 of 112 → 512)",
    ),
    "vovnet39": (
        "3×3, 64, stride 2",
        "3×3, 64, stride 1",
        "3×3, 128, stride 1",
        "1 × OSA(5 × 3×3 of 128 → 256)",
        "1 × OSA(5 × 3×3 of 160 → 512)",
        "2 × OSA(5 × 3×3 of 192 → 768)",
        "2 × OSA(5 × 3×3 of 224 → 1024)",
    ),
    "vovnet57": (
        "3×3, 64, stride 2",
        "3×3, 64, stride 1",
        "3×3, 128, stride 1",
        "1 × OSA(5 × 3×3 of 128 → 256)",
        "1 × OSA(5 × 3×3 of 160 → 512)",
        "4 × OSA(5 × 3×3 of 192 → 768)",
        "3 × OSA(5 × 3×3 of 224 → 1024)",
    ),
}
TABLE_1_NAMES = {"vovnet27_slim": "VoVNet-27-slim", "vovnet39": "VoVNet-39", "vovnet57": "VoVNet-57"}

_SLIM, _BOTTLENECK = "dsod300_vovnet27_slim", "dsod300_vovnet27_slim_bottleneck"
TABLE_2 = PublishedTable(
    "Table 2: light detectors, trained on VOC 07+12 trainval, VOC07 test",
    (FLOPS, FPS, PARAMETERS, MEMORY, ENERGY, EFFICIENCY, MAP),
    _rows(
        "flops fps parameters memory energy efficiency map",
        ("SSD300, MobileNet", "1.1 37 5.7 766 2.3 42 68.0", "ssd300_mobilenet", "voc_ssd300_mobilenet"),
        ("Pelee304, PeleeNet", "1.2 35 5.4 1104 2.4 43 70.9", "pelee304", "voc_pelee304"),
        ("DSOD300, DenseNet-67", "5.3 35 5.9 1294 3.7 189 73.6", "dsod300_densenet67", "voc_dsod300_densenet67"),
        ("DSOD300, VoVNet-27-slim", "5.6 71 5.9 825 0.9 400 74.8", _SLIM, f"voc_{_SLIM}"),
    ),
)

TABLE_3 = PublishedTable(
    "Table 3: a 1×1 bottleneck before every 3×3 of VoVNet-27-slim, DSOD300 on VOC07 test",
    (FLOPS, TIME, PARAMETERS, MEMORY, MAP),
    _rows(
        "flops time parameters memory map",
        ("VoVNet-27-slim", "5.6 14 5.9 825 74.8", _SLIM, f"voc_{_SLIM}"),
        ("VoVNet-27-slim, bottleneck", "4.6 18 4.8 895 71.1", _BOTTLENECK, f"voc_{_BOTTLENECK}"),
    ),
)

TABLE_4 = PublishedTable(
    "Table 4: RefineDet320 on COCO test-dev",
    (FLOPS, FPS, PARAMETERS, MEMORY, ENERGY, EFFICIENCY, AP, *AP_BY_SIZE),
    _rows(
        "flops fps parameters memory energy efficiency ap ap_small ap_medium ap_large",
        *(
            (name, printed, f"refinedet320_{backbone}", f"coco_refinedet320_{backbone}")
            for name, printed, backbone in (
                ("ResNet-50", "25.43 23.2 63.46 2229 5.3 591.3 30.3 10.2 32.8 46.9", "resnet50"),
                ("DenseNet-201 (k=32)", "24.65 12.0 56.13 3498 9.9 296.9 32.5 11.3 35.4 50.1", "densenet201"),
                ("VoVNet-39", "32.6 25.0 56.28 2199 4.8 815.0 33.5 12.8 36.8 49.2", "vovnet39"),
                ("ResNet-101", "33.02 17.5 82.45 3013 7.5 579.2 32.0 10.5 34.7 50.4", "resnet101"),
                ("DenseNet-161 (k=48)", "32.74 12.8 66.76 3628 10.0 419.7 33.5 11.6 36.6 51.4", "densenet161"),
                ("VoVNet-57", "36.45 21.2 70.32 2511 5.9 775.5 33.9 12.8 37.1 50.3", "vovnet57"),
            )
        ),
    ),
)

TABLE_5 = PublishedTable(  # its third column is headed "AP70" in print, and is AP75
    "Table 5: Mask R-CNN with group norm from scratch, 3× schedule, COCO val",
    (
        PublishedColumn("ap", "box AP"),
        PublishedColumn("ap50", "box AP50"),
        PublishedColumn("ap75", "box AP75"),
        PublishedColumn("mask_ap", "mask AP"),
        PublishedColumn("mask_ap50", "mask AP50"),
        PublishedColumn("mask_ap75", "mask AP75"),
        TIME,
        PARAMETERS,
    ),
    _rows(
        "ap ap50 ap75 mask_ap mask_ap50 mask_ap75 time",
        *(
            (name, printed, f"maskrcnn_{backbone}_gn", f"coco_maskrcnn_{backbone}_gn_3x")
            for name, printed, backbone in (
                ("ResNet-50-GN", "39.5 59.8 43.6 35.2 56.9 37.6 157", "resnet50"),
                ("ResNet-101-GN", "41.0 61.1 44.9 36.4 58.2 38.7 185", "resnet101"),
                ("VoVNet-39-GN", "41.7 62.2 45.8 36.8 59.0 39.5 152", "vovnet39"),
                ("VoVNet-57-GN", "41.9 62.1 46.0 37.0 59.3 39.7 159", "vovnet57"),
            )
        ),
    ),
)

_OF_OTHERS_6 = """\
Faster R-CNN by G-RMI, Inception-ResNet-v2 | ~1000×600 34.7 55.5 36.7 13.5 38.1 50.8 –
Faster R-CNN+++, ResNet-101-C4 | ~1000×600 34.9 55.7 37.4 15.6 38.7 50.9 0.3
Faster R-CNN w FPN, ResNet-101-FPN | ~1000×600 36.2 59.1 39 18.2 39 48.2 –
Faster R-CNN, RoIAlign, ResNet-101-FPN | ~1000×600 37.3 59.6 40.3 19.8 40.2 48.8 9.2
Mask R-CNN, ResNeXt-101-FPN | ~1280×800 39.8 62.3 43.4 22.1 43.2 51.2 5.3
DSOD300, DS/64-192-48-1 | 300 29.3 47.3 30.6 9.4 31.5 47 28.6
SSD320, ResNet-50 | 320 24.9 42.6 25.8 6.9 26.7 41.3 29.4
SSD321, ResNet-101 | 321 28 46.1 29.2 6.2 28.3 49.3 22.7
RefineDet320, VGG-16 | 320 29.4 49.2 31.3 10.0 32.0 44.4 38.7
YOLOv3-608, DarkNet-53 | 608 33 57.9 34.4 18.3 35.4 41.9 19.6
SSD513, ResNet-101 | 513 31.2 50.4 33.3 10.2 34.5 49.8 13.9
DSSD513, ResNet-101 | 513 33.2 53.3 35.2 12 35.4 51.1 –
RetinaNet500, ResNet-101-FPN | 500 34.4 53.1 36.8 14.7 38.5 49.1 11.1
RetinaNet800, ResNet-101-FPN | 800 37.8 57.5 40.8 20.2 41.1 49.2 5.0
CornerNet, Hourglass | 512 40.6 56.4 43.2 19.1 42.8 54.3 4.4
CornerNet, Hourglass, multi-scale | 512 42.2 57.8 45.2 20.7 44.8 56.6 –"""
_OURS_6 = """\
RefineDet320, ResNet-50 | 320 30.3 49.8 32.3 10.2 32.8 46.9 23.2 | refinedet320_resnet50
RefineDet320, ResNet-101 | 320 32 51.4 34.2 10.5 34.7 50.4 17.5 | refinedet320_resnet101
RefineDet320, DenseNet-201 | 320 32.5 52.2 34.7 11.3 35.4 50.1 12.0 | refinedet320_densenet201
RefineDet320, DenseNet-161 | 320 33.5 53.5 36.0 11.6 36.6 51.4 12.8 | refinedet320_densenet161
RefineDet320, VoVNet-39 | 320 33.5 53.8 35.8 12.8 36.8 49.2 25.0 | refinedet320_vovnet39
RefineDet320, VoVNet-57 | 320 33.9 54.1 36.3 12.8 37.1 50.3 21.2 | refinedet320_vovnet57
RefineDet512, ResNet-101 | 512 36.4 57.5 39.5 16.6 39.9 51.4 12.7 | refinedet512_resnet101 | batch20
RefineDet512+, ResNet-101, multi-scale | 512 41.8 62.9 45.7 25.6 45.1 54.1 – | refinedet512_resnet101 | batch20
RefineDet512, VoVNet-39 | 512 38.5 60.4 42.0 20.0 41.4 51.7 16.6 | refinedet512_vovnet39
RefineDet512, VoVNet-57 | 512 39.2 60.7 42.6 20.2 42.4 52.8 14.9 | refinedet512_vovnet57
RefineDet512, VoVNet-39, multi-scale | 512 43.0 64.5 46.9 26.8 46.0 54.8 – | refinedet512_vovnet39
RefineDet512, VoVNet-57, multi-scale | 512 43.6 64.9 47.7 27.2 46.9 55.6 – | refinedet512_vovnet57"""


def _table_6_rows(lines: str) -> tuple[PublishedRow, ...]:
    rows = []
    for line in lines.splitlines():
        name, printed, *ours = (part.strip() for part in line.split("|"))
        keys = ("input", "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "fps")
        figures = dict(zip(keys, printed.split(), strict=True))
        model = ours[0] if ours else None
        config = f"coco_{'_'.join(ours)}" if ours else None
        kept = {key: text for key, text in figures.items() if text != "–"}
        rows.append(PublishedRow(name, kept, model, config, multi_scale=name.endswith("multi-scale")))
    return tuple(rows)


TABLE_6 = PublishedTable(
    "Table 6: COCO test-dev",
    (
        PublishedColumn("input", "input"),
        AP,
        PublishedColumn("ap50", "AP50"),
        PublishedColumn("ap75", "AP75"),
        *AP_BY_SIZE,
        FPS,
    ),
    _table_6_rows(_OURS_6) + _table_6_rows(_OF_OTHERS_6),
)

TABLE_7 = PublishedTable(
    "Table 7: RefineDet512 by batch size of training, COCO test-dev",
    (AP, FPS),
    _rows(
        "ap fps",
        ("ResNet-50, batch 20", "35.2 15.6", "refinedet512_resnet50", "coco_refinedet512_resnet50_batch20"),
        ("ResNet-101, batch 20", "36.4 12.3", "refinedet512_resnet101", "coco_refinedet512_resnet101_batch20"),
        ("VoVNet-39, batch 20", "37.5 16.6", "refinedet512_vovnet39", "coco_refinedet512_vovnet39_batch20"),
        ("VoVNet-57, batch 20", "38.1 14.9", "refinedet512_vovnet57", "coco_refinedet512_vovnet57_batch20"),
        ("VoVNet-39, batch 32", "38.5 16.6", "refinedet512_vovnet39", "coco_refinedet512_vovnet39"),
        ("VoVNet-57, batch 32", "39.2 14.9", "refinedet512_vovnet57", "coco_refinedet512_vovnet57"),
    ),
)

# §3.1–3.2: memory access cost in millions, test error and accuracy on CIFAR-10 in percent.
CIFAR = PublishedTable(
    "Section 3.2: aggregation on CIFAR-10",
    (PublishedColumn("memory_access_cost", "memory access cost", "M"), PublishedColumn("error", "error", "%")),
    (
        PublishedRow("DenseNet-40", {"memory_access_cost": "3.7", "error": "5.24"}, "densenet40"),
        PublishedRow("OSA (5/43)", {"memory_access_cost": "2.5", "error": "5.44"}, "osa_5_43"),
        PublishedRow("OSA (12/20)", {"accuracy": "93.6", "drop": "1.2"}, "osa_12_20"),
    ),
)

# Figures that only the running text has.
TEXT = PublishedTable(
    "The text",
    (MAP,),
    (
        PublishedRow("VoVNet-27-slim, section 4.2", {"map": "74.87"}),
        PublishedRow("loss by the bottleneck, section 4.2", {"map": "3.69"}),
    ),
)

TABLES = {
    "table2": TABLE_2,
    "table3": TABLE_3,
    "table4": TABLE_4,
    "table5": TABLE_5,
    "table6": TABLE_6,
    "table7": TABLE_7,
    "cifar": CIFAR,
    "text": TEXT,
}


@dataclass(frozen=True)
class PublishedPanel:
    """A scatter plot: the columns on its axes, and the first and last tick of each."""

    x: PublishedColumn
    x_ticks: tuple[float, float]
    y: PublishedColumn
    y_ticks: tuple[float, float]


# The axes' titles say FLOP/s, the values are GFLOP/s. The points are those of the tables.
FIGURE_3 = (
    PublishedPanel(FPS, (30, 70), MAP, (68, 75)),
    PublishedPanel(EFFICIENCY, (100, 400), MAP, (68, 75)),
    PublishedPanel(ENERGY, (1, 4), MAP, (68, 75)),
    PublishedPanel(ENERGY, (1, 4), EFFICIENCY, (50, 400)),
)
FIGURE_4 = (
    PublishedPanel(FPS, (12, 24), AP, (30, 34)),
    PublishedPanel(EFFICIENCY, (400, 800), AP, (30, 34)),
    PublishedPanel(ENERGY, (4, 10), AP, (30, 34)),
    PublishedPanel(ENERGY, (4, 10), EFFICIENCY, (400, 800)),
)

Place = tuple[str, str, str]  # table, row, column


@dataclass(frozen=True)
class Claim:
    """figure: as printed. how: what is done with the two places; "cut" cuts the difference to the digits of `equals`.

    note: what the paper means where its words say something else. rather: the place that gives the claimed figure.
    """

    figure: str
    says: str
    where: str
    how: Literal["ratio", "difference"]
    first: Place
    second: Place
    equals: Place | None = None
    note: str = ""
    rather: Place | None = None


_T2, _V27, _D67 = "table2", "DSOD300, VoVNet-27-slim", "DSOD300, DenseNet-67"
_MOBILE, _PELEE = "SSD300, MobileNet", "Pelee304, PeleeNet"
_T4, _V39, _D201, _D161 = "table4", "VoVNet-39", "DenseNet-201 (k=32)", "DenseNet-161 (k=48)"
_TEXT_MAP = ("text", "VoVNet-27-slim, section 4.2", "map")
_GN = ("VoVNet-39-GN", "ResNet-50-GN", "ResNet-101-GN")
CLAIMS = (
    Claim("2", "× as fast as DSOD300, DenseNet-67", "abstract", "ratio", (_T2, _V27, "fps"), (_T2, _D67, "fps")),
    Claim("2", "× as fast as RefineDet320, DenseNet-161", "abstract", "ratio", (_T4, _V39, "fps"), (_T4, _D161, "fps")),
    Claim(
        "1.6",
        "× less energy than ResNet-101, the least",
        "abstract",
        "ratio",
        (_T4, "ResNet-101", "energy"),
        (_T4, _V39, "energy"),
    ),
    Claim(
        "4.1",
        "× less energy than DSOD300, DenseNet-67, the most",
        "abstract",
        "ratio",
        (_T2, _D67, "energy"),
        (_T2, _V27, "energy"),
    ),
    Claim("6.87", "mAP over SSD300 on MobileNet", "§4.2", "difference", _TEXT_MAP, (_T2, _MOBILE, "map")),
    Claim("3.97", "mAP over Pelee304", "§4.2", "difference", _TEXT_MAP, (_T2, _PELEE, "map")),
    Claim(
        "10",
        "× the computation efficiency of MobileNet",
        "§4.2",
        "ratio",
        (_T2, _V27, "efficiency"),
        (_T2, _MOBILE, "efficiency"),
    ),
    Claim(
        "10",
        "× the computation efficiency of PeleeNet",
        "§4.2",
        "ratio",
        (_T2, _V27, "efficiency"),
        (_T2, _PELEE, "efficiency"),
    ),
    Claim(
        "3.69",
        "mAP lost by the 1×1 bottleneck",
        "§4.2",
        "difference",
        _TEXT_MAP,
        ("text", "loss by the bottleneck, section 4.2", "map"),
        equals=("table3", "VoVNet-27-slim, bottleneck", "map"),
    ),
    Claim("3.3", "AP of VoVNet-39 over ResNet-50", "§4.3", "difference", (_T4, _V39, "ap"), (_T4, "ResNet-50", "ap")),
    Claim(
        "1.9",
        "AP of small objects over “DenseNet121”",
        "§4.3",
        "difference",
        (_T4, _V39, "ap_small"),
        (_T4, _D201, "ap_small"),
        note="DenseNet-201 is meant",
    ),
    Claim(
        "1.2",
        "AP of small objects over DenseNet-161",
        "§4.3",
        "difference",
        (_T4, _V39, "ap_small"),
        (_T4, _D161, "ap_small"),
    ),
    Claim("2.2", "box AP over ResNet-50-GN", "§4.4", "difference", ("table5", _GN[0], "ap"), ("table5", _GN[1], "ap")),
    Claim(
        "0.9",
        "box AP over ResNet-101-GN",
        "§4.4",
        "difference",
        ("table5", _GN[0], "ap"),
        ("table5", _GN[2], "ap"),
        rather=("table5", "VoVNet-57-GN", "ap"),
    ),
    Claim(
        "1.6",
        "mask AP over ResNet-50-GN",
        "§4.4",
        "difference",
        ("table5", _GN[0], "mask_ap"),
        ("table5", _GN[1], "mask_ap"),
    ),
    Claim(
        "0.4",
        "mask AP over ResNet-101-GN",
        "§4.4",
        "difference",
        ("table5", _GN[0], "mask_ap"),
        ("table5", _GN[2], "mask_ap"),
    ),
    Claim(
        "2.3",
        "AP of RefineDet512, VoVNet-39 over ResNet-50, batch 20",
        "appendix A",
        "difference",
        ("table7", "VoVNet-39, batch 20", "ap"),
        ("table7", "ResNet-50, batch 20", "ap"),
    ),
    Claim(
        "1.7",
        "AP of RefineDet512, VoVNet-57 over ResNet-101, batch 20",
        "appendix A",
        "difference",
        ("table7", "VoVNet-57, batch 20", "ap"),
        ("table7", "ResNet-101, batch 20", "ap"),
    ),
    Claim(
        "1.0",
        "AP of VoVNet-39 by batch 32 instead of 20",
        "appendix A",
        "difference",
        ("table7", "VoVNet-39, batch 32", "ap"),
        ("table7", "VoVNet-39, batch 20", "ap"),
    ),
    Claim(
        "1.1",
        "AP of VoVNet-57 by batch 32 instead of 20",
        "appendix A",
        "difference",
        ("table7", "VoVNet-57, batch 32", "ap"),
        ("table7", "VoVNet-57, batch 20", "ap"),
    ),
    Claim(
        "3",
        "× as fast as CornerNet",
        "appendix A",
        "ratio",
        ("table6", "RefineDet512, VoVNet-57", "fps"),
        ("table6", "CornerNet, Hourglass", "fps"),
    ),
)
# What the paper prints twice: the figure, and its two places.
TWICE: tuple[tuple[str, Place, Place], ...] = (
    *(
        (
            f"{column} of RefineDet512, {one}",
            ("table6", f"RefineDet512, {one}", key),
            ("table7", f"{one}, {batch}", key),
        )
        for column, key in (("FPS", "fps"), ("AP", "ap"))
        for one, batch in (("ResNet-101", "batch 20"), ("VoVNet-39", "batch 32"), ("VoVNet-57", "batch 32"))
    ),
    *(
        (f"AP of RefineDet320, {one}", ("table4", one, "ap"), ("table6", f"RefineDet320, {one}", "ap"))
        for one in ("ResNet-50", "ResNet-101", "VoVNet-39", "VoVNet-57")
    ),
    *(
        (f"{column} of DSOD300, VoVNet-27-slim", ("table2", _V27, key), ("table3", "VoVNet-27-slim", key))
        for column, key in (("memory", "memory"), ("mAP", "map"))
    ),
)

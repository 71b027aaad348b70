"""What the VoVNet paper (arXiv 1904.09730) prints: Tables 1 to 7, numbers of its text, the axes of Figures 3 and 4.

Values are the printed strings, because the number of digits matters. Claims of the text are in published_claims.py;
no other file repeats a number of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class PublishedColumn:
    """key: the key under which `PublishedRow.values` holds the column's values."""

    key: str
    title: str
    unit: str = ""

    @property
    def header(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class PublishedRow:
    """One model of a table.

    values: the printed values by column key; a column without a printed value is absent.
    model: the model's name in this package, "" for methods that are not built here.
    config: stem of the file in configs/ that trains the model, "" if there is none.
    """

    name: str
    values: Mapping[str, str]
    model: str = ""
    config: str = ""

    @property
    def multi_scale(self) -> bool:
        return self.name.endswith("multi-scale")


@dataclass(frozen=True)
class PublishedTable:
    title: str
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]

    @property
    def number(self) -> str:
        """The title up to its colon, such as "Table 2"."""
        return self.title.partition(":")[0]

    def row(self, name: str) -> PublishedRow:
        return next(row for row in self.rows if row.name == name)


def _table(title: str, columns: tuple[PublishedColumn, ...], lines: str, configs: str = "") -> PublishedTable:
    """A table from lines of "name | printed values | model | recipe"; the last two are optional.

    "–" is a value that the paper does not print. A row's config is called CONFIGS_MODEL or CONFIGS_MODEL_RECIPE.
    """
    rows = []
    for line in lines.strip().splitlines():
        name, printed, *model = (part.strip() for part in line.split("|"))
        texts = zip(columns, printed.split(), strict=True)
        values = {column.key: text for column, text in texts if text != "–"}
        config = "_".join([configs, *model]) if model and configs else ""
        rows.append(PublishedRow(name, values, model[0] if model else "", config))
    return PublishedTable(title, columns, tuple(rows))


FLOPS, PARAMETERS = PublishedColumn("flops", "FLOPs", "G"), PublishedColumn("parameters", "params", "M")
FPS, TIME = PublishedColumn("fps", "FPS"), PublishedColumn("time", "GPU time", "ms")
MEMORY, ENERGY = PublishedColumn("memory", "memory", "MB"), PublishedColumn("energy", "energy", "J/image")
EFFICIENCY, MAP = PublishedColumn("efficiency", "efficiency", "GFLOP/s"), PublishedColumn("map", "mAP")
AP, AP50, AP75 = PublishedColumn("ap", "AP"), PublishedColumn("ap50", "AP50"), PublishedColumn("ap75", "AP75")
AP_BY_SIZE = tuple(PublishedColumn(f"ap_{size}", f"AP {size}") for size in ("small", "medium", "large"))

# Table 1. "2 × OSA(5 × 3×3 of 192 → 768)" is two modules of five 3×3 layers with 192 channels, fused by a 1×1 into 768.
TABLE_1_BACKBONES = {"vovnet27_slim": "VoVNet-27-slim", "vovnet39": "VoVNet-39", "vovnet57": "VoVNet-57"}
# Columns: part, stride of its output, then what it is in each backbone.
_TABLE_1 = """
    stem 1, 3×3 | 2  | 3×3, 64, stride 2             | 3×3, 64, stride 2              | 3×3, 64, stride 2
    stem 2, 3×3 | 2  | 3×3, 64, stride 1             | 3×3, 64, stride 1              | 3×3, 64, stride 1
    stem 3, 3×3 | 2  | 3×3, 128, stride 1            | 3×3, 128, stride 1             | 3×3, 128, stride 1
    stage 2     | 4  | 1 × OSA(5 × 3×3 of 64 → 128)  | 1 × OSA(5 × 3×3 of 128 → 256)  | 1 × OSA(5 × 3×3 of 128 → 256)
    stage 3     | 8  | 1 × OSA(5 × 3×3 of 80 → 256)  | 1 × OSA(5 × 3×3 of 160 → 512)  | 1 × OSA(5 × 3×3 of 160 → 512)
    stage 4     | 16 | 1 × OSA(5 × 3×3 of 96 → 384)  | 2 × OSA(5 × 3×3 of 192 → 768)  | 4 × OSA(5 × 3×3 of 192 → 768)
    stage 5     | 32 | 1 × OSA(5 × 3×3 of 112 → 512) | 2 × OSA(5 × 3×3 of 224 → 1024) | 3 × OSA(5 × 3×3 of 224 → 1024)
"""
TABLE_1 = [[cell.strip() for cell in line.split("|")] for line in _TABLE_1.strip().splitlines()]

TABLES = {
    "table2": _table(
        "Table 2: lightweight detectors, trained on VOC 07+12 trainval, tested on VOC07 test",
        (FLOPS, FPS, PARAMETERS, MEMORY, ENERGY, EFFICIENCY, MAP),
        """
    SSD300, MobileNet       | 1.1 37 5.7  766 2.3  42 68.0 | ssd300_mobilenet
    Pelee304, PeleeNet      | 1.2 35 5.4 1104 2.4  43 70.9 | pelee304
    DSOD300, DenseNet-67    | 5.3 35 5.9 1294 3.7 189 73.6 | dsod300_densenet67
    DSOD300, VoVNet-27-slim | 5.6 71 5.9  825 0.9 400 74.8 | dsod300_vovnet27_slim
        """,
        "voc",
    ),
    "table3": _table(
        "Table 3: a 1×1 bottleneck before every 3×3 convolution of VoVNet-27-slim, DSOD300 on VOC07 test",
        (FLOPS, TIME, PARAMETERS, MEMORY, MAP),
        """
    VoVNet-27-slim             | 5.6 14 5.9 825 74.8 | dsod300_vovnet27_slim
    VoVNet-27-slim, bottleneck | 4.6 18 4.8 895 71.1 | dsod300_vovnet27_slim_bottleneck
        """,
        "voc",
    ),
    "table4": _table(
        "Table 4: RefineDet320 on COCO test-dev",
        (FLOPS, FPS, PARAMETERS, MEMORY, ENERGY, EFFICIENCY, AP, *AP_BY_SIZE),
        """
    ResNet-50           | 25.43 23.2 63.46 2229  5.3 591.3 30.3 10.2 32.8 46.9 | refinedet320_resnet50
    DenseNet-201 (k=32) | 24.65 12.0 56.13 3498  9.9 296.9 32.5 11.3 35.4 50.1 | refinedet320_densenet201
    VoVNet-39           | 32.6  25.0 56.28 2199  4.8 815.0 33.5 12.8 36.8 49.2 | refinedet320_vovnet39
    ResNet-101          | 33.02 17.5 82.45 3013  7.5 579.2 32.0 10.5 34.7 50.4 | refinedet320_resnet101
    DenseNet-161 (k=48) | 32.74 12.8 66.76 3628 10.0 419.7 33.5 11.6 36.6 51.4 | refinedet320_densenet161
    VoVNet-57           | 36.45 21.2 70.32 2511  5.9 775.5 33.9 12.8 37.1 50.3 | refinedet320_vovnet57
        """,
        "coco",
    ),
    "table5": _table(  # the third column is labelled "AP70" in the paper, but is AP75
        "Table 5: Mask R-CNN with group norm, trained from scratch, 3× schedule, COCO val",
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
        """
    ResNet-50-GN  | 39.5 59.8 43.6 35.2 56.9 37.6 157 – | maskrcnn_resnet50_gn  | 3x
    ResNet-101-GN | 41.0 61.1 44.9 36.4 58.2 38.7 185 – | maskrcnn_resnet101_gn | 3x
    VoVNet-39-GN  | 41.7 62.2 45.8 36.8 59.0 39.5 152 – | maskrcnn_vovnet39_gn  | 3x
    VoVNet-57-GN  | 41.9 62.1 46.0 37.0 59.3 39.7 159 – | maskrcnn_vovnet57_gn  | 3x
        """,
        "coco",
    ),
    "table6": _table(
        "Table 6: COCO test-dev",
        (PublishedColumn("input", "input"), AP, AP50, AP75, *AP_BY_SIZE, FPS),
        """
    RefineDet320, ResNet-50                | 320 30.3 49.8 32.3 10.2 32.8 46.9 23.2 | refinedet320_resnet50
    RefineDet320, ResNet-101               | 320 32   51.4 34.2 10.5 34.7 50.4 17.5 | refinedet320_resnet101
    RefineDet320, DenseNet-201             | 320 32.5 52.2 34.7 11.3 35.4 50.1 12.0 | refinedet320_densenet201
    RefineDet320, DenseNet-161             | 320 33.5 53.5 36.0 11.6 36.6 51.4 12.8 | refinedet320_densenet161
    RefineDet320, VoVNet-39                | 320 33.5 53.8 35.8 12.8 36.8 49.2 25.0 | refinedet320_vovnet39
    RefineDet320, VoVNet-57                | 320 33.9 54.1 36.3 12.8 37.1 50.3 21.2 | refinedet320_vovnet57
    RefineDet512, ResNet-101               | 512 36.4 57.5 39.5 16.6 39.9 51.4 12.7 | refinedet512_resnet101 | batch20
    RefineDet512+, ResNet-101, multi-scale | 512 41.8 62.9 45.7 25.6 45.1 54.1 –    | refinedet512_resnet101 | batch20
    RefineDet512, VoVNet-39                | 512 38.5 60.4 42.0 20.0 41.4 51.7 16.6 | refinedet512_vovnet39
    RefineDet512, VoVNet-57                | 512 39.2 60.7 42.6 20.2 42.4 52.8 14.9 | refinedet512_vovnet57
    RefineDet512, VoVNet-39, multi-scale   | 512 43.0 64.5 46.9 26.8 46.0 54.8 –    | refinedet512_vovnet39
    RefineDet512, VoVNet-57, multi-scale   | 512 43.6 64.9 47.7 27.2 46.9 55.6 –    | refinedet512_vovnet57
    Faster R-CNN by G-RMI, Inception-ResNet-v2 | ~1000×600 34.7 55.5 36.7 13.5 38.1 50.8 –
    Faster R-CNN+++, ResNet-101-C4             | ~1000×600 34.9 55.7 37.4 15.6 38.7 50.9 0.3
    Faster R-CNN w FPN, ResNet-101-FPN         | ~1000×600 36.2 59.1 39   18.2 39   48.2 –
    Faster R-CNN, RoIAlign, ResNet-101-FPN     | ~1000×600 37.3 59.6 40.3 19.8 40.2 48.8 9.2
    Mask R-CNN, ResNeXt-101-FPN                | ~1280×800 39.8 62.3 43.4 22.1 43.2 51.2 5.3
    DSOD300, DS/64-192-48-1                    | 300 29.3 47.3 30.6  9.4 31.5 47   28.6
    SSD320, ResNet-50                          | 320 24.9 42.6 25.8  6.9 26.7 41.3 29.4
    SSD321, ResNet-101                         | 321 28   46.1 29.2  6.2 28.3 49.3 22.7
    RefineDet320, VGG-16                       | 320 29.4 49.2 31.3 10.0 32.0 44.4 38.7
    YOLOv3-608, DarkNet-53                     | 608 33   57.9 34.4 18.3 35.4 41.9 19.6
    SSD513, ResNet-101                         | 513 31.2 50.4 33.3 10.2 34.5 49.8 13.9
    DSSD513, ResNet-101                        | 513 33.2 53.3 35.2 12   35.4 51.1 –
    RetinaNet500, ResNet-101-FPN               | 500 34.4 53.1 36.8 14.7 38.5 49.1 11.1
    RetinaNet800, ResNet-101-FPN               | 800 37.8 57.5 40.8 20.2 41.1 49.2 5.0
    CornerNet, Hourglass                       | 512 40.6 56.4 43.2 19.1 42.8 54.3 4.4
    CornerNet, Hourglass, multi-scale          | 512 42.2 57.8 45.2 20.7 44.8 56.6 –
        """,
        "coco",
    ),
    "table7": _table(
        "Table 7: RefineDet512 by training batch size, COCO test-dev",
        (AP, FPS),
        """
    ResNet-50, batch 20  | 35.2 15.6 | refinedet512_resnet50  | batch20
    ResNet-101, batch 20 | 36.4 12.3 | refinedet512_resnet101 | batch20
    VoVNet-39, batch 20  | 37.5 16.6 | refinedet512_vovnet39  | batch20
    VoVNet-57, batch 20  | 38.1 14.9 | refinedet512_vovnet57  | batch20
    VoVNet-39, batch 32  | 38.5 16.6 | refinedet512_vovnet39
    VoVNet-57, batch 32  | 39.2 14.9 | refinedet512_vovnet57
        """,
        "coco",
    ),
    "cifar": _table(  # §3.1–3.2
        "Section 3.2: aggregation on CIFAR-10",
        (
            PublishedColumn("memory_access_cost", "memory access cost", "M"),
            PublishedColumn("error", "test error", "%"),
            PublishedColumn("accuracy", "test accuracy", "%"),
            PublishedColumn("drop", "loss of accuracy", "%"),
        ),
        """
    DenseNet-40 | 3.7 5.24 – –    | densenet40
    OSA (5/43)  | 2.5 5.44 – –    | osa_5_43
    OSA (12/20) | –   –    93.6 1.2 | osa_12_20
        """,
    ),
    "text": _table(  # numbers that only the running text has
        "The text",
        (MAP,),
        """
    VoVNet-27-slim, section 4.2         | 74.87
    loss from the bottleneck, section 4.2 | 3.69
        """,
    ),
}


class PublishedPanel(NamedTuple):
    """A scatter plot: the columns on its axes, and the first and last tick of each."""

    x: PublishedColumn
    x_ticks: tuple[float, float]
    y: PublishedColumn
    y_ticks: tuple[float, float]


class PublishedFigure(NamedTuple):
    """Scatter plots of the values of a table, a key of `TABLES`. The first panel has accuracy on its y axis."""

    title: str
    table: str
    panels: tuple[PublishedPanel, ...]

    @property
    def columns(self) -> dict[str, PublishedColumn]:
        return {column.key: column for panel in self.panels for column in (panel.x, panel.y)}


# The titles of the axes say FLOP/s, but the values are GFLOP/s.
FIGURES = {
    "figure3": PublishedFigure(
        "Figure 3: lightweight detectors, accuracy against speed, efficiency and energy",
        "table2",
        (
            PublishedPanel(FPS, (30, 70), MAP, (68, 75)),
            PublishedPanel(EFFICIENCY, (100, 400), MAP, (68, 75)),
            PublishedPanel(ENERGY, (1, 4), MAP, (68, 75)),
            PublishedPanel(ENERGY, (1, 4), EFFICIENCY, (50, 400)),
        ),
    ),
    "figure4": PublishedFigure(
        "Figure 4: RefineDet320, accuracy against speed, efficiency and energy",
        "table4",
        (
            PublishedPanel(FPS, (12, 24), AP, (30, 34)),
            PublishedPanel(EFFICIENCY, (400, 800), AP, (30, 34)),
            PublishedPanel(ENERGY, (4, 10), AP, (30, 34)),
            PublishedPanel(ENERGY, (4, 10), EFFICIENCY, (400, 800)),
        ),
    ),
}

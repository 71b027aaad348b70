"""What the paper's text claims about its results, and which values it prints in two tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vovnet.paper.published import TABLES


class PrintedValue(NamedTuple):
    """A value by its table (a key of `TABLES`), the name of its row and the key of its column."""

    table: str
    row: str
    column: str

    @property
    def text(self) -> str:
        return TABLES[self.table].row(self.row).values[self.column]

    @property
    def table_number(self) -> str:
        return TABLES[self.table].number


@dataclass(frozen=True)
class Claim:
    """A claim that follows from two printed values.

    where: section of the paper.
    value: the claimed number, as printed.
    first, operation, second: the arithmetic that must give `value`.
    equals: a printed value to compare the result with instead of `value`, after truncating it to the same digits.
    note: what the paper means, if its words say something else.
    rather: gives the claimed value when it replaces `first`.
    """

    where: str
    value: str
    text: str
    first: PrintedValue
    operation: Literal["/", "−"]
    second: PrintedValue
    equals: PrintedValue | None = None
    note: str = ""
    rather: PrintedValue | None = None


def _column(table: str, column: str) -> Callable[[str], PrintedValue]:
    """A function from the name of a row to its value in this column."""
    return lambda row: PrintedValue(table, row, column)


_FPS_2, _ENERGY_2, _EFFICIENCY_2 = (_column("table2", key) for key in ("fps", "energy", "efficiency"))
_MEMORY_2, _MEMORY_3 = (_column(table, "memory") for table in ("table2", "table3"))
_MAP_2, _MAP_3, _MAP_TEXT = (_column(table, "map") for table in ("table2", "table3", "text"))
_FPS_4, _ENERGY_4, _AP_SMALL_4 = (_column("table4", key) for key in ("fps", "energy", "ap_small"))
_AP_4, _AP_6, _AP_7 = (_column(table, "ap") for table in ("table4", "table6", "table7"))
_FPS_6, _FPS_7 = (_column(table, "fps") for table in ("table6", "table7"))
_BOX_AP, _MASK_AP = (_column("table5", key) for key in ("ap", "mask_ap"))

_V27, _D67 = "DSOD300, VoVNet-27-slim", "DSOD300, DenseNet-67"
_MOBILENET, _PELEE = "SSD300, MobileNet", "Pelee304, PeleeNet"
_V39, _R50, _R101 = "VoVNet-39", "ResNet-50", "ResNet-101"
_D201, _D161 = "DenseNet-201 (k=32)", "DenseNet-161 (k=48)"
_V27_MAP = _MAP_TEXT("VoVNet-27-slim, section 4.2")  # with a digit more than in Table 2

CLAIMS = (
    Claim("abstract", "2", "× as fast as DSOD300, DenseNet-67", _FPS_2(_V27), "/", _FPS_2(_D67)),
    Claim("abstract", "2", "× as fast as RefineDet320, DenseNet-161", _FPS_4(_V39), "/", _FPS_4(_D161)),
    Claim("abstract", "1.6", "× reduction in energy vs RefineDet320, ResNet-101 (lower end of the claim)",
          _ENERGY_4(_R101), "/", _ENERGY_4(_V39)),
    Claim("abstract", "4.1", "× reduction in energy vs DSOD300, DenseNet-67 (upper end of the claim)",
          _ENERGY_2(_D67), "/", _ENERGY_2(_V27)),
    Claim("§4.2", "6.87", "mAP over SSD300, MobileNet", _V27_MAP, "−", _MAP_2(_MOBILENET)),
    Claim("§4.2", "3.97", "mAP over Pelee304", _V27_MAP, "−", _MAP_2(_PELEE)),
    Claim("§4.2", "10", "× the computation efficiency of MobileNet",
          _EFFICIENCY_2(_V27), "/", _EFFICIENCY_2(_MOBILENET)),
    Claim("§4.2", "10", "× the computation efficiency of PeleeNet", _EFFICIENCY_2(_V27), "/", _EFFICIENCY_2(_PELEE)),
    Claim("§4.2", "3.69", "mAP lost with the 1×1 bottleneck",
          _V27_MAP, "−", _MAP_TEXT("loss from the bottleneck, section 4.2"),
          equals=_MAP_3("VoVNet-27-slim, bottleneck")),
    Claim("§4.3", "3.3", "AP for VoVNet-39 over ResNet-50", _AP_4(_V39), "−", _AP_4(_R50)),
    Claim("§4.3", "1.9", "AP on small objects over “DenseNet121”", _AP_SMALL_4(_V39), "−", _AP_SMALL_4(_D201),
          note="presumably DenseNet-201"),
    Claim("§4.3", "1.2", "AP on small objects over DenseNet-161", _AP_SMALL_4(_V39), "−", _AP_SMALL_4(_D161)),
    Claim("§4.4", "2.2", "box AP over ResNet-50-GN", _BOX_AP("VoVNet-39-GN"), "−", _BOX_AP("ResNet-50-GN")),
    Claim("§4.4", "0.9", "box AP over ResNet-101-GN", _BOX_AP("VoVNet-39-GN"), "−", _BOX_AP("ResNet-101-GN"),
          rather=_BOX_AP("VoVNet-57-GN")),
    Claim("§4.4", "1.6", "mask AP over ResNet-50-GN", _MASK_AP("VoVNet-39-GN"), "−", _MASK_AP("ResNet-50-GN")),
    Claim("§4.4", "0.4", "mask AP over ResNet-101-GN", _MASK_AP("VoVNet-39-GN"), "−", _MASK_AP("ResNet-101-GN")),
    Claim("appendix A", "2.3", "AP for RefineDet512, VoVNet-39 over ResNet-50, batch 20",
          _AP_7("VoVNet-39, batch 20"), "−", _AP_7("ResNet-50, batch 20")),
    Claim("appendix A", "1.7", "AP for RefineDet512, VoVNet-57 over ResNet-101, batch 20",
          _AP_7("VoVNet-57, batch 20"), "−", _AP_7("ResNet-101, batch 20")),
    Claim("appendix A", "1.0", "AP for VoVNet-39 with batch 32 instead of 20",
          _AP_7("VoVNet-39, batch 32"), "−", _AP_7("VoVNet-39, batch 20")),
    Claim("appendix A", "1.1", "AP for VoVNet-57 with batch 32 instead of 20",
          _AP_7("VoVNet-57, batch 32"), "−", _AP_7("VoVNet-57, batch 20")),
    Claim("appendix A", "3", "× as fast as CornerNet",
          _FPS_6("RefineDet512, VoVNet-57"), "/", _FPS_6("CornerNet, Hourglass")),
)  # fmt: skip

# What is printed, then its two values.
PRINTED_TWICE = (
    *(
        (f"{title} of RefineDet512, {name}", first(f"RefineDet512, {name}"), second(f"{name}, batch {batch}"))
        for title, first, second in (("FPS", _FPS_6, _FPS_7), ("AP", _AP_6, _AP_7))
        for name, batch in ((_R101, 20), (_V39, 32), ("VoVNet-57", 32))
    ),
    *(
        (f"AP of RefineDet320, {name}", _AP_4(name), _AP_6(f"RefineDet320, {name}"))
        for name in (_R50, _R101, _V39, "VoVNet-57")
    ),
    (f"memory of {_V27}", _MEMORY_2(_V27), _MEMORY_3("VoVNet-27-slim")),
    (f"mAP of {_V27}", _MAP_2(_V27), _MAP_3("VoVNet-27-slim")),
)

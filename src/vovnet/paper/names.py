"""What there is to reproduce, by name."""

from __future__ import annotations

from collections.abc import Sequence

from vovnet.errors import UsageError, did_you_mean

SUBJECTS = {
    "table1": "the backbones: layers, strides, parameters",
    "table2": "light detectors on VOC",
    "table3": "the 1×1 bottleneck",
    "table4": "RefineDet320 on COCO",
    "table5": "Mask R-CNN from scratch",
    "table6": "COCO test-dev beside other methods",
    "table7": "RefineDet512 by batch size",
    "figure2": "how strongly layers use earlier ones",
    "figure3": "Table 2 as plots",
    "figure4": "Table 4 as plots",
    "figure5": "pictures with what detectors find",
    "mac": "memory access cost, Eq. (1)",
    "claims": "the text's claims against the tables",
}
ALL = "all"


def choose(names: Sequence[str]) -> list[str]:
    """The subjects of these names, each once and in the paper's order. Raises UsageError for a wrong one."""
    for name in names:
        if name not in SUBJECTS and name != ALL:
            known = (*SUBJECTS, ALL)
            near = did_you_mean(name, known) or f" (there are: {', '.join(known)})"
            raise UsageError(f"nothing to reproduce is called {name!r}{near}")
    return [name for name in SUBJECTS if ALL in names or name in names]

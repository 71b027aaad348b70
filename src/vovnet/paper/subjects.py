"""What can be reproduced, by name, and the section for each name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vovnet.errors import unknown_name

if TYPE_CHECKING:
    from vovnet.paper.sources import Sources
    from vovnet.report.document import Section

SUBJECTS = {
    "table1": "Backbones: layers, strides and parameters",
    "table2": "Lightweight detectors on VOC",
    "table3": "A 1×1 bottleneck in VoVNet-27-slim",
    "table4": "RefineDet320 on COCO",
    "table5": "Mask R-CNN from scratch on COCO",
    "table6": "COCO test-dev, with other methods",
    "table7": "RefineDet512 by training batch size",
    "figure2": "Connection strengths between layers",
    "figure3": "Scatter plots of Table 2",
    "figure4": "Scatter plots of Table 4",
    "figure5": "Example detections",
    "mac": "Memory access cost, Eq. (1)",
    "claims": "Claims in the text, checked against the tables",
}
ALL = "all"


def choose(names: Sequence[str]) -> list[str]:
    """The subjects with these names, each once and in the paper's order. Raises UsageError for an unknown name."""
    for name in names:
        if name not in SUBJECTS and name != ALL:
            raise unknown_name("subject of the paper", name, (*SUBJECTS, ALL))
    return [name for name in SUBJECTS if ALL in names or name in names]


def section_of(name: str, sources: Sources) -> Section:
    # Imported here, so that the list of subjects is shown without waiting for PyTorch.
    from vovnet.paper.aggregation.figure2 import figure_2_section
    from vovnet.paper.claims import claims_section
    from vovnet.paper.figures import figure_5_section, scatter_section
    from vovnet.paper.memory_access import memory_access_section
    from vovnet.paper.table1 import table_1_section
    from vovnet.paper.tables import table_section

    if name == "table1":
        return table_1_section()
    if name == "mac":
        return memory_access_section()
    if name == "claims":
        return claims_section(sources)
    if name == "figure2":
        return figure_2_section(sources.records)
    if name == "figure5":
        return figure_5_section(sources.records)
    return table_section(name, sources) if name.startswith("table") else scatter_section(name, sources)

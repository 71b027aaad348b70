"""What can be reproduced, by name, and the section for each name.

Imports are local, so that the list is shown without waiting for PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from vovnet.paper.accuracy import Accuracies
    from vovnet.paper.blood_cells import Study
    from vovnet.paper.measured import Record
    from vovnet.report.document import Section

SUBJECTS = {
    "table1": "Backbones: layers, strides and parameters",
    "table2": "Lightweight detectors on VOC",
    "table3": "A 1×1 bottleneck in VoVNet-27-slim",
    "table4": "RefineDet320 on COCO",
    "table5": "Mask R-CNN from scratch on COCO",
    "table6": "COCO test-dev, with other methods",
    "table7": "RefineDet512 by training batch size",
    "figure2": "How strongly layers use earlier ones",
    "figure3": "Scatter plots of Table 2",
    "figure4": "Scatter plots of Table 4",
    "figure5": "Example detections",
    "mac": "Memory access cost, Eq. (1)",
    "claims": "Claims of the text, checked against the tables",
}
ALL = "all"


@dataclass(frozen=True)
class Sources:
    """Where measured values come from.

    accuracies: evaluations of finished runs.
    records: folder of earlier records.
    fresh: folder with the records that this run has measured, for the tables in `measured`.
    """

    accuracies: Accuracies
    records: Path | None = None
    fresh: Path | None = None
    measured: Sequence[str] = ()

    def record(self, table: str) -> Record | None:
        from vovnet.paper.measured import read_record

        folder = self.fresh if table in self.measured else self.records
        return None if folder is None else read_record(table, folder)

    def studies(self) -> Mapping[str, Study]:
        from vovnet.paper.blood_cells import read_studies

        return {} if self.records is None else read_studies(self.records)


def choose(names: Sequence[str]) -> list[str]:
    """The subjects with these names, each once and in the paper's order. Raises UsageError for an unknown name."""
    for name in names:
        if name not in SUBJECTS and name != ALL:
            known = (*SUBJECTS, ALL)
            hint = did_you_mean(name, known) or f"; the names are {', '.join(known)}"
            raise UsageError(f"nothing to reproduce is called {name!r}{hint}")
    return [name for name in SUBJECTS if ALL in names or name in names]


def section_of(name: str, sources: Sources) -> Section:
    from vovnet.paper.aggregation.figure2 import figure_2_section
    from vovnet.paper.claims import claims_section
    from vovnet.paper.figures import SCATTER_FIGURES, figure_5_section, scatter_section
    from vovnet.paper.memory_access import memory_access_section
    from vovnet.paper.tables import table_1_section, table_section

    if name == "table1":
        return table_1_section()
    if name == "mac":
        return memory_access_section()
    if name == "claims":
        return claims_section(sources.record)
    if name == "figure2":
        return figure_2_section(sources.records)
    if name == "figure5":
        return figure_5_section(sources.records)
    if name in SCATTER_FIGURES:
        record = sources.record(SCATTER_FIGURES[name].table)
        return scatter_section(name, record, sources.accuracies, sources.studies())
    return table_section(name, sources.record(name), sources.accuracies, sources.studies())

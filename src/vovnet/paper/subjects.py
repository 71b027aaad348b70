"""The sections of what there is to reproduce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vovnet.paper.accuracy import Accuracies
from vovnet.paper.blood_cells import Study, read_studies
from vovnet.paper.claims import claims
from vovnet.paper.figures import PANELS, SOURCES, figure_2, figure_5, scatter_section
from vovnet.paper.measured_tables import Record, read_record
from vovnet.paper.memory_access import memory_access
from vovnet.paper.tables import table_1, table_section
from vovnet.report.document import Section


@dataclass(frozen=True)
class Sources:
    """Where measured figures come from. records: a folder of records; fresh: one of this run's, of the tables in
    `measured`, which go first."""

    accuracies: Accuracies
    records: Path | None = None
    fresh: Path | None = None
    measured: Sequence[str] = ()

    def record(self, table: str) -> Record | None:
        folder = self.fresh if table in self.measured else self.records
        return None if folder is None else read_record(table, folder)

    def studies(self) -> Mapping[str, Study]:
        return {} if self.records is None else read_studies(self.records)


def section_of(name: str, sources: Sources) -> Section:
    if name == "table1":
        return table_1()
    if name in PANELS:
        return scatter_section(name, sources.record(SOURCES[name]), sources.accuracies, sources.studies())
    if name == "figure2":
        return figure_2(sources.records)
    if name == "figure5":
        return figure_5(sources.records)
    if name == "mac":
        return memory_access()
    if name == "claims":
        return claims(sources.record)
    return table_section(name, sources.record(name), sources.accuracies, sources.studies())

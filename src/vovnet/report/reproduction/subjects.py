"""The sections of what there is to reproduce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vovnet.report.reproduction.accuracy import Accuracies
from vovnet.report.reproduction.blood_cells import Study, read_studies
from vovnet.report.reproduction.claims import claims
from vovnet.report.reproduction.figures import PANELS, SOURCES, figure_2, figure_5, scatter_section
from vovnet.report.reproduction.measuring import Record, read_record
from vovnet.report.reproduction.memory_access import memory_access
from vovnet.report.reproduction.tables import compared_table, table_1
from vovnet.report.section import Section


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
    return compared_table(name, sources.record(name), sources.accuracies, sources.studies())

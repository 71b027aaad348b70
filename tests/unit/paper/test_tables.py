"""Cells of the tables: exact, derived and needed, and that a difference shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vovnet.paper import table1, tables
from vovnet.paper.published import TABLE_1, TABLES
from vovnet.paper.rounding import whole_ms
from vovnet.paper.sources import Sources
from vovnet.report.document import Table

TABLE_2, TABLE_4 = TABLES["table2"], TABLES["table4"]


def data_of(section, column, title=""):
    """Row → the cell of a column in a compared table, from its JSON data."""
    table = next(part for part in section.parts if isinstance(part, Table) and part.title == title)
    return {cell["row"]: cell for cell in table.data if cell["column"].startswith(column)}


def kinds(cells):
    return {row: [answer["kind"] for answer in cell["answers"]] for row, cell in cells.items()}


def test_fps_without_whole_milliseconds(monkeypatch):
    assert whole_ms("30.9") is None  # 1000 / 33 is 30.3, 1000 / 32 is 31.25
    rows = tuple(replace(row, values={**row.values, "fps": "30.9"}) for row in TABLE_2.rows)
    monkeypatch.setitem(TABLES, "table2", replace(TABLE_2, rows=rows))
    section = tables.table_section("table2", Sources())
    for column in ("FPS", "efficiency"):
        assert set(map(tuple, kinds(data_of(section, column)).values())) == {("differs", "needs")}


def test_table_1_and_a_backbone_that_differs_from_it(monkeypatch):
    cells = data_of(table1.table_1_section(), "VoVNet-39")
    assert set(map(tuple, kinds(cells).values())) == {("exact",)}
    assert cells["stage 4"]["published"] == "2 × OSA(5 × 3×3 of 192 → 768)"
    stem, *others = TABLE_1
    monkeypatch.setattr(table1, "TABLE_1", ((*stem[:3], "3×3, 32, stride 2", stem[4]), *others))
    assert kinds(data_of(table1.table_1_section(), "VoVNet-39"))["stem 1, 3×3"] == ["differs"]


def test_totals_of_table_1():
    table = table1.table_1_section().parts[-1]
    assert table.rows[1][-3:] == ["21,575,296", "22,600,296", "7,765,860,352"]
    assert table.rows[0][1:3] == ["112,832", "279,424"]


@pytest.mark.parametrize("row", [*TABLE_2.rows, *TABLE_4.rows], ids=lambda row: row.model)
def test_efficiency_is_flops_over_whole_milliseconds(row):
    norms = row in TABLE_4.rows
    ms = whole_ms(row.values["fps"])
    assert tables.efficiency_answer(row, ms, with_norms=norms).kind == "derived"
    wrong = replace(row, values={**row.values, "efficiency": "999"})
    assert tables.efficiency_answer(wrong, ms, with_norms=norms).kind == "differs"


def test_without_records_all_that_must_be_run_is_needed():
    section = tables.table_section("table4", Sources())
    (cell,) = [cell for row, cell in data_of(section, "AP").items() if row == "VoVNet-39"]
    assert cell["answers"][0]["kind"] == "needs"
    section = tables.table_section("table2", Sources())
    for column in ("FPS", "memory", "energy", "efficiency", "mAP"):
        for cell in data_of(section, column).values():
            last = cell["answers"][-1]
            assert (last["kind"], last["text"], last["value"]) == ("needs", "", None)
            assert last["note"].startswith(("`vovnet reproduce table2 --measure`", "`vovnet train configs/"))
    assert [cell["answers"][0]["text"] for cell in data_of(section, "implied power").values()] == [
        "85",
        "84",
        "130",
        "64",
    ]

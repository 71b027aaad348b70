"""The tables of the study on blood cells."""

from __future__ import annotations

from vovnet.paper.blood_cells import bottleneck_table, equal_budget_table, read_studies
from vovnet.paper.measured import read_record

from .reproduced import TABLE_2 as TIMES
from .reproduced import write_record, write_study


def test_blood_cells(tmp_path):
    write_study(tmp_path, "dsod300_vovnet27_slim", [0.80, 0.84, 0.82])
    write_study(tmp_path, "dsod300_vovnet27_slim_bottleneck", [0.79, 0.81, 0.83])
    write_study(tmp_path, "pelee304", [0.7])
    studies = read_studies(tmp_path)
    table = bottleneck_table(studies)
    assert [row[1] for row in table.rows] == ["82.00", "81.00", "−1.00"]
    assert table.rows[2][2] == "−1.00; −3.00; +1.00"
    assert any("−3.00 … +1.00 over 3 seeds, standard deviation 2.00" in note for note in table.notes)
    assert any("24 epochs" in note for note in table.notes)
    write_record(tmp_path, "table2", TIMES)
    rows = {row[0]: row[1:] for row in equal_budget_table(studies, read_record("table2", tmp_path)).rows}
    assert rows["Pelee304, PeleeNet"][:4] == ["70.0"] * 4
    assert rows["DSOD300, VoVNet-27-slim"][3:7] == ["82.0", "5,000,000", "6,000,000,000", "27.00"]
    assert rows["DSOD300, VoVNet-27-slim"][8] == "500"
    assert rows["SSD300, MobileNet"][0] == "needs"


def test_a_study_without_its_pair_gives_no_difference(tmp_path):
    write_study(tmp_path, "dsod300_vovnet27_slim", [0.8, 0.9])
    table = bottleneck_table(read_studies(tmp_path))
    assert [row[1] for row in table.rows] == ["85.00", "needs"]
    assert "bccd_study.py" in table.notes[-1]

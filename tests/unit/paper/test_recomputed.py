"""Counts recomputed from the structure next to the printed counts."""

from __future__ import annotations

import pytest

from vovnet.paper.published import TABLES
from vovnet.paper.recomputed import detector_cost, flops_answer, parameters_answer


def test_counts_of_table_2_and_4():
    """All equal the printed values, but DenseNet-67's parameters only with its running statistics."""
    for table in ("table2", "table4"):
        for row in TABLES[table].rows:
            assert flops_answer(row.model, row.values["flops"], with_norms=table == "table4").kind == "exact", row.name
            answer = parameters_answer(row.model, row.values["parameters"])
            assert answer.kind == "exact", row.name
            assert (answer.remark == "with running statistics") == (row.model == "dsod300_densenet67")
    dense = parameters_answer("dsod300_densenet67", "5.9")
    assert (dense.text, dense.note[:15], dense.note[-7:]) == ("5.872", "includes 38,908", "5.833 M")
    assert detector_cost("dsod300_vovnet27_slim").parameters == 5_971_932
    assert detector_cost("refinedet320_vovnet39").parameters == 56_283_844


def test_flops_of_table_4_need_the_norms():
    assert flops_answer("refinedet320_resnet50", "25.43", with_norms=False).kind == "differs"
    assert detector_cost("refinedet320_resnet50").multiply_adds == 25_399_219_200


@pytest.mark.parametrize("printed", ["5.5", "5.8", "56.6"])
def test_a_wrong_printed_value_differs(printed):
    answer = flops_answer("dsod300_vovnet27_slim", printed, with_norms=False)
    assert (answer.kind, answer.text[:4]) == ("differs", "5.66")
    wrong = parameters_answer("dsod300_vovnet27_slim", "6.1")
    assert (wrong.kind, wrong.note) == ("differs", "")

"""Memory access cost by Eq. (1), and the readings of the printed costs."""

from __future__ import annotations

from dataclasses import replace

from vovnet.paper.memory_access import bound, equation_1, memory_access_section
from vovnet.paper.published import TABLES


def test_memory_access_cost():
    assert (equation_1(32, 3, 43, 43), round(bound(32, 3, 43, 43))) == (104_705, 104_705)
    assert (equation_1(32, 3, 148, 12), round(bound(32, 3, 148, 12))) == (179_824, 102_292)
    _, layers, networks, *_ = memory_access_section().parts
    assert [row[-1] for row in layers.rows] == ["1.000", "1.758"]
    readings = {row[0]: row[1:] for row in networks.rows}
    assert readings["blocks and transitions"][:2] == ["3,659,616 exact (rounded)", "2,567,321 exact (truncated)"]
    assert readings["3×3 layers of the three blocks"][:2] == ["3,058,272", "1,092,075"]

    def dense(side, c_in):
        return sum(equation_1(side, 3, c_in + 12 * layer, 12) for layer in range(12))

    def osa(side, c_in):
        return equation_1(side, 3, c_in, 43) + 4 * equation_1(side, 3, 43, 43)

    assert readings["3×3 layers of block 2"][:2] == [f"{dense(16, 160):,}", f"{osa(16, 231):,}"]
    assert readings["blocks and two transitions"][1] == "2,045,792"


def test_memory_access_that_is_not_the_printed_one_differs(monkeypatch):
    first, *others = TABLES["cifar"].rows
    rows = (replace(first, values={"memory_access_cost": "9.9"}), *others)
    monkeypatch.setitem(TABLES, "cifar", replace(TABLES["cifar"], rows=rows))
    networks = memory_access_section().parts[2]
    assert next(row for row in networks.rows if row[0] == "whole network")[1] == "3,684,442 differs"

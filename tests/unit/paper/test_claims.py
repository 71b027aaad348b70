"""Claims against the tables, by hand, and next to measured ratios."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vovnet.paper.claims import claims_section, measured_ratio, recompute
from vovnet.paper.measured import measured_answer
from vovnet.paper.published import TABLES
from vovnet.paper.published_claims import CLAIMS
from vovnet.paper.sources import Sources

from .reproduced import TABLE_2 as TIMES
from .reproduced import write_record


def test_claims_by_hand():
    verdicts = {(claim.value, claim.text.partition(",")[0]): recompute(claim) for claim in CLAIMS}
    assert verdicts["3.3", "AP for VoVNet-39 over ResNet-50"] == ("33.5 − 30.3 = 3.2", "does not hold")
    assert verdicts["4.1", "× reduction in energy vs DSOD300"] == ("3.7 / 0.9 = 4.11", "holds")
    assert verdicts["0.9", "box AP over ResNet-101-GN"][0].startswith("41.7 − 41.0 = 0.7; 41.9 − 41.0 = 0.9 ")
    assert verdicts["3.69", "mAP lost with the 1×1 bottleneck"][1] == "holds"
    broken = {value for (value, _), (_, verdict) in verdicts.items() if verdict == "does not hold"}
    assert broken == {"10", "3.3", "1.9", "0.9"}  # of the two claims of 10 ×, only that over PeleeNet


def test_a_wrong_claim_does_not_hold():
    claim = next(claim for claim in CLAIMS if claim.value == "6.87")
    assert recompute(claim)[1] == "holds"
    assert recompute(replace(claim, value="6.88"))[1] == "does not hold"


def test_claims_next_to_what_was_measured(tmp_path):
    write_record(tmp_path, "table2", TIMES)
    table = claims_section(Sources(tmp_path)).parts[1]
    assert table.rows[0][0] == "2× as fast as DSOD300, DenseNet-67"
    assert table.rows[0][-1].startswith("4.00 on Invented GPU")
    assert table.rows[1][-1] == ""  # Table 4 was not measured


@pytest.mark.parametrize(
    ("bounded", "limit"), [((0,), "≥ "), ((1,), "≤ "), ((0, 1), None), ((), "")], ids=["above", "below", "both", "none"]
)
def test_a_ratio_of_efficiencies_says_if_one_is_a_lower_bound(tmp_path, bounded, limit):
    claim = next(claim for claim in CLAIMS if "efficiency of PeleeNet" in claim.text)
    models = [TABLES["table2"].row(value.row).model for value in (claim.first, claim.second)]
    write_record(tmp_path, "table2", TIMES)
    path = tmp_path / "table2.json"
    record = json.loads(path.read_text())
    for measurement in record["measurements"]:
        if measurement["name"] in [models[index] for index in bounded]:
            measurement["cost"]["uncounted"] = {"aten::_fft_r2c": 2}
    path.write_text(json.dumps(record))
    ratio = measured_ratio(claim, Sources(tmp_path))
    if limit is None:
        assert ratio == ""
    else:
        assert ratio.startswith(limit)
        assert ratio[len(limit)].isdigit()
    answers = [measured_answer(Sources(tmp_path).record("table2"), "table2", model, "efficiency") for model in models]
    assert [answer.text.startswith("≥ ") for answer in answers] == [index in bounded for index in (0, 1)]
    speeds = [measured_answer(Sources(tmp_path).record("table2"), "table2", model, "fps") for model in models]
    assert not any("≥" in answer.text for answer in speeds)

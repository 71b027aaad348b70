"""`vovnet reproduce` as a reader of the paper runs it, and the rendered page in docs."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from vovnet.cli.main import main

from ..unit.paper.reproduced import TABLE_2, write_record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vovnet", "reproduce", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    return call


def test_without_names_it_lists_the_subjects(run):
    code, out, _ = run()
    assert code == 0
    for name in ("table1", "table7", "figure2", "figure5", "mac", "claims"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tabel4",), "did you mean 'table4'?"),
        (("claims", "--measure"), "--measure is for table2"),
        (("table2", "--runs", "."), "give --voc DIR or --coco DIR too"),
        (("table2", "--voc", "."), "give --runs DIR too"),
    ],
)
def test_wrong_usage(run, arguments, sentence):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_missing_folder(run):
    code, _, err = run("table2", "--records", "absent")
    assert code == 1
    assert err == "vovnet: the folder absent does not exist\n"


def test_a_table_its_plots_and_the_claims(run, tmp_path):
    write_record(tmp_path / "records", "table2", TABLE_2)
    code, out, _ = run("claims", "table2", "figure3", "--records", "records", "--output", "out", "--json", "all.json")
    assert code == 0
    assert out.index("Table 2") < out.index("Figure 3") < out.index("Claims")
    assert "5.872 exact (with running statistics)" in out
    assert "Invented GPU" in out
    files = sorted(path.name for path in Path("out").iterdir())
    assert files == ["figure3.png", "reproduction.html", "reproduction.json", "reproduction.md"]
    content = json.loads(Path("all.json").read_text())
    assert content == json.loads(Path("out/reproduction.json").read_text())
    assert list(content) == ["table2", "figure3", "claims"]
    cells = content["table2"]["parts"][0]["data"]
    (cell,) = [c for c in cells if c["row"] == "DSOD300, VoVNet-27-slim" and c["column"] == "params (M)"]
    assert (cell["published"], cell["answers"][0]["kind"], cell["answers"][0]["value"]) == ("5.9", "exact", 5.971932)
    for picture in re.findall(r"!\[.*\]\((.*)\)", Path("out/reproduction.md").read_text()):
        assert (Path("out") / picture).is_file()


def test_json_alone_on_standard_output(run):
    code, out, err = run("claims", "--json", "-")
    assert code == 0
    assert json.loads(out).keys() == {"claims"}
    assert "33.5 − 30.3 = 3.2" in err


def test_page_in_docs_is_what_the_records_give(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks/results.py")
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    page = (ROOT / "docs/reproduction.md").read_text()
    assert page == results.render_reproduction(), "run `make results` and commit docs/reproduction.md"

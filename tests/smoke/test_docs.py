"""What the documents claim is what the records and the code say."""

import importlib.util
import json
import re
import statistics
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from vovnet.cli.main import app
from vovnet.engine.config import TrainConfig
from vovnet.paper.published import TABLES

from ..pages import PAGES, blocks_of

RECORDS = Path("docs/records")
RECORD = RECORDS / "bccd.json"


def _results_module():
    spec = importlib.util.spec_from_file_location("results", "benchmarks/results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_results_page_is_what_the_records_give():
    page = Path("docs/results.md").read_text()
    assert page == _results_module().render(), "run `make results` and commit docs/results.md"


def test_shipped_weights_carry_the_record():
    from vovnet.weights.detector import load_weights

    loaded = load_weights("bccd")
    assert json.loads(RECORD.read_text()) == loaded.record
    assert loaded.info.class_names == ("Platelets", "RBC", "WBC")
    assert Path("src/vovnet/weights/bccd.safetensors").stat().st_size <= 24e6


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_records_say_where_they_come_from(path):
    assert {"command", "commit", "date"} <= json.loads(path.read_text()).keys()


def test_readme_quotes_the_record():
    record, readme = json.loads(RECORD.read_text()), Path("README.md").read_text()
    assert f"{100 * record['test']['voc07_map']:.1f} % mAP" in readme
    speed = json.loads((RECORDS / "bench.json").read_text())
    machine = f"({speed['machine']['cpu']}, {speed['machine']['threads']} threads)"
    assert f"| {speed['results']['inference_pixels_to_boxes_ms']:.1f} ms {machine} |" in readme


@pytest.mark.parametrize("row", TABLES["table2"].rows, ids=lambda row: row.model)
def test_readme_table_of_costs_quotes_the_records(row):
    """Accuracy from the study of blood cells, cost from the run behind Table 2, the rest from the paper."""
    runs = [json.loads(path.read_text()) for path in sorted((RECORDS / "bccd_study").glob(f"{row.model}_[0-9].json"))]
    measurements = json.loads((RECORDS / "table2.json").read_text())["measurements"]
    (measurement,) = (measurement for measurement in measurements if measurement["name"] == row.model)
    total = measurement["cost"]["total"]
    assert measurement["energy"]["energy_j_per_image"] is None
    readme, conditions = Path("README.md").read_text(), measurement["conditions"]
    assert f"{conditions['device_name']} CPU with {conditions['threads']} threads" in readme
    expected = [
        row.name,
        f"{100 * statistics.mean(run['test']['voc07_map'] for run in runs):.1f}",
        f"{measurement['latency']['median_ms']:.1f}",
        "not measured",
        f"{total['memory_access_cost'] / 1e6:.1f}",
        f"{total['multiply_adds'] / 1e9:.2f}",
        f"{measurement['memory']['peak_mib']:.0f}",
        row.values["map"],
        row.values["energy"],
    ]
    assert f"| {' | '.join(expected)} |" in readme


def test_readme_quotes_the_conditions_of_the_study():
    """The learning rate, the default boxes and the platelets that SSD misses make the accuracies hard to compare."""
    runs = {path.stem[:-2]: json.loads(path.read_text()) for path in (RECORDS / "bccd_study").glob("*_0.json")}
    assert len({run["config"]["optimizer"]["learning_rate"] for run in runs.values()}) == 1
    for model, run in runs.items():
        assert run["config"]["model_options"] == ({"anchors": "coco"} if model.startswith("dsod300") else {})
    missed = runs["ssd300_mobilenet"]["test"]["classes"]["Platelets"]["voc07_ap"]
    assert f"no platelets (AP {100 * missed:.1f} %)" in " ".join(Path("README.md").read_text().split())


COMMANDS = [
    ("predict", ["predict"]),
    ("data", ["data", "check"]),
    ("train", ["train"]),
    ("evaluate", ["evaluate"]),
    ("compare", ["compare"]),
    ("export", ["export"]),
    ("measure", ["measure"]),
    ("weights", ["weights", "import"]),
    ("weights", ["weights", "push"]),
    ("models", ["list"]),
    ("reproduce", ["reproduce"]),
]


@pytest.mark.parametrize(("page", "names"), COMMANDS, ids=lambda part: part if isinstance(part, str) else part[-1])
def test_page_of_a_command_mentions_its_options(page, names):
    command = app
    for name in names:
        command = command[name]
    text = Path(f"docs/{page}.md").read_text()
    arguments = command.assemble_argument_collection(parse_docstring=False)
    options = [argument.names for argument in arguments if argument.index is None and "*" not in argument.names]
    assert ("--json",) in options
    for names in options:
        assert any(name in text for name in names), f"docs/{page}.md lacks {' or '.join(names)}"


def _keys(schema: type[BaseModel]) -> list[str]:
    nested = [
        kind for field in schema.model_fields.values() for kind in (field.annotation, *get_args(field.annotation))
    ]
    sections = [kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [*schema.model_fields, *(key for section in sections for key in _keys(section))]


def test_training_page_mentions_every_key():
    text = Path("docs/train.md").read_text()
    for key in _keys(TrainConfig):
        assert re.search(rf"\b{key}\b", text), f"docs/train.md lacks {key}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page} links to {target}"


def test_readme_links_to_every_page():
    readme = Path("README.md").read_text()
    for page in set(PAGES) - {Path("README.md"), Path("runtime/README.md")}:
        assert f"]({page.as_posix()})" in readme, f"README.md lacks a link to {page}"


def test_tree_of_the_readme_is_there():
    (tree,) = (block for block in blocks_of(Path("README.md")) if block.text.startswith("src/"))
    for line in tree.text.splitlines():
        name = line.split()[0]
        path = Path("src/vovnet") / name if line.startswith("  ") else Path(name)
        assert path.exists(), name


def test_modules_named_as_new_in_the_changelog_exist():
    rows = [
        line.strip().strip("|").split("|") for line in Path("CHANGELOG.md").read_text().splitlines() if "| `" in line
    ]
    names = [name for _, new in rows for name in re.findall(r"`(vovnet[\w.]*)`", new)]
    assert names
    for name in names:
        assert importlib.util.find_spec(name) is not None, f"CHANGELOG.md names {name}"

"""What the documents claim is what the records and the code say."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

RECORD = Path("docs/records/bccd.json")


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


@pytest.mark.parametrize("path", sorted(Path("docs/records").glob("*.json")), ids=lambda path: path.stem)
def test_records_say_where_they_come_from(path):
    assert {"command", "commit", "date"} <= json.loads(path.read_text()).keys()


def test_readme_quotes_the_record():
    record = json.loads(RECORD.read_text())
    assert f"{record['test']['voc07_map']:.3f} mAP" in Path("README.md").read_text()


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert blocks
    samples = Path("samples").absolute()
    monkeypatch.chdir(tmp_path)
    Path("samples").symlink_to(samples)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert Path("drawn.jpg").exists()


@pytest.mark.parametrize(
    "page", [*Path(".").glob("*.md"), *Path("docs").glob("*.md"), Path("samples/README.md")], ids=str
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page} links to {target}"


def test_tree_of_the_readme_is_there():
    tree = Path("README.md").read_text().split("## Where things are")[1].split("```")[1]
    for line in tree.strip().splitlines():
        name = line.split()[0]
        path = Path("src/vovnet") / name if line.startswith("  ") else Path(name)
        assert path.exists(), name

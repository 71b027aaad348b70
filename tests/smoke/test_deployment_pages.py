"""The pages quote the records of runtimes and of the runner; without records they say that nothing is measured yet."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vovnet.files import json_text

from ..unit.made_up_runtimes import made_up, row


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The files of benchmarks by name; their folder is on the path as when they are run."""
    monkeypatch.syspath_prepend("benchmarks")
    for name in ("deployment_pages", "runtimes", "results", "shared"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import deployment_pages
    import results
    import runtimes

    return _namespace(deployment_pages, results, runtimes)


def _namespace(*modules: ModuleType) -> ModuleType:
    together = ModuleType("benchmarks")
    for item in modules:
        setattr(together, item.__name__, item)
    return together


def write_records(folder: Path, runtimes: ModuleType) -> None:
    measurement = made_up()
    results = {**runtimes.runtime_results(measurement), "slowest_export_s": 50.0, "runner_start_s": 0.3}
    (folder / "runtimes.json").write_text(json_text({"runtimes": runtimes.without_folders(measurement)}))
    (folder / "deployment.json").write_text(json_text(runtimes.make_record(measurement, results)))


def test_pages_are_what_the_records_give(module: ModuleType) -> None:
    for path, text in module.results.render_pages().items():
        assert path.read_text() == text, f"run `make results` and commit {path.name}"


def test_without_records_nothing_is_measured(module: ModuleType, tmp_path: Path) -> None:
    pages = module.deployment_pages
    assert pages.fastest_cell(tmp_path) == "not measured yet"
    assert "not measured yet" in pages.runtimes_block(tmp_path)
    assert "not measured yet" in pages.deployment(tmp_path)


def test_with_records_the_pages_quote_them(module: ModuleType, tmp_path: Path) -> None:
    write_records(tmp_path, module.runtimes)
    pages = module.deployment_pages
    assert pages.fastest_cell(tmp_path) == "6.2 ms (openvino:int8; Made-up CPU, 2 threads)"
    block = pages.runtimes_block(tmp_path)
    assert "| openvino | int8 | 86.52 | 6.200" in block
    assert "- mnn: not measured: MNN is not installed" in block
    section = pages.deployment(tmp_path)
    line = "| pixels → boxes, fastest runtime / eager PyTorch (time) | 0.154 | ≤ 0."
    assert line in section
    assert "| runner, start of the process → first boxes (s) | 0.300 | ≤ 0.5 |" in section
    assert "The fastest runtime was `openvino:int8`" in section


def test_marks_are_filled_once(module: ModuleType) -> None:
    fill = module.deployment_pages.fill
    page = "a <!-- x -->old\nlines<!-- /x --> b"
    assert fill(page, "x", r"new \1") == r"a <!-- x -->new \1<!-- /x --> b"
    assert fill(fill(page, "x", "1"), "x", "2") == "a <!-- x -->2<!-- /x --> b"
    with pytest.raises(ValueError, match="expected <!-- y --> once, found 0"):
        fill(page, "y", "new")


def test_claims_of_the_fastest_runtime(module: ModuleType) -> None:
    runtimes = module.runtimes
    results = runtimes.runtime_results(made_up(row("torch", "float32", 40), row("openvino", "int8", 6, map_=0.8552)))
    assert results["auto_to_eager_ratio"] == pytest.approx(6.2 / 40.2, rel=0.01)
    assert results["pixels_to_boxes_to_network_ratio"] == pytest.approx(6.2 / 4.2)
    assert results["ap_loss_val"] == pytest.approx(0.01)
    broken = runtimes.broken_claims(results)
    assert "ap_loss_val" in broken
    assert "auto_to_eager_ratio" not in broken
    assert "runner_start_s" in broken, "what was not measured does not hold"
    with pytest.raises(ValueError, match="first row"):
        runtimes.runtime_results(made_up(row("openvino", "int8", 6), row("torch", "float32", 40)))


def test_a_record_names_no_folder(module: ModuleType) -> None:
    from dataclasses import replace

    measurement = made_up(replace(row("torch", "float32", 40), file="/somewhere/private/bccd.safetensors"))
    assert module.runtimes.without_folders(measurement)["rows"][0]["file"] == "bccd.safetensors"


def test_the_runner_is_measured_in_another_python(module: ModuleType, tmp_path: Path) -> None:
    """A program that answers as the real one does."""
    program = (
        "import json, sys\nprint(2, flush=True)\nif sys.stdin.readline().strip():\n"
        "    print(json.dumps({'growth_mib': 0.5, 'peak_mib': 99.0, 'model': sys.argv[1]}))\n"
    )
    results = module.runtimes.measure_runner(Path(sys.executable), Path("a.onnx"), Path("b.jpg"), program=program)
    assert results.pop("runner_start_s") > 0
    assert results == {"runner_peak_mib": 99.0, "runner_growth_mib": 0.5}
    with pytest.raises(RuntimeError, match="the runner ended with status 3"):
        module.runtimes.measure_runner(Path(sys.executable), Path("a"), Path("b"), program="import sys; sys.exit(3)")


def test_the_bench_checks_the_claims_on_runtimes_for_the_cpu_at_hand(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bounds depend on the instructions, which the table and the record name. A broken claim fails the whole."""
    runtimes, shared = module.runtimes, sys.modules["shared"]
    monkeypatch.setattr(shared, "RECORDS", tmp_path)
    results = {**dict.fromkeys(runtimes.claims(), 0.0), "auto_to_eager_ratio": 0.3}
    for dot_product, bound in ((True, 0.2), (False, 0.5)):
        monkeypatch.setattr(runtimes, "has_int8_dot_product", lambda answer=dot_product: answer)
        part = runtimes.checked(runtimes.make_record(made_up(), results, "make bench"), results)
        assert part.broken == (["auto_to_eager_ratio"] if dot_product else [])
        other = shared.Checked("bench", {"claims": {"a": "≤ 1"}}, ["", ""], [["a", "0.5"]], [])
        if dot_product:
            with pytest.raises(SystemExit, match="claims that do not hold: auto_to_eager_ratio"):
                shared.finish(other, part)
        else:
            shared.finish(other, part)
        record = json.loads((tmp_path / "deployment.json").read_text())
        assert record["claims"]["auto_to_eager_ratio"] == f"≤ {bound:g}"
        assert record["command"] == "make bench"
        assert record["machine"]["instructions"] in capsys.readouterr().out
    assert (tmp_path / "bench.json").exists()


def test_results_have_words(module: ModuleType) -> None:
    assert module.runtimes.claims().keys() == module.deployment_pages.RESULTS.keys()
    assert json.loads(json_text(module.runtimes.make_record(made_up(), {"a": 1.0})))["claims"].keys() == (
        module.runtimes.claims().keys()
    )

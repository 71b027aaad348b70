"""What the stages decide: the order of the tables, the batch that fills a card, when training stops, what is kept."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vovnet.paper.gpu_records import read_stage
from vovnet.weights.detector import ModelInfo, load_model, save_weights


def options(folder, **changes):
    from gpu_stages.stage import Options

    values = {"output": folder / "out", "work": folder / "work", "data": None, "cifar": None}
    return Options(**values | {"rehearse": True, "again": False} | changes)


def make_stage(folder, name, **changes):
    from gpu_stages.record import StageRecord
    from gpu_stages.stage import Stage

    chosen = options(folder, **changes)
    record = StageRecord(chosen.output, name, rehearsal=chosen.rehearse)
    record.begin("command", {"card": "none"})
    return Stage(chosen, record, "key", time.monotonic() + 1e4)


def test_all_sources_of_all_stages_are_there():
    import gpu
    from gpu_stages.keys import source_key
    from shared import ROOT

    keys = {source_key(ROOT, kind.sources, {}) for kind in gpu.KINDS.values()}
    assert len(keys) == len(gpu.KINDS)
    assert list(gpu.KINDS) == ["check", "tables", "voc", "throughput", "study"]


def test_report_of_pytest():
    from gpu_stages.check import summary

    report = """<testsuites><testsuite>
      <testcase classname="a" name="good"/>
      <testcase classname="a" name="bad"><failure message="assert 1 ==   2&#10;more">trace</failure></testcase>
      <testcase classname="a" name="broken"><error message="no fixture"/></testcase>
      <testcase classname="a" name="later"><skipped message="needs two GPUs"/></testcase>
    </testsuite></testsuites>"""
    found = summary(report)
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert found["failures"]["a::bad"] == "assert 1 == 2 more"
    assert found["skips"] == {"a::later": "needs two GPUs"}
    skipped = '<testsuites><testcase classname="a" name="b"><skipped message="no GPU"/></testcase></testsuites>'
    with pytest.raises(ValueError, match=r"no test ran \(1 were skipped\)"):
        summary(skipped)


TESTS = """import time
def test_first(): pass
def test_slow(): time.sleep({seconds})
"""


def test_tests_that_are_not_done_in_time_leave_those_before_them(tmp_path):
    from gpu_stages import check

    (tmp_path / "test_it.py").write_text(TESTS.format(seconds=60))
    arguments = [str(tmp_path), f"--rootdir={tmp_path}", "-p", "no:cacheprovider", "-q"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        found = check.run_pytest(arguments, tmp_path / "report.xml", limit_s=4)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (found["passed"], found["failed"]) == (1, 0)
    assert found["stopped"] == "the tests were not done after 4 s"


@pytest.mark.parametrize(
    ("found", "done"),
    [
        ({"passed": 2, "failed": 0}, True),
        ({"passed": 2, "failed": 1}, False),
        ({"passed": 2, "failed": 0, "stopped": "the tests were not done after 4 s"}, False),
    ],
)
def test_failed_and_unfinished_tests_are_no_finished_stage(tmp_path, monkeypatch, found, done):
    from gpu_stages import check

    stage = make_stage(tmp_path, "check")
    monkeypatch.setattr(check, "_pytest", lambda stage: found)
    check.run(stage)
    stage.end()
    (run,) = json.loads((tmp_path / "out/check.json").read_text())["runs"].values()
    assert (check.is_done(stage.record, "key"), stage.some_failed) == (done, not done)
    assert run["state"] == ("finished" if done else "incomplete")


def test_a_missing_or_partial_pack_is_named_and_training_does_not_begin(tmp_path):
    from gpu_stages import voc
    from gpu_stages.voc_data import find_pack, tiny_pack

    assert "--data DIR" in find_pack(None)
    assert "lacks JPEGImages" in find_pack(tmp_path)
    pack = tiny_pack(tmp_path)
    assert find_pack(pack) is None
    next((pack / "JPEGImages").iterdir()).unlink()
    assert "1 of 6 images are not in" in find_pack(pack)
    assert "1 of 6 images are not in" in voc.lacks(options(tmp_path, data=pack, rehearse=False))
    assert voc.lacks(options(tmp_path)) is None


def test_made_up_photographs_are_a_pack(tmp_path):
    from gpu_stages.voc_data import find_pack, made_up_pack

    from vovnet.data.formats import open_dataset

    pack = made_up_pack(tmp_path, 3)
    assert find_pack(pack) is None
    dataset = open_dataset(pack, "fit")
    assert len(dataset) == 3
    assert [len(sample.target) for sample in dataset] == [3, 3, 3]


def weights_file(path, score, note):
    torch.manual_seed(0)
    info = ModelInfo("pelee304", {}, ("a", "b"), (1, 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, info.build().state_dict(), info, {"note": note, "test": {"voc07_map": score}})


def test_the_better_weights_stay(tmp_path):
    from gpu_stages import voc

    stage = make_stage(tmp_path, "voc")
    files = voc.Files(stage.options)
    for number, (score, kept) in enumerate([(0.3, "first"), (0.2, "first"), (0.4, "third")], start=1):
        name = {1: "first", 2: "second", 3: "third"}[number]
        weights_file(tmp_path / "work/voc.safetensors", score, name)
        voc._keep_the_better(stage, files, {"test": {"voc07_map": score}, "note": name})
        assert load_model(files.weights).record["note"] == kept
        assert stage.record.get("held", "key")["note"] == kept


@pytest.mark.parametrize(("score", "done"), [(0.449, False), (0.45, True)])
def test_training_goes_on_until_the_weights_can_ship(tmp_path, score, done):
    from gpu_stages import voc

    stage = make_stage(tmp_path, "voc", rehearse=False)
    assert not voc.is_done(stage.record, "key")
    stage.record.put("held", "key", {"test": {"voc07_map": score}})
    assert voc.is_done(stage.record, "key") is done


def test_what_a_later_run_starts_from(tmp_path, monkeypatch):
    from gpu_stages import voc

    files = voc.Files(options(tmp_path))
    monkeypatch.setattr(voc, "shipped_weights", lambda: {"bccd": Path("bccd")})
    assert voc._start_weights(files) is None
    shipped = tmp_path / "shipped.safetensors"
    shipped.touch()
    monkeypatch.setattr(voc, "shipped_weights", lambda: {"voc": shipped})
    assert voc._start_weights(files) == shipped
    files.options.output.mkdir()
    files.weights.touch()
    assert voc._start_weights(files) == files.weights
    files.unfinished.touch()
    assert voc._start_weights(files) == files.unfinished


def test_training_is_stopped_in_time_and_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    from gpu_stages import voc

    stage = make_stage(tmp_path, "voc")
    stopping = voc._Keeper

    class Late(stopping):
        def __init__(self, files, late_s):
            super().__init__(files, time.monotonic())  # its time is over at the first step

    monkeypatch.setattr(voc, "_Keeper", Late)
    voc.run(stage)
    first = json.loads((tmp_path / "out/voc.json").read_text())["results"]["round 1"]
    assert (first["finished"], first["steps"], first["planned_steps"]) == (False, 1, 4)
    assert (tmp_path / "out/voc.safetensors").is_file()

    monkeypatch.setattr(voc, "_Keeper", stopping)
    stage.record.content["results"].pop("held")
    later = make_stage(tmp_path, "voc")
    later.record.content["results"].pop("held")
    voc.run(later)
    results = json.loads((tmp_path / "out/voc.json").read_text())["results"]
    assert results["round 2"]["start"] == "the checkpoint of a stopped run"
    assert (results["round 2"]["finished"], results["round 2"]["steps"]) == (True, 4)
    assert "trial 2" not in results
    assert not (tmp_path / "out/voc_unfinished.safetensors").exists()
    log = [json.loads(line) for line in (tmp_path / "out/voc.log.jsonl").read_text().splitlines()]
    assert [(entry["round"], entry["step"]) for entry in log] == [(1, 1), (2, 2), (2, 3), (2, 4)]
    kept = load_model(tmp_path / "out/voc.safetensors")
    assert kept.info.name == "dsod300_vovnet27_slim"
    assert kept.record["command"] == "command"  # that of the run
    assert "tmp" not in json.dumps(kept.record)  # no path of a machine
    shutil.rmtree(tmp_path / "work")


def simulated_log(*, workers, step_s, batch_s, log_every, steps):
    """Of steps that take `step_s`, fed by loaders that give a batch every `batch_s`, from full queues on."""
    from vovnet.data.loading import BATCHES_AHEAD

    now_s, log, last_s = 0.0, [], 0.0
    for step in range(1, steps + 1):
        arrived_s = (step - workers * BATCHES_AHEAD) * batch_s
        now_s = max(now_s, arrived_s) + step_s
        if step % log_every == 0:
            log.append({"step": step, "images_per_s": log_every / (now_s - last_s)})
            last_s = now_s
    return log


@pytest.mark.parametrize("workers", [0, 1, 15])
@pytest.mark.parametrize("log_every", [8, 10])
@pytest.mark.parametrize("batch_s", [0.5, 1.25, 2.0])
def test_measured_speed_is_that_of_the_loaders_if_they_are_slower(workers, log_every, batch_s):
    from gpu_stages.steady import span

    steady = span(workers, log_every)
    log = simulated_log(workers=workers, step_s=1.0, batch_s=batch_s, log_every=log_every, steps=steady.steps)
    assert steady.steps - steady.first >= 100
    if workers:
        assert steady.speed(log) == pytest.approx(1 / max(1.0, batch_s), rel=0.01)
    else:
        assert steady.first in (8, 10)


def test_networks_of_the_study_share_their_epochs(tmp_path):
    from gpu_stages import study

    stage = make_stage(tmp_path, "study", rehearse=False)
    speeds = dict.fromkeys(study.NETWORKS, 50_000.0)  # an epoch a second each
    stage.deadline_s = time.monotonic() + 1e4
    assert study._epochs(stage, list(study.NETWORKS), speeds, 50_000) == 40
    stage.deadline_s = time.monotonic() + 100
    assert study._epochs(stage, list(study.NETWORKS), speeds, 50_000) == 22
    stage.deadline_s = time.monotonic() + 20
    assert study._epochs(stage, list(study.NETWORKS), speeds, 50_000) == 40  # for the first network alone
    stage.record.put("densenet40", "key", {"settings": {"epochs": 25}})
    assert study._epochs(stage, list(study.NETWORKS[1:]), speeds, 50_000) == 25


ARGS = SimpleNamespace(command="command", commit="abc1234", budget=580.0)


def test_the_last_stage_gets_the_rest_and_what_is_done_is_left_out(tmp_path, capsys, monkeypatch):
    import gpu
    from gpu_stages.voc_data import tiny_pack

    monkeypatch.setattr(gpu, "card_name", lambda device: "Invented GPU")
    chosen = options(tmp_path, rehearse=False, data=tiny_pack(tmp_path), cifar=tmp_path)
    kind = gpu.KINDS["voc"]
    plans = gpu._plans(["check", "tables", "voc", "study"], chosen, ARGS)
    assert [plan.name for plan in plans] == ["check", "tables", "voc", "study"]
    assert [plan.seconds for plan in plans] == [80.0, 200.0, 300.0, float("inf")]
    make_stage(tmp_path, "voc", rehearse=False).record.put("held", "any", {"test": {"voc07_map": 0.5}})
    plans = gpu._plans(["tables", "voc"], chosen, ARGS)
    assert [(plan.name, plan.seconds, plan.least_s) for plan in plans] == [("tables", float("inf"), 25.0)]
    assert capsys.readouterr().out == "voc: done, and its code has not changed; --again repeats it\n"
    (alone,) = gpu._plans(["voc"], chosen, ARGS)
    assert alone.seconds == float("inf")
    assert kind.least_s == alone.least_s
    command = alone.command(12.5)
    assert command[command.index("--deadline") + 1] == "12.5"
    assert command[command.index("--stage") + 1] == "voc"
    assert command[command.index("--commit") + 1] == "abc1234"


def test_what_was_not_brought_along_is_missing_and_tables_get_its_time(tmp_path, monkeypatch):
    import gpu

    monkeypatch.setattr(gpu, "card_name", lambda device: "Invented GPU")
    plans = gpu._plans(["check", "tables", "voc", "throughput", "study"], options(tmp_path, rehearse=False), ARGS)
    assert [plan.name for plan in plans] == ["check", "tables", "throughput"]
    used = gpu.KINDS["check"].seconds + gpu.KINDS["throughput"].seconds
    assert [plan.seconds for plan in plans] == [80.0, ARGS.budget - used, float("inf")]
    for name, option in (("voc", "--data DIR"), ("study", "--cifar DIR")):
        assert option in json.loads((tmp_path / f"out/{name}.json").read_text())["missing"][name]


def test_a_failure_is_noted_of_the_run_that_failed(tmp_path, monkeypatch):
    import gpu
    from gpu_stages.voc_data import tiny_pack

    monkeypatch.setattr(gpu, "card_name", lambda device: "Invented GPU")
    chosen = options(tmp_path, rehearse=False, data=tiny_pack(tmp_path))
    make_stage(tmp_path, "voc", rehearse=False).end()
    (plan,) = gpu._plans(["voc"], chosen, ARGS)
    plan.failed("ended with status 1\nImportError")  # before it had begun
    content = json.loads((tmp_path / "out/voc.json").read_text())
    assert [run["state"] for run in content["runs"].values()] == ["finished", "failed"]
    assert list(content["runs"].values())[1]["error"] == "ended with status 1\nImportError"
    assert read_stage(write_as_gpu_record(content, tmp_path), "voc")["results"] == {}

    (plan,) = gpu._plans(["voc"], chosen, ARGS)
    make_stage(tmp_path, "voc", rehearse=False)  # begins a run in the stage's own process
    plan.failed("stopped: it was not done after 315 s")
    runs = json.loads((tmp_path / "out/voc.json").read_text())["runs"]
    assert [run["state"] for run in runs.values()] == ["finished", "failed", "stopped"]


def write_as_gpu_record(content, folder):
    records = folder / "records"
    (records / "gpu").mkdir(parents=True)
    (records / "gpu/voc.json").write_text(json.dumps(content))
    return records


def test_made_up_sensor_sees_the_work():
    from gpu_stages.rehearsed import RehearsedSensor

    sensor = RehearsedSensor()
    assert sensor.read("sampled") == 10.0
    with sensor.working():
        assert sensor.read("sampled") == 100.0
        before = sensor.read("counter")
        time.sleep(0.02)
        assert sensor.read("counter") > before + 1.5

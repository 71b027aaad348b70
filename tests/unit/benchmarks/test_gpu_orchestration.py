"""Stages run in order within the budget, in processes of their own, and lose nothing that is done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def planned(name, code, *, seconds=20.0, least_s=0.0, log):
    """A fake stage that runs `code`, in which `given_s` is the time that it was given."""
    from gpu_stages.orchestration import Planned

    return Planned(
        name,
        seconds,
        least_s,
        lambda deadline_s: [sys.executable, "-u", "-c", f"given_s = {deadline_s - time.monotonic()}\n{code}"],
        failed=lambda reason: log.append((name, "failed", reason)),
        skipped=lambda reason: log.append((name, "skipped", reason)),
    )


def run(stages, budget_s=30.0, **options):
    from gpu_stages.orchestration import run_stages

    shown: list[str] = []
    return run_stages(stages, budget_s, show=shown.append, **options), shown


def test_every_line_tells_the_seconds_left():
    log = []
    well, shown = run([planned("first", "print('one\\ntwo')", log=log), planned("second", "print('three')", log=log)])
    assert well
    assert log == []
    assert all(line.partition(" s left │ ")[0].strip().isdigit() for line in shown)
    texts = [line.split(" │ ", 1)[1] for line in shown]
    assert [text for text in texts if "begins" not in text] == ["first │ one", "first │ two", "second │ three"]


def test_a_stage_that_fails_leaves_its_error_and_the_others_run():
    log = []
    code = "import sys\nprint('before')\nsys.exit(3)"
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    stages = [planned("a", code, log=log), planned("b", crash, log=log), planned("c", "print('well')", log=log)]
    well, shown = run(stages)
    assert not well
    assert log == [("a", "failed", "ended with status 3\nbefore"), ("b", "failed", "was ended by SIGSEGV")]
    assert shown[-1].endswith("c │ well")


def test_a_stage_that_hangs_is_stopped_with_all_that_it_started(tmp_path):
    log, child = [], tmp_path / "child"
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    from gpu_stages import orchestration

    orchestration.LAST_S = 0.5
    well, _ = run([planned("hangs", code, seconds=1.5, log=log), planned("next", "pass", log=log)], grace_s=0.5)
    assert not well
    assert log == [("hangs", "failed", "stopped: it was not done after 2 s")]
    pid = int(child.read_text())
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process that the stage started lives on")


@pytest.mark.parametrize("leaves_group", [False, True])
def test_a_process_that_outlives_its_stage_holds_nothing_up(tmp_path, leaves_group):
    """It holds the output of the stage open. In the stage's group it is killed; else nobody waits for it."""
    log, child = [], tmp_path / "child"
    code = (
        "import subprocess\n"
        f"child = subprocess.Popen(['sleep', '120'], start_new_session={leaves_group})\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "print('done')"
    )
    well, shown = run([planned("first", code, log=log), planned("next", "print('three')", log=log)])
    pid = int(child.read_text())
    lives = Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    if lives:
        os.kill(pid, signal.SIGKILL)
    assert (well, log, lives) == (True, [], leaves_group)
    assert [line.split(" │ ", 1)[1] for line in shown if "begins" not in line] == ["first │ done", "next │ three"]


def test_a_stage_that_has_recorded_a_failure_is_not_noted_as_failed_again():
    from gpu_stages.orchestration import SOME_FAILED

    log = []
    well, shown = run([planned("a", f"import os\nos._exit({SOME_FAILED})", log=log)])
    assert not well
    assert log == []
    assert shown[-1].endswith("a │ something failed: its record says what")


def test_the_budget_is_shared_in_order():
    log = []
    stages = [
        planned("first", "print(given_s)", seconds=5.0, log=log),
        planned("rest", "print(given_s)", seconds=float("inf"), log=log),
        planned("large", "print(given_s)", least_s=100.0, log=log),
    ]
    well, shown = run(stages, budget_s=20.0)
    given = [float(line.rpartition(" ")[2]) for line in shown if line.rpartition(" ")[2].replace(".", "").isdigit()]
    assert given[0] == pytest.approx(5.0, abs=0.1)
    assert 10 < given[1] < 20
    assert not well
    ((name, what, reason),) = log
    assert (name, what) == ("large", "skipped")
    assert "it needs 100 s" in reason


def test_a_signal_ends_the_running_stage(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path('benchmarks').resolve())!r})\n"
        "from gpu_stages.orchestration import Planned, Stopped, run_stages\n"
        "code = 'import os, time; print(os.getpid()); time.sleep(60)'\n"
        "stage = Planned('s', 60, 0, lambda given: [sys.executable, '-u', '-c', code], print, print)\n"
        "try:\n"
        "    run_stages([stage, stage], 60, show=lambda text: print(text, flush=True))\n"
        "except Stopped as stopped:\n"
        "    print(f'ended by {stopped}')\n"
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert "begins" in process.stdout.readline()
    pid = int(process.stdout.readline().rpartition(" ")[2])
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert out.splitlines() == ["stopped by a signal", "ended by SIGTERM"]
    assert not Path(f"/proc/{pid}").exists()


def test_a_stage_ends_when_the_run_that_started_it_was_killed(tmp_path):
    own = tmp_path / "stage.py"
    own.write_text(
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(Path('benchmarks').resolve())!r})\n"
        "from gpu_stages.orchestration import die_with_parent\n"
        "die_with_parent(os.getppid(), 0.05)\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    starter = f"import subprocess, sys, time; subprocess.Popen([sys.executable, {str(own)!r}]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    deadline_s = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    alive = Path(f"/proc/{pid}").exists()
    if alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive


def make_stage(folder, *, left_s=100.0, key="k1", again=False):
    from gpu_stages.record import StageRecord
    from gpu_stages.stage import Options, Stage

    record = StageRecord(folder, "fake", rehearsal=True)
    record.begin("command", {"card": "none"})
    options = Options(folder, folder / "work", None, None, rehearse=True, again=again)
    return Stage(options, record, key, time.monotonic() + left_s)


def read(folder):
    return json.loads((folder / "fake.json").read_text())


def test_a_later_run_measures_only_what_is_missing_or_stale(tmp_path):
    calls = []

    def measurement(name):
        def function():
            calls.append(name)
            return {"value": 1.0}

        return function

    stage = make_stage(tmp_path)
    stage.measure("a", measurement("a"))
    stage.measure("b", measurement("b"), least_s=1e6)
    stage.end()
    assert read(tmp_path)["missing"] == {"b": "no time left: it takes about 1000000 s"}
    assert [run["state"] for run in read(tmp_path)["runs"].values()] == ["incomplete"]

    again = make_stage(tmp_path)
    for name in ("a", "b"):
        again.measure(name, measurement(name))
    again.end()
    assert calls == ["a", "b"]
    assert read(tmp_path)["missing"] == {}
    assert [run["state"] for run in read(tmp_path)["runs"].values()] == ["incomplete", "finished"]
    assert len({result["run"] for result in read(tmp_path)["results"].values()}) == 2

    stale = make_stage(tmp_path, key="k2")
    stale.measure("a", measurement("a"))
    assert calls == ["a", "b", "a"]
    make_stage(tmp_path, key="k2", again=True).measure("a", measurement("a"))
    assert calls == ["a", "b", "a", "a"]


def test_an_error_is_kept_and_does_not_end_the_stage(tmp_path):
    stage = make_stage(tmp_path)

    def fails():
        raise ValueError("no such kernel\nmore")

    assert stage.measure("a", fails) is None
    assert stage.measure("b", lambda: {"value": 2.0})["value"] == 2.0
    stage.end()
    content = read(tmp_path)
    assert content["results"]["a"]["error"] == "ValueError: no such kernel"
    assert stage.some_failed
    assert any("fails" in line for line in content["results"]["a"]["where"])
    assert [run["state"] for run in content["runs"].values()] == ["incomplete"]
    assert make_stage(tmp_path).measure("a", lambda: {"value": 3.0})["value"] == 3.0  # an error is no result


def test_a_run_that_never_ended_was_killed(tmp_path):
    make_stage(tmp_path)
    make_stage(tmp_path).end()
    assert [run["state"] for run in read(tmp_path)["runs"].values()] == ["killed", "finished"]


def test_a_copy_without_git_takes_the_commit_that_is_given(tmp_path, monkeypatch):
    from gpu_stages import record

    for known, expected in ((None, "abc1234"), ("fff0000", "fff0000")):
        monkeypatch.setattr(record, "record_header", lambda command, known=known: {"command": command, "commit": known})
        kept = record.StageRecord(tmp_path, "fake", rehearsal=True)
        kept.begin("command", {}, commit="abc1234")
        assert read(tmp_path)["runs"][kept.run]["commit"] == expected


def test_an_error_does_not_replace_what_was_measured_with_the_same_code(tmp_path):
    make_stage(tmp_path).measure("a", lambda: {"value": 1.0})
    assert make_stage(tmp_path, again=True).measure("a", lambda: 1 / 0)["value"] == 1.0


def test_what_is_measured_is_on_disk_before_the_next_measurement_begins(tmp_path):
    """So a kill at any moment loses no more than the measurement that runs."""
    stage = make_stage(tmp_path)
    stage.measure("a", lambda: {"value": 1.0})
    stage.measure("b", lambda: {"seen": read(tmp_path)["results"]["a"]["value"]})
    assert read(tmp_path)["results"]["b"]["seen"] == 1.0


def test_records_of_other_things_are_refused(tmp_path):
    from gpu_stages.record import StageRecord

    make_stage(tmp_path)
    with pytest.raises(ValueError, match="is a record of a rehearsal of the stage fake, expected a run on a GPU"):
        StageRecord(tmp_path, "fake")
    (tmp_path / "fake.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a record of a stage .*: move it away"):
        StageRecord(tmp_path, "fake", rehearsal=True)


def test_key_changes_with_files_names_and_settings(tmp_path):
    from gpu_stages.keys import source_key

    (tmp_path / "code").mkdir()
    one = tmp_path / "code/one.py"
    one.write_text("a = 1")
    (tmp_path / "code/notes.txt").write_text("not code")
    key = source_key(tmp_path, ["code"], {"batch": 1})
    assert key == source_key(tmp_path, ["code", "code/one.py"], {"batch": 1})
    assert key != source_key(tmp_path, ["code"], {"batch": 2})
    one.write_text("a = 2")
    changed = source_key(tmp_path, ["code"], {"batch": 1})
    assert key != changed
    one.rename(tmp_path / "code/two.py")
    assert changed != source_key(tmp_path, ["code"], {"batch": 1})
    with pytest.raises(FileNotFoundError, match="depends on other, which is not there"):
        source_key(tmp_path, ["other"], {})

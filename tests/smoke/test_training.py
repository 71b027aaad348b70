"""Training as a user runs it: killed and resumed, interrupted, in two processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from PIL import Image

from vovnet import create_model
from vovnet.cli.main import main
from vovnet.data.loading import BatchStream, training_batches
from vovnet.data.transforms import SSDAugmentation
from vovnet.engine.config import OptimizerConfig, load_config
from vovnet.engine.train import train
from vovnet.engine.training.data import open_data
from vovnet.engine.training.optimizer import make_optimizer
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.models.detectors import mask_rcnn
from vovnet.weights.detector import load_model, load_weights
from vovnet.weights.file import load_checkpoint
from vovnet.zoo import find_detector

CONFIG = """
model: {model}
model_options: {options}
data: {{root: {root}}}
optimizer: {{learning_rate: 0.01}}
schedule: {{iterations: 5, warmup_iterations: 2, kind: cosine}}
batch_size: 2
micro_batch_size: 1
ema_decay: 0.9
threads: 1
workers: 0
evaluate_every: 1
checkpoint_every: 1
log_every: 2
tensorboard: false
"""


@pytest.fixture
def config_file(small_voc, tmp_path):
    """The quickest detector."""
    return write_config(tmp_path / "small.yaml", small_voc, "ssdfpn320_vovnet19_tiny", "{}")


@pytest.fixture
def dsod_config_file(small_voc, tmp_path):
    """Slow enough to be killed between two steps, and of the same kind as the bundled weights."""
    return write_config(tmp_path / "dsod.yaml", small_voc, "dsod300_vovnet27_slim", "{anchors: coco}")


def write_config(path, root, model, options):
    path.write_text(CONFIG.format(root=root, model=model, options=options))
    return path


def states(folder):
    checkpoint = load_checkpoint(folder / "last.pt")
    momentum = [s["momentum_buffer"] for s in checkpoint["optimizer"]["state"].values()]
    return list(checkpoint["model"].values()) + list(checkpoint["ema"].values()) + momentum


def log(folder):
    timed = ("images_per_s", "seconds_left")
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def test_killed_and_resumed_is_bit_for_bit_the_whole_run(dsod_config_file, tmp_path):
    """SIGKILL in the middle of an epoch, at a moment that is not chosen; 5 images, 2 a step."""
    whole = train(load_config(dsod_config_file, [f"output={tmp_path / 'whole'}"]))
    assert whole.finished
    assert whole.steps == 5

    command = [
        sys.executable,
        "-m",
        "vovnet",
        "train",
        str(dsod_config_file),
        f"output={tmp_path / 'killed'}",
        "resume=true",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    last = tmp_path / "killed" / "last.pt"
    while not last.exists() or load_checkpoint(last)["step"] < 1:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    killed_at = load_checkpoint(tmp_path / "killed" / "last.pt")["step"]
    assert 1 <= killed_at < 5
    with pytest.raises(FileExistsError, match="resume it with resume=true or choose another output=FOLDER"):
        train(load_config(dsod_config_file, [f"output={tmp_path / 'killed'}"]))
    resumed = train(load_config(dsod_config_file, [f"output={tmp_path / 'killed'}", "resume=true"]))

    assert resumed.best == whole.best
    for a, b in zip(states(tmp_path / "whole"), states(tmp_path / "killed"), strict=True):
        assert torch.equal(a, b)
    assert log(tmp_path / "whole") == log(tmp_path / "killed")
    best = [load_model(tmp_path / run / "best.safetensors") for run in ("whole", "killed")]
    assert best[0].info.class_names == ("Platelets", "RBC", "WBC")
    for a, b in zip(best[0].model.state_dict().values(), best[1].model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    record = json.loads((tmp_path / "killed" / "record.json").read_text())
    assert record["config"]["optimizer"]["learning_rate"] == 0.01


def test_a_run_killed_in_its_first_evaluation_can_be_resumed(config_file, tmp_path, monkeypatch):
    """The best weights are written before last.pt tells of them; a kill in between must not end the run for good."""
    from vovnet.engine.training import state as train_state

    config = load_config(config_file, [f"output={tmp_path / 'run'}", "resume=true", "checkpoint_every=1000"])
    save = train_state.save_checkpoint

    def killed(path, checkpoint):
        if checkpoint["step"]:
            raise KeyboardInterrupt
        save(path, checkpoint)

    monkeypatch.setattr(train_state, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert (tmp_path / "run" / "best.safetensors").exists()
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 0
    monkeypatch.undo()
    assert train(config).finished
    train(load_config(config_file, [f"output={tmp_path / 'whole'}"]))
    for a, b in zip(states(tmp_path / "whole"), states(tmp_path / "run"), strict=True):
        assert torch.equal(a, b)


def test_resuming_another_run_is_refused(config_file, tmp_path):
    out = f"output={tmp_path / 'run'}"
    train(load_config(config_file, [out, "schedule.iterations=1", "data.val=null"]))
    with pytest.raises(ValueError, match=r"other settings \(optimizer.momentum was 0.9, is 0.5\)"):
        train(load_config(config_file, [out, "resume=true", "data.val=null", "optimizer.momentum=0.5"]))
    (tmp_path / "run" / "last.pt").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        train(load_config(config_file, [out, "resume=true"]))


def test_a_loss_that_is_not_finite_names_the_images(config_file, tmp_path, monkeypatch):
    monkeypatch.setattr(
        MultiBoxLoss, "forward", lambda self, outputs, targets: {"box_loss": outputs["box_deltas"].sum() * float("nan")}
    )
    with pytest.raises(FloatingPointError, match=r"the loss became infinite .* at step 0 with BloodImage_\d+.jpg"):
        train(load_config(config_file, [f"output={tmp_path / 'run'}"]))


def test_accumulation_is_the_mean_of_the_micro_batches(dsod_config_file, tmp_path):
    """batch_size 2 in micro-batches of 1: the logged loss is the mean of the losses of each image alone."""
    config = load_config(dsod_config_file, [f"output={tmp_path / 'run'}", "schedule.iterations=1", "data.val=null"])
    train(config)

    dataset, _ = open_data(config)
    torch.manual_seed(config.seed)
    model = create_model(config.model, 3, **config.model_options).to(memory_format=torch.channels_last).train()
    augment = SSDAugmentation((300, 300), model.preprocessing.mean_rgb, **config.augment.model_dump())
    stream = BatchStream(5, batch_size=2, micro_batch_size=1, steps=1)
    batches = training_batches(dataset, augment, stream, workers=0, pin_memory=False)
    losses = [
        sum(MultiBoxLoss()(model(model.preprocessing.normalize(batch.images)), batch.targets).values()).item()
        for batch in batches
    ]
    assert len(losses) == 2
    assert log(tmp_path / "run")[0]["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_two_processes(config_file, small_voc, tmp_path, run_vovnet):
    """torchrun on gloo: trains, evaluates each image once, and both detect what one process detects."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    arguments = ["-m", "vovnet", "train", config_file, "output=run", "schedule.iterations=2", "evaluate_every=1000"]
    result = run_vovnet(*arguments, launcher=torchrun, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("finished after 2 steps") == 1
    records = log(tmp_path / "run")
    assert [r["step"] for r in records] == [2, 2]
    assert "val_voc07_map" in records[1]

    script = tmp_path / "detect.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, torch
        from vovnet.data.formats import open_dataset
        from vovnet.engine.distributed import StopVotes, workers
        from vovnet.engine.detector import load
        from vovnet.engine.evaluate import detect_dataset
        detector = load({str(tmp_path / "run" / "best.safetensors")!r}, "cpu")
        with workers("cpu") as group:
            data = open_dataset({str(small_voc)!r}, "val")
            found = detect_dataset(detector, data, batch_size=1, workers=0, group=group)
            assert group.gather(group.rank) == [*range(group.world_size)]
            assert group.once(lambda: group.rank) == 0
            votes = StopVotes(group)  # of several processes: one step late, and the same in all
            asked = [votes.any(step == 1 and group.rank == group.world_size - 1) for step in range(4)]
            assert asked == [step == (1 if group.world_size == 1 else 2) for step in range(4)]
            assert not votes.close()
            if group.is_main:
                torch.save([d.scores for d in found], sys.argv[1])
        """)
    )
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, script, tmp_path / "two.pt"], check=True, env=env, capture_output=True)
    subprocess.run([sys.executable, script, tmp_path / "one.pt"], check=True, env=env, capture_output=True)
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    assert len(one) == 3
    for a, b in zip(one, two, strict=True):
        assert len(a) > 0
        torch.testing.assert_close(a, b)


def test_weights_that_are_not_finite_never_replace_the_checkpoint(config_file, tmp_path):
    options = [f"output={tmp_path / 'run'}", "optimizer.learning_rate=1e38", "schedule.warmup_iterations=0"]
    with pytest.raises(FloatingPointError, match=r"the (weights|gradient|loss) became infinite .* unharmed"):
        train(load_config(config_file, [*options, "data.val=null", "optimizer.clip_norm=1000"]))
    last = tmp_path / "run" / "last.pt"
    assert not last.exists() or all(v.isfinite().all() for v in load_checkpoint(last)["model"].values())


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_writes_a_checkpoint(config_file, tmp_path, kind):
    """As Ctrl-C in a terminal, a batch system's stop or torchrun send it: to the loader processes too."""
    command = [sys.executable, "-m", "vovnet", "train", str(config_file), "output=run", "checkpoint_every=1000"]
    command += ["evaluate_every=1000", "schedule.iterations=1000", "log_every=1", "workers=1"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while "step 1/" not in process.stderr.readline():
        assert process.poll() is None
    os.killpg(process.pid, kind)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"to go on: vovnet train {config_file} output=run " in out
    assert out.endswith(" workers=1 resume=true\n")
    assert "Traceback" not in err
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] >= 1


def test_a_run_without_val_leaves_its_last_weights(config_file, tmp_path):
    train(load_config(config_file, [f"output={tmp_path / 'run'}", "data.val=null", "schedule.iterations=1"]))
    assert load_model(tmp_path / "run" / "best.safetensors").record["step"] == 1
    (tmp_path / "run" / "last.pt").unlink()
    with pytest.raises(FileExistsError, match="already holds a run; choose another output"):
        train(load_config(config_file, [f"output={tmp_path / 'run'}", "resume=true"]))
    assert (tmp_path / "run" / "log.jsonl").read_text()
    last = load_model(tmp_path / "run" / "last.safetensors")
    assert (last.record["step"], last.record["val_voc07_map"]) == (1, None)


@pytest.mark.parametrize("ema", [0.9, None])
def test_the_last_weights_are_kept_beside_the_best(config_file, tmp_path, monkeypatch, ema):
    """Accuracy falls from evaluation to evaluation, so the first weights are the best and the last are others."""
    from vovnet.engine import train as module

    scores = iter([0.9, 0.8])
    monkeypatch.setattr(module, "_evaluate", lambda *_: next(scores))
    run = tmp_path / "run"
    result = train(load_config(config_file, [f"output={run}", f"ema_decay={'null' if ema is None else ema}"]))
    assert (result.best, result.last) == (0.9, 0.8)
    checkpoint = load_checkpoint(run / "last.pt")
    best, last = load_model(run / "best.safetensors"), load_model(run / "last.safetensors")
    assert (best.record["step"], best.record["val_voc07_map"]) == (3, 0.9)
    assert (last.record["step"], last.record["val_voc07_map"]) == (5, 0.8)
    for name, value in last.model.state_dict().items():
        assert torch.equal(value, checkpoint["ema" if ema else "model"][name])
    assert not all(torch.equal(a, b) for a, b in zip(best.model.parameters(), last.model.parameters(), strict=True))
    record = json.loads((run / "record.json").read_text())
    assert (record["step"], record["val_voc07_map"], record["steps"]) == (3, 0.9, 5)
    assert record["last"] == {"step": 5, "val_voc07_map": 0.8}
    assert load_weights(run).record["step"] == 3  # a folder means its best weights


def test_resuming_a_finished_run_of_an_older_version_adds_its_last_weights(config_file, tmp_path):
    config = load_config(config_file, [f"output={tmp_path / 'run'}", "resume=true", "schedule.iterations=2"])
    last = train(config).last
    (tmp_path / "run" / "last.safetensors").unlink()
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    del checkpoint["last"], checkpoint["config"]["norm_momentum"], checkpoint["config"]["optimizer"]["rules"]
    torch.save(checkpoint, tmp_path / "run" / "last.pt")
    assert last is not None
    assert train(config).last == last
    assert load_model(tmp_path / "run" / "last.safetensors").record["step"] == 2


def test_running_averages_of_a_short_run_are_the_means_of_its_passes(dsod_config_file, tmp_path):
    """Two passes of one image each, with a share of 0.001: neither the initial 0 and 1 nor the first pass remains."""
    options = [f"output={tmp_path / 'run'}", "schedule.iterations=1", "data.val=null", "norm_momentum=0.001"]
    config = load_config(dsod_config_file, [*options, "optimizer.learning_rate=1e-20", "ema_decay=null"])
    train(config)
    dataset, _ = open_data(config)
    torch.manual_seed(config.seed)
    model = create_model(config.model, 3, **config.model_options).to(memory_format=torch.channels_last).train()
    augment = SSDAugmentation((300, 300), model.preprocessing.mean_rgb, **config.augment.model_dump())
    stream = BatchStream(5, batch_size=2, micro_batch_size=1, steps=1)
    means = []
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    for batch in training_batches(dataset, augment, stream, workers=0, pin_memory=False):
        model(model.preprocessing.normalize(batch.images))
        means.append(model.backbone.stem[0].norm.running_mean.clone())
    trained = load_model(tmp_path / "run" / "last.safetensors").model
    expected = (0.999 * means[0] + means[1]) / 1.999
    torch.testing.assert_close(trained.backbone.stem[0].norm.running_mean, expected)


def test_a_run_may_end_earlier_where_it_is(config_file, tmp_path):
    """Its checkpoint has been neither evaluated nor finished."""
    options = [f"output={tmp_path / 'run'}", "evaluate_every=100"]
    config = load_config(config_file, [*options, "schedule={kind: step, iterations: 5}"])
    train(config, hooks=[lambda record: signal.raise_signal(signal.SIGINT) if record["step"] == 2 else None])
    assert not (tmp_path / "run" / "best.safetensors").exists()
    result = train(load_config(config_file, [*options, "schedule={kind: step, iterations: 2}", "resume=true"]))
    assert (result.finished, result.steps) == (True, 2)
    assert result.best == result.last is not None
    for name in ("best", "last"):
        assert load_model(tmp_path / "run" / f"{name}.safetensors").record["step"] == 2
    assert load_checkpoint(tmp_path / "run" / "last.pt")["last"] == result.last


STEPS = "{kind: step, warmup_iterations: 2, milestones: [3], iterations: %d}"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ([f"schedule={STEPS % 4}"], [f"schedule={STEPS % 6}"]),
        pytest.param(
            [f"schedule={STEPS % 4}"],
            ["schedule={kind: step, warmup_iterations: 2, milestones: [3, 5], iterations: 6}"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["schedule={kind: step, epochs: 1}"],
            ["schedule={kind: step, milestones: [3], epochs: 2, gamma: 0.5}"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["iterations", "another milestone", "epochs"],
)
def test_a_run_that_is_made_longer_is_bit_for_bit_the_long_run(config_file, tmp_path, short, long):
    common = ["ema_decay=0.9", "norm_momentum=0.01", "evaluate_every=2", "log_every=3"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(load_config(config_file, [*common, *long, f"output={whole}"])).finished
    ended = train(load_config(config_file, [*common, *short, f"output={parts}"])).steps
    result = train(load_config(config_file, [*common, *long, f"output={parts}", "resume=true"]))
    assert result.steps > ended
    for a, b in zip(states(whole), states(parts), strict=True):
        assert torch.equal(a, b)
    first, second = (load_model(folder / "last.safetensors") for folder in (whole, parts))
    for a, b in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert first.record["val_voc07_map"] == second.record["val_voc07_map"] == result.last
    # The short run's log goes on; its own end adds lines, and the losses of the others are those of the long run.
    assert all(line in log(parts) for line in log(whole) if "loss" in line and line["step"] > ended)


def test_what_keeps_a_run_from_being_resumed_is_named(dsod_config_file, tmp_path):
    options = [f"output={tmp_path / 'run'}", "data.val=null", "schedule={kind: step, milestones: [3], iterations: 4}"]
    train(load_config(dsod_config_file, options))
    for change, message in (
        (
            ["schedule={kind: cosine, iterations: 8}"],
            "a cosine schedule depend on its length.*weights=.*last.safetensors",
        ),
        (
            ["schedule={kind: step, milestones: [2], iterations: 8}"],
            r"milestones was \[3\], is \[2\]\): step 2 had 0.01 ",
        ),
        (["schedule={kind: step, milestones: [3], warmup_iterations: 1, iterations: 4}"], "step 0 had 0.01 and would"),
        (
            ["schedule={kind: step, milestones: [3], iterations: 3}"],
            "is at step 4, and the run would now end at step 3",
        ),
        (["batch_size=4"], r"other settings \(batch_size was 2, is 4\)"),
        (["optimizer.learning_rate=0.1", "seed=3"], "optimizer.learning_rate was 0.01, is 0.1; seed was 0, is 3"),
        (["model_options.anchors=voc"], "model_options.anchors was coco, is voc"),
        (["augment.flip=0", "ema_decay=null"], "augment.flip was 0.5, is 0.0; ema_decay was 0.9, is null"),
        (["data.train=val"], "data.train was train, is val; the dataset's images"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            train(load_config(dsod_config_file, [*options, *change, "resume=true"]))
        assert "output=FOLDER" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_run_may_start_from_the_weights_of_another(dsod_config_file, tmp_path):
    """Also from a checkpoint, and from bundled weights of the same classes."""
    one_step = ["data.val=null", "schedule={iterations: 1}", "ema_decay=null"]
    train(load_config(dsod_config_file, [*one_step, f"output={tmp_path / 'first'}"]))
    for source in (tmp_path / "first" / "last.safetensors", tmp_path / "first", tmp_path / "first" / "last.pt", "bccd"):
        folder = tmp_path / f"from_{getattr(source, 'name', source)}"
        options = [*one_step, f"weights={source}", "optimizer.learning_rate=1e-20", f"output={folder}"]
        train(load_config(dsod_config_file, options))
        before, after = load_weights(source).model, load_model(folder / "last.safetensors").model
        for a, b in zip(before.parameters(), after.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    for change, message in (
        (["model_options.pool=k2"], r"pool is None, expected k2; leave out model_options.pool"),
        (
            ["model=dsod300_vovnet27_slim_bottleneck"],
            "model is dsod300_vovnet27_slim, expected dsod300_vovnet27_slim_b",
        ),
        (["backbone_weights=x.pth"], "give one of them.*backbone_weights=null"),
        (["weights=none.safetensors"], "neither a weights file nor the name"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            options = [*one_step, "weights=bccd", *change, f"output={tmp_path / 'refused'}"]
            train(load_config(dsod_config_file, options))


def test_the_config_of_a_run_from_imagenet_weights_accepts_its_weights(config_file, tmp_path):
    """Weights of a backbone add options to the detector's; of `pixels` the config may state some, or others."""
    options = ["data.val=null", "schedule={iterations: 1}", "ema_decay=null"]
    imported = "{mean: [9, 8, 7], std: [2, 2, 2], channel_order: RGB, antialias: true}"
    train(load_config(config_file, [*options, f"model_options.pixels={imported}", f"output={tmp_path / 'first'}"]))
    for source in (tmp_path / "first" / "last.safetensors", tmp_path / "first" / "last.pt"):
        folder = tmp_path / f"from_{source.suffix}"
        more = ["model_options.pixels={antialias: false}", f"weights={source}", f"output={folder}"]
        train(load_config(config_file, [*options, *more]))
        preprocessing = load_weights(folder).model.preprocessing
        assert (preprocessing.mean, preprocessing.channel_order) == ((9, 8, 7), "RGB")
        assert not preprocessing.antialias


def test_changed_data_is_not_resumed(config_file, small_voc, tmp_path):
    out = f"output={tmp_path / 'run'}"
    train(load_config(config_file, [out, "schedule.iterations=1", "data.val=null"]))
    listing = small_voc / "ImageSets" / "Main" / "train.txt"
    listing.write_text("\n".join(listing.read_text().split()[1:]))
    with pytest.raises(ValueError, match="other settings .the dataset's images"):
        train(load_config(config_file, [out, "resume=true", "schedule.iterations=1", "data.val=null"]))


def test_weight_decay_groups():
    name = "dsod300_vovnet27_slim"
    model, spec = create_model(name, 3), find_detector(name)
    convolutions = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    plain = make_optimizer(model, spec, OptimizerConfig()).param_groups
    assert sum(p.numel() for p in plain[0]["params"]) == convolutions
    assert plain[1]["weight_decay"] == 0
    caffe = make_optimizer(model, spec, OptimizerConfig(decay_norms=True)).param_groups
    body_norms = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 1 and not n.startswith("heads."))
    assert sum(p.numel() for p in caffe[0]["params"]) == convolutions + body_norms


MASKS = """
model: maskrcnn_vovnet27_slim_gn
model_options: {{image_size: [64, 96], rois: 16}}
data: {{root: {root}}}
resize: {{short_sides: [64, 80]}}
optimizer: {{learning_rate: 0.005, clip_norm: 10}}
schedule: {{iterations: 3}}
batch_size: 2
micro_batch_size: 2
precision: {precision}
metric: coco_mask_ap
threads: 1
workers: 0
evaluate_every: 100
checkpoint_every: 1
log_every: 1
tensorboard: false
"""


@pytest.fixture
def small_masks(tmp_path):
    """Street scenes of nothing but rectangles, one without any, as images and mask PNGs."""
    for split in ("train", "val"):
        for number in range(3):
            mask = np.zeros((90, 120), np.uint8)
            for index in range(number):
                mask[10:70, 10 + 45 * index : 40 + 45 * index] = index + 1
            image = np.repeat(mask[..., None] * 90 + 40, 3, axis=2)
            for folder, pixels in ((f"images/{split}", image), (f"masks/{split}", mask)):
                (tmp_path / "street" / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / "street" / folder / f"{split}{number}.png")
    return tmp_path / "street"


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_mask_rcnn_resumed_evaluated_and_predicting(small_masks, tmp_path, monkeypatch, capsys, precision):
    monkeypatch.setattr(mask_rcnn, "PROPOSALS", 60)  # the second stage takes seconds for a thousand
    path = tmp_path / "masks.yaml"
    path.write_text(MASKS.format(root=small_masks, precision=precision))
    train(load_config(path, [f"output={tmp_path / 'whole'}"]))
    half = load_config(path, [f"output={tmp_path / 'parts'}", "resume=true"])
    train(half, hooks=[lambda record: signal.raise_signal(signal.SIGINT) if record["step"] == 2 else None])
    assert load_checkpoint(tmp_path / "parts" / "last.pt")["step"] == 2
    assert train(half).finished
    parts = [load_checkpoint(tmp_path / run / "last.pt")["model"] for run in ("whole", "parts")]
    assert all(torch.equal(a, b) for a, b in zip(parts[0].values(), parts[1].values(), strict=True))
    lines = log(tmp_path / "parts")
    assert {"objectness_loss", "anchor_loss", "class_loss", "box_loss", "mask_loss"} <= lines[0].keys()
    assert "val_coco_mask_ap" in lines[-1]

    weights = tmp_path / "whole" / "best.safetensors"
    monkeypatch.chdir(tmp_path)
    for command in (
        ["evaluate", weights, small_masks, "--split", "val", "--workers", "0"],
        ["predict", small_masks / "images/val/val2.png", "--weights", weights, "--score-threshold", "0"],
    ):
        monkeypatch.setattr(sys, "argv", ["vovnet", *map(str, command)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    assert "mask AP50" in capsys.readouterr().out
    detections = json.loads((tmp_path / "runs/predict/detections.json").read_text())
    assert all(detection["segmentation"]["size"] == [90, 120] for detection in detections)


def test_bf16_trains_on_a_cpu_and_fp16_does_not(config_file, tmp_path):
    train(load_config(config_file, [f"output={tmp_path / 'run'}", "precision=bf16", "data.val=null"]))
    assert all(
        value.dtype != torch.bfloat16 for value in load_checkpoint(tmp_path / "run" / "last.pt")["model"].values()
    )
    losses = [record["loss"] for record in log(tmp_path / "run")]
    train(load_config(config_file, [f"output={tmp_path / 'exact'}", "data.val=null"]))
    exact = [record["loss"] for record in log(tmp_path / "exact")]
    assert losses != exact
    assert losses[0] == pytest.approx(exact[0], rel=0.05)
    with pytest.raises(ValueError, match="precision=fp16 needs a CUDA GPU; on cpu use precision=bf16"):
        train(load_config(config_file, [f"output={tmp_path / 'half'}", "precision=fp16"]))


def test_mask_ap_needs_a_detector_with_masks(config_file, tmp_path):
    with pytest.raises(ValueError, match="coco_mask_ap needs a detector with masks"):
        train(load_config(config_file, [f"output={tmp_path / 'run'}", "metric=coco_mask_ap"]))


def test_a_run_of_minutes_ends_with_them(config_file, tmp_path):
    minutes = ["schedule.iterations=null", "schedule.minutes=0.02", "schedule.warmup_iterations=0"]
    output = tmp_path / "timed"
    result = train(load_config(config_file, [*minutes, f"output={output}"]))
    checkpoint = load_checkpoint(output / "last.pt")
    assert result.finished
    assert result.steps >= 1
    assert result.last is not None
    assert checkpoint["seconds"] >= 1.2
    assert json.loads((output / "record.json").read_text())["config"]["schedule"]["minutes"] == 0.02
    again = train(load_config(config_file, [*minutes, f"output={output}", "resume=true"]))
    assert (again.steps, again.last) == (result.steps, result.last)
    longer = load_config(config_file, [*minutes, "schedule.minutes=1", f"output={output}", "resume=true"])
    with pytest.raises(ValueError, match=r"schedule\.minutes was 0\.02, is 1\.0.*start a new run from its weights"):
        train(longer)

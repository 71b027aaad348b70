import inspect
import re
import shutil
import time
import tomllib
from pathlib import Path

import pytest
import yaml

import vovnet.names
from vovnet.engine import config_keys
from vovnet.engine.config import Section, TrainConfig, load_config, read_config
from vovnet.errors import UsageError
from vovnet.names import published_configs
from vovnet.paper.aggregation.config import AggregationConfig
from vovnet.yaml_parsing import ConfigLoader, parse_yaml

BASIC = """
model: dsod300_vovnet27_slim
data: {root: somewhere}
schedule: {iterations: 10}
batch_size: 8
micro_batch_size: 4
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(BASIC)
    return path


def test_defaults_and_overrides(config_file):
    config = load_config(config_file, ["optimizer.learning_rate=1e-4", "model_options.anchors=coco", "resume=true"])
    assert config.optimizer.learning_rate == 1e-4
    assert config.optimizer.momentum == 0.9
    assert config.model_options == {"anchors": "coco"}
    assert config.resume is True
    assert config.output == Path("runs/small")


def test_numbers_with_an_exponent_are_numbers_in_the_file_too(config_file):
    config_file.write_text(BASIC + "optimizer: {learning_rate: 1e-3, weight_decay: 5E-4}\n")
    assert load_config(config_file).optimizer.learning_rate == 0.001
    assert load_config(config_file).optimizer.weight_decay == 0.0005


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batchsize=4", "unknown key 'batchsize', did you mean 'batch_size'"),
        ("optimizer.learnin_rate=0.1", "did you mean 'optimizer.learning_rate'"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate: .* got 'fast'"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: .*greater than 0, got -1"),
        ("precision=fp8", "precision: .*'fp32', 'bf16' or 'fp16', got 'fp8'"),
        ("schedule.epochs=3", "schedule: give one of iterations, epochs and minutes"),
        ("seed=-1", "seed: .*greater than or equal to 0, got -1"),
        ("micro_batch_size=3", "batch_size 8 must be a multiple of micro_batch_size 3"),
        ("seed", "expected key=value, got 'seed'"),
        (
            "data.more_train=[{root: a, splt: b}]",
            "unknown key 'data.more_train.0.splt', did you mean 'data.more_train.0.split'",
        ),
        ("optimizer.learning_rate=[1,", "optimizer.learning_rate=.1, is not valid YAML"),
        ("batch_size.x=3", "'batch_size' in 'batch_size.x' is a value"),
    ],
)
def test_wrong_settings_are_named(config_file, override, message):
    with pytest.raises(ValueError, match=message) as error:
        load_config(config_file, [override])
    assert "http" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("epochs", "schedule.epochs"),
        ("lr", "optimizer.learning_rate"),
        ("batch", "batch_size"),
        ("iterations", "schedule.iterations"),
        ("root", "data.root"),
        # keys of a section without it, or in another section
        ("momentum", "optimizer.momentum"),
        ("milestones", "schedule.milestones"),
        ("val", "data.val"),
        ("optimizer.epochs", "schedule.epochs"),
        ("train.weight_decay", "optimizer.weight_decay"),
        ("Learning-Rate", "optimizer.learning_rate"),
        # names of other programs
        ("bs", "batch_size"),
        ("wd", "optimizer.weight_decay"),
        ("base_lr", "optimizer.learning_rate"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("max_iter", "schedule.iterations"),
        ("dataset", "data.root"),
        ("num_workers", "workers"),
        ("amp", "precision"),
        ("gpu", "device"),
        ("project", "output"),
        # misspelt
        ("learnin_rate", "optimizer.learning_rate"),
        ("schedule.epoch", "schedule.epochs"),
        ("optimiser", "optimizer"),
        ("solver.batch_sise", "batch_size"),
    ],
)
def test_an_unknown_key_suggests_the_whole_path(config_file, key, meant):
    with pytest.raises(UsageError, match=re.escape(f"unknown key {key!r}, did you mean {meant!r}?")):
        load_config(config_file, [f"{key}=3"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("flip=0.1", "unknown key 'flip', did you mean 'augment.flip' or 'resize.flip'?"),
        ("imgsz=640", "unknown key 'imgsz': the model states the size of its input"),
        ("optimizer.type=sgd", "unknown key 'optimizer.type', did you mean 'optimizer.kind'?"),
        ("schedule.step=3", "unknown key 'schedule.step', did you mean 'schedule.milestones'?"),
        ("grad_accum=3", "unknown key 'grad_accum', did you mean 'micro_batch_size'?"),
        ("finetune=x.pt", "unknown key 'finetune', did you mean 'weights'?"),
        ("freeze=3", "unknown key 'freeze': no setting freezes layers"),
        ("dropout=0.1", "unknown key 'dropout': there is no such setting"),
        (
            "backbone.stem=pool",
            "unknown key 'backbone.stem': it is an option of some models or backbones: set it under",
        ),
        ("nc=3", "unknown key 'nc': the classes come from the data"),
        (
            "solver={lr: 3, gamma: 1}",
            "'solver.lr', did you mean 'optimizer.learning_rate'?; unknown key 'solver.gamma', did",
        ),
        ("qqq=1", "unknown key 'qqq' (known keys: model, model_options, "),
        ("antialias=false", "unknown key 'antialias': set it under model_options.pixels, which has the keys mean, "),
        ("pixels.std=1", "unknown key 'pixels.std': set it under model_options.pixels"),
        ("optimizer.rules=3", "optimizer.rules: must be a list, got 3"),
        ("optimizer.rules={match: a, rate: 2}", "optimizer.rules: must be a list, got {'match': 'a', 'rate': 2}"),
        ("model_options=coco", "model_options: must be a section with keys and values, got 'coco'"),
        ("=3", "expected key=value, got '=3'"),
        ("optimizer.=3", "expected key=value, got 'optimizer.=3'"),
        ("data=some/folder", "data is a section, got 'some/folder'; set its keys: data.root, data.train, "),
        ("optimizer=adam", "optimizer is a section, got 'adam'; set its keys: optimizer.kind, "),
        ("schedule.epochs=3", "set schedule.iterations=null or schedule.epochs=null"),
    ],
)
def test_other_wrong_keys_say_what_helps(config_file, setting, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        load_config(config_file, [setting])


def test_suggestions_are_keys_of_the_config_at_hand():
    """The aggregation study has no sections."""
    for key, meant in (("lr", "learning_rate"), ("schedule.epochs", "epochs"), ("bs", "batch_size")):
        with pytest.raises(UsageError, match=f"unknown key '{key}', did you mean '{meant}'"):
            read_config(AggregationConfig, "cifar10_aggregation", [f"{key}=1"])


def test_every_synonym_stands_for_a_key():
    known = set(config_keys._dotted_keys(TrainConfig))
    assert set(config_keys._SYNONYMS.values()) <= known
    names = {config_keys._plain(key.split(".")[-1]) for key in known}
    assert not names & config_keys._SYNONYMS.keys()  # else the key's own name would never be looked up


def test_published_configs_have_names(tmp_path, monkeypatch):
    in_the_tree = load_config("configs/voc_pelee304.yaml")
    assert len(published_configs()) == len(list(Path("configs").glob("*.yaml")))
    monkeypatch.chdir(tmp_path)  # nothing here is called configs
    for name in ("voc_pelee304", "voc_pelee304.yaml", "configs/voc_pelee304.yaml"):
        assert load_config(name) == in_the_tree
    assert in_the_tree.output == Path("runs/voc_pelee304")
    for name, hint in (
        ("voc_pele304", ", did you mean 'voc_pelee304'?"),
        ("voc_dsod300_vovnet27.yaml", ", did you mean 'voc_dsod300_vovnet27_slim'?"),
        ("mine.yaml", "; `vovnet list` names the published ones"),
        ("elsewhere/voc_pelee304.yaml", ", did you mean 'voc_pelee304'?"),
    ):
        with pytest.raises(FileNotFoundError, match=re.escape(f"no config file {name}{hint}")):
            load_config(name)
    Path("voc_pelee304.yaml").write_text(BASIC)
    assert load_config("voc_pelee304.yaml").model == "dsod300_vovnet27_slim"  # a file that is there is meant


def test_the_wheel_has_the_configs(tmp_path, monkeypatch):
    """Copied as the build copies them, they are found by name."""
    wheel = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source, target in wheel["force-include"].items():
        if Path(source).is_dir():
            shutil.copytree(source, tmp_path / target)
    monkeypatch.setattr(vovnet.names.resources, "files", lambda package: tmp_path / package)
    assert published_configs()["voc_ssd300_mobilenet"] == tmp_path / "vovnet/configs/voc_ssd300_mobilenet.yaml"
    assert load_config("voc_ssd300_mobilenet").model == "ssd300_mobilenet"


def test_all_errors_at_once(config_file):
    with pytest.raises(ValueError, match="unknown key 'a'.*; .*unknown key 'b'"):
        load_config(config_file, ["a=1", "b=2"])


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config file"):
        load_config(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1, 2")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_config(broken)
    broken.write_text("- 1")
    with pytest.raises(ValueError, match="must hold keys and values, got list"):
        load_config(broken)


def test_every_key_is_documented():
    sections = [TrainConfig]
    while sections:
        section = sections.pop()
        for key, field in section.model_fields.items():
            assert re.search(rf"^{key}: ", inspect.cleandoc(section.__doc__), re.MULTILINE), f"{section.__name__}.{key}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                sections.append(field.annotation)


def test_what_yaml_1_1_reads_as_something_else_is_text_where_text_is_wanted(config_file):
    for written in ("no", "012", "1_000", "12:30", "2024-01-01", "on", "0o17", "=", "<<"):
        assert load_config(config_file, [f"data.train={written}"]).data.train == written
        config_file.write_text(BASIC.replace("somewhere", f"somewhere, train: {written}, more_train: []"))
        assert load_config(config_file).data.train == written
        assert load_config(config_file, [f"model_options.anchors={written}"]).model_options == {"anchors": written}
        config_file.write_text(BASIC)


def test_yes_and_no_still_are_true_and_false_where_that_is_wanted(config_file):
    for written, value in (
        ("yes", True),
        ("on", True),
        ("True", True),
        ("no", False),
        ("off", False),
        ("FALSE", False),
    ):
        assert load_config(config_file, [f"resume={written}"]).resume is value
    assert load_config(config_file, ["tensorboard=~"]).tensorboard is None
    assert load_config(config_file, ["seed=0x1f", "workers=+3"]).seed == 31


@pytest.mark.parametrize("config", sorted(published_configs().values()), ids=lambda path: path.stem)
def test_published_configs_mean_what_they_meant_by_yaml_1_1(config):
    class Loader(yaml.SafeLoader):
        pass

    exponent = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+0123456789."))
    text = config.read_text()
    assert repr(parse_yaml(text, ConfigLoader)) == repr(yaml.load(text, Loader))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{1: 2, [a]: 3}", "has a list or section as a key in line 1"),
        ("? {a: b}\n: c", "has a list or section as a key in line 1"),
        ("1.5: x\nmodel: a", "unknown key '1.5'"),
        ("~: x\n1: y", "and 2 other problems"),
        ("a: !!timestamp x", "is not valid YAML"),
        ("a: !!int x", "is not valid YAML"),
        ("a: !!python/object/apply:os.system [x]", "is not valid YAML"),
        ("a: &a [*a]", "the alias *a in line 1"),
        ("[" * 100_000, "nested more than 50 levels"),
        ("seed: 1\nseed: 2", "states 'seed' twice, in lines 1 and 2: leave one out"),
        ("data: {root: a, root: b}", "states 'root' twice, in line 1: leave one out"),
        (BASIC + "model_options: {pixels: {1: 2, 1: 3}}", "states '1' twice"),
        ("seed: " + "9" * 5000, "of 5000 digits"),
        (BASIC + "output: 'x\\0'", None),
        (BASIC + 'output: "x\\0"', "output: must be text without NUL"),
        (BASIC + 'device: "\\ud800"', "device: must be text without NUL"),
        (BASIC + "weights: " + "x" * 100_000, "weights: text may have 4,096 characters, got 100,000"),
        ("\n".join(f"k{i}: {'x' * 100}" for i in range(5000)), "; and 500"),
        (BASIC + "optimizer: {rules: [" + "{match: 1, x: 1}," * 3000 + "]}", "other problems"),
        (BASIC + "optimizer: {kind: [" + "x," * 10_000 + "]}", "optimizer.kind"),
        (b"model: \xff", "is not UTF-8 text"),
        ("model: a".encode("utf-16"), "expected UTF-8"),
        (b"model: \0", "NUL"),
        (b"a: \x1b[31m", "is not valid YAML"),
        (b"", "must hold keys and values"),
    ],
)
def test_a_strange_file_is_one_short_sentence(tmp_path, content, message):
    path = tmp_path / "strange.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if message is None:
        assert load_config(path)
        return
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        load_config(path)
    assert str(path) in str(error.value) or len(str(path)) > 80
    assert len(str(error.value)) <= 500
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=-1", "greater than or equal to 0"),
        (f"seed={2**70}", "of 22 digits"),
        ("batch_size=1000000000", "batch_size: input should be less than or equal to 65536"),
        ("micro_batch_size=65537", "less than or equal to 65536"),
        ("workers=1000000", "less than or equal to 1024"),
        ("workers=-1", "greater than or equal to 0"),
        ("threads=5000", "less than or equal to 4096"),
        ("schedule.iterations=1000000000000", "less than or equal to 1000000000"),
        ("schedule={epochs: 1e12}", "less than or equal to 1000000"),
        ("schedule={epochs: .nan}", "finite number"),
        (f"schedule.milestones={list(range(2000))}", "at most 1000 items"),
        ("log_every=0", "greater than 0"),
        ("evaluate_every=-1", "greater than 0"),
        ("checkpoint_every=0.5", "valid integer"),
        ("optimizer.learning_rate=.nan", "finite number"),
        ("optimizer.learning_rate=nan", "finite number"),
        ("optimizer.learning_rate=1e999", "finite number"),
        ("optimizer.weight_decay=.inf", "finite number"),
        ("optimizer.momentum=-1", "greater than or equal to 0"),
        ("augment.expand=1e9", "less than or equal to 16"),
        ("batch_size=012", "write 012 without leading zeros"),
        ("schedule.milestones=[1, -010]", "write -010 without leading zeros"),
        ("batch_size=12:30", "valid integer"),
        ("model_options={[a]: 3}", "has a list or section as a key"),
        ("x" * 10**6, "expected key=value"),
        ("x" * 10**6 + "=1", "unknown key"),
        ("model=" + "x" * 10**6, "text may have 4,096 characters"),
        (".".join("a" * 5000) + "=1", "expected key=value"),
        ("seed=" + "[" * 10**5, "nested more than 50 levels"),
        ("device=\x1b[31m", "is not valid YAML"),
    ],
)
def test_a_strange_value_is_one_short_sentence_at_once(config_file, setting, message):
    began = time.monotonic()
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        load_config(config_file, [setting])
    assert len(str(error.value)) <= 500
    assert str(error.value).isprintable()
    assert time.monotonic() - began < 5


def test_a_name_that_can_be_no_file(tmp_path):
    for name in ("a" * 5000, "a\0b", tmp_path):
        with pytest.raises(FileNotFoundError, match="no config file") as error:
            load_config(name)
        assert len(str(error.value)) <= 500

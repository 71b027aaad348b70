"""Every command of the documents exists with all its options, and runs, or there is a reason why not."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from cyclopts.exceptions import MissingArgumentError

from vovnet.cli.app import app
from vovnet.cli.main import main
from vovnet.engine.config import load_config
from vovnet.runtime import command as runner

from ..documented import ALTERNATIVES, NOT_RUN, SLOW, TESTED, ended_well, pattern_not_to_run, shortened
from ..pages import OTHERS, PAGES, RENDERED, WALKED, WRITTEN, Block, all_blocks, blocks_of, commands_of

ROOT = Path(__file__).parents[2]
SHELL_BLOCKS = [block for block in all_blocks(PAGES) if block.is_shell]
COMMANDS = sorted({command for block in SHELL_BLOCKS for command in commands_of(block)})
TO_RUN = [
    block
    for block in SHELL_BLOCKS
    if block.page not in RENDERED | WALKED and not all(map(pattern_not_to_run, commands_of(block)))
]


def check_command(command: str) -> None:
    """Raises an error unless the program, the command and all its options exist."""
    program, *words = shlex.split(command)
    if program == "torchrun":
        program, words = "vovnet", words[words.index("vovnet") + 1 :]
    if program == "vovnet":
        app.parse_args(words, exit_on_error=False, print_error=False)
        if words[:1] == ["train"]:
            check_settings(words[1:])
        for path in (word for word in words if word.startswith("configs/")):
            assert (ROOT / path).is_file(), path
    elif program == "vovnet-runtime":
        runner.make_parser().parse_args(words)
    elif program in ("python", "python3", "python3.11", "py"):
        check_python(words)
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M), f"the Makefile lacks {words[0]}"
    elif program == "pip":
        check_pip(words)
    else:
        known = program in ("git", "cd", "curl", "docker", "tensorboard") or "ctivate" in command
        assert known, f"unknown program {program}"


def check_settings(words: list[str]) -> None:
    """The keys of key=value arguments are those of configs."""
    settings = [word for word in words if re.match(r"[a-z_.]+=", word)]
    published = next((word for word in words if (ROOT / "configs" / f"{Path(word).stem}.yaml").is_file()), None)
    load_config(published or "own_data_dsod300_vovnet27_slim", settings)


def check_python(words: list[str]) -> None:
    script = words[0]
    if script == "-c":
        compile(words[1], "-c", "exec")
    elif script == "-m":
        assert importlib.util.find_spec(words[1]) is not None, words[1]
    else:
        source = (ROOT / script).read_text()
        for option in (word for word in words[1:] if word.startswith("--")):
            assert f'"{option}"' in source, f"{script} lacks {option}"


def check_pip(words: list[str]) -> None:
    """The extras of our own distributions exist."""
    assert words[0] in ("install", "wheel", "download"), words
    for word in words[1:]:
        if local := re.fullmatch(r"(\./runtime|\.|vovnet|vovnet-runtime)(?:\[([\w,]+)\])?", word):
            project = "runtime/pyproject.toml" if "runtime" in local[1] else "pyproject.toml"
            extras = tomllib.loads((ROOT / project).read_text())["project"]["optional-dependencies"]
            missing = set((local[2] or "").split(",")) - {"", *extras}
            assert not missing, f"{project} lacks the extra {', '.join(missing)}"


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command):
    check_command(command)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vovnet predict a.jpg --wieghts bccd  # misspelt", "wieghts"),
        ("vovnet train my.yaml optimizer.leraning_rate=1", "optimizer.learning_rate"),
        ("vovnet train configs/no_such.yaml", "no_such.yaml"),
        ("vovnet-runtime info a.onnx --top 5", "top"),
        ("python benchmarks/gpu.py --no-such", "lacks --no-such"),
        ("make coffee", "lacks coffee"),
        ("pip install '.[al]'", "lacks the extra al"),
        ("yolo predict", "unknown program yolo"),
    ],
)
def test_a_wrong_command_is_found(tmp_path, text, message):
    page = tmp_path / "page.md"
    page.write_text(f"1. Item\n\n    ```bash\n    {text}\n    ```\n")
    (block,) = blocks_of(page)
    (command,) = commands_of(block)
    assert command == text.partition("  #")[0]
    with pytest.raises((Exception, AssertionError), match=message):
        check_command(command)


def test_loops_long_lines_and_prompts_are_commands(tmp_path):
    block = Block(tmp_path, 1, 1, "", "for x in 1 2; do\n  vovnet list \\\n    --json $x\ndone\ncd a && make b # c\n")
    assert [" ".join(command.split()) for command in commands_of(block)] == [
        *("vovnet list --json 1", "vovnet list --json 2", "cd a", "make b"),
    ]
    assert commands_of(Block(tmp_path, 1, 1, "console", "$ vovnet list\nkind  names\n")) == ["vovnet list"]


def test_every_block_says_its_language():
    for block in all_blocks(PAGES):
        assert block.is_shell or block.language in OTHERS, f"{block}: {block.language}"


def test_the_list_of_commands_in_the_readme_is_complete():
    text = next(block.text for block in blocks_of(Path("README.md")) if block.text.startswith("vovnet predict"))
    listed = [re.split(r"\s{2,}", line)[0].replace("--to F", "--to coco") for line in text.splitlines()]
    for line in listed:
        with suppress(MissingArgumentError):  # the list leaves out options, also required ones
            check_command(line)
    for command in _all_commands(app, "vovnet"):
        assert any(f"{line} ".startswith(f"{command} ") for line in listed), f"the README does not list {command}"


def _all_commands(group, name: str) -> list[str]:
    """The full name of each command, those of groups too."""
    named = {key: group[key] for key in group if not key.startswith("-")}
    if not named:
        return [name]
    return [command for key, part in named.items() for command in _all_commands(part, f"{name} {key}")]


INLINE = sorted({code for page in WRITTEN for code in re.findall(r"`(vovnet(?:-runtime)? [^`]*)`", page.read_text())})


@pytest.mark.parametrize("code", INLINE)
def test_commands_in_sentences_exist(code):
    """A sentence may leave out what a command needs, but names no command and no option that is not there."""
    words = shlex.split(code.replace("…", ""), comments=True)[1:]
    names = {"--help", "--version", "--limit", "--debug"}
    if code.startswith("vovnet-runtime"):
        if not words[0].startswith("-"):
            names |= _options_of_the_runner(words[0])
    elif not words[0].startswith("-"):
        command = app
        while words and words[0] in command:
            command = command[words.pop(0)]
        assert command is not app, f"{code}: no such command"
        names |= {name for part in command.assemble_argument_collection(parse_docstring=False) for name in part.names}
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert option in names, f"{code}: no such option as {option}"


def _options_of_the_runner(command: str) -> set[str]:
    (commands,) = (action.choices for action in runner.make_parser()._actions if isinstance(action.choices, dict))
    return set(commands[command]._option_string_actions)


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_reasons_are_for_commands_that_are_there(pattern):
    assert pattern in map(pattern_not_to_run, COMMANDS), f"no document has {pattern}"
    if test := NOT_RUN[pattern].partition(TESTED)[2]:
        assert (ROOT / test).is_file(), test


@pytest.mark.parametrize("pattern", sorted(ALTERNATIVES | SLOW))
def test_blocks_that_are_treated_differently_are_there(pattern):
    assert any(fnmatchcase(str(block), pattern) for block in TO_RUN)


def test_only_the_failure_that_a_document_allows_is_accepted():
    allowed = "vovnet measure bccd --data DIR --min-ap 0.8"
    none_fits = "there is no model with VOC07 at least 0.8; bccd comes nearest"
    assert ended_well(allowed, 0, "")
    assert ended_well(allowed, 1, none_fits)
    assert not ended_well(allowed, 1, "some other end")
    assert not ended_well(allowed, 2, none_fits)
    assert not ended_well("vovnet predict photo.jpg", 1, none_fits)


def run(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command, those of vovnet in this process. Returns what it printed."""
    words = shlex.split(shortened(command))
    if words[0] == "python":
        return subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, text=True).stdout
    entry = {"vovnet": main, "vovnet-runtime": runner.main}.get(words[0])
    assert entry is not None, f"no test runs {command}: list it in tests/documented.py with a reason"
    for made in (word.removeprefix("output=") for word in words if word.startswith("output=")):
        shutil.rmtree(made, ignore_errors=True)  # the stock has one already
    monkeypatch.setattr(sys, "argv", words)
    if "mypackage." in command:
        monkeypatch.syspath_prepend(".")  # as the page says
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        entry()
    printed = capsys.readouterr()
    status = int(stop.value.code or 0)
    assert ended_well(command, status, printed.out), f"{shlex.join(words)}\n{printed.out}\n{printed.err}"
    return printed.out


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(
            block, id=str(block), marks=[pytest.mark.slow] if any(fnmatchcase(str(block), p) for p in SLOW) else []
        )
        for block in TO_RUN
    ],
)
def test_commands_run(block, workplace, monkeypatch, capsys, tmp_path_factory):
    # An export that is remembered would speak up in other tests.
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path_factory.mktemp("cache")))
    commands = [command for command in commands_of(block) if pattern_not_to_run(command) is None]
    for number, command in enumerate(commands):
        if number == 0 or str(block) in ALTERNATIVES:
            workplace(str(number))
        run(command, monkeypatch, capsys)
